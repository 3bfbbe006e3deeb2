"""The way of the keras.io example, in stock Keras: `tf.data`, a `Sampling` layer, Keras' Adam."""

import keras
import tensorflow as tf

from benchmarks.speed.contestants.images import gray_images
from benchmarks.speed.contestants.ours import network
from benchmarks.speed.contestants.process import serve


class Sampling(keras.layers.Layer):
    """Means and log-variances -> a sample."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        loc, log_variance = inputs
        noise = keras.random.normal(keras.ops.shape(loc), seed=self.seed_generator)
        return loc + keras.ops.exp(0.5 * log_variance) * noise


class KerasWay(keras.Model):
    """The model of the example, around the networks of keras_vae."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder, self.sampling = encoder, decoder, Sampling()
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loc, log_variance = keras.ops.split(self.encoder(x), 2, axis=-1)
            logits = self.decoder(self.sampling([loc, log_variance]))
            entropy = keras.ops.binary_crossentropy(x, logits, from_logits=True)
            reconstruction = keras.ops.mean(keras.ops.sum(entropy, axis=(1, 2, 3)))
            kl = keras.ops.square(loc) + keras.ops.exp(log_variance) - log_variance - 1
            loss = reconstruction + 0.5 * keras.ops.mean(keras.ops.sum(kl, axis=1))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def _prepare(task):
    keras.utils.set_random_seed(0)
    parts = network(task, dtype=task.get("dtype"))
    model = KerasWay(parts.encoder, parts.decoder)
    model.compile(optimizer=keras.optimizers.Adam())

    def binarize(image):
        gray = tf.cast(image, tf.float32) / 255
        return tf.cast(tf.random.uniform(tf.shape(gray)) < gray, tf.float32)

    images = tf.data.Dataset.from_tensor_slices(gray_images(task["num_images"]))
    batches = images.shuffle(task["num_images"]).map(binarize, tf.data.AUTOTUNE)
    batches = batches.batch(task["batch_size"]).prefetch(tf.data.AUTOTUNE)

    def epoch():
        model.fit(batches, verbose=0)

    epoch()
    return epoch


if __name__ == "__main__":
    serve(train=_prepare)
