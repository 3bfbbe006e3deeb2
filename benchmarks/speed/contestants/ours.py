"""keras_vae, as a user gets it: `compile()` and `fit()`, `log_likelihood()`, the exports."""

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.speed.contestants.images import binary_images, gray_images, latents, splits
from benchmarks.speed.contestants.process import learner, peak_bytes, serve, timed
from keras_vae import ConvVAE, DenseVAE, data
from keras_vae.export import runtimes, to_litert, to_onnx, to_saved_model


def network(task: dict, dtype: str | None = None):
    """Returns the network of a task, fresh, from a fixed seed.

    The task may change the image's `size`, `latent_dim`, and the `widths` of the dense one.
    """
    keras.utils.set_random_seed(0)
    shape, latent_dim = (task.get("size", 28),) * 2 + (1,), task.get("latent_dim", 16)
    if task["network"] == "dense":
        widths = task.get("widths", (512, 512))
        return DenseVAE(shape, latent_dim, hidden_units=widths, dtype=dtype)
    return ConvVAE(shape, latent_dim, filters=(32, 64), hidden_units=256, dtype=dtype)


def _train(task):
    vae = network(task, task.get("dtype"))
    vae.compile(**task.get("compile", {}))
    images = gray_images(task["num_images"], task.get("size", 28))
    batches = data.batches(images, task["batch_size"], binarization="dynamic", shuffle=True)

    def epoch():
        vae.fit(batches, verbose=0)
        return {"peak_bytes": peak_bytes()}

    epoch()
    return epoch


def _stream(task):
    """Trains on images that are read from files, and never all in memory."""
    vae = network(task, task.get("dtype"))
    vae.compile()
    size, in_a_file = task["size"], 10_000

    def read(record):
        return tf.reshape(tf.io.decode_raw(record, tf.uint8), (size, size, 1))

    folder = tempfile.TemporaryDirectory()
    path = f"{folder.name}/images.tfrecord"
    with tf.io.TFRecordWriter(path) as writer:
        for image in gray_images(in_a_file, size):
            writer.write(image.tobytes())

    def epoch(num_images):
        images = tf.data.TFRecordDataset([path] * (num_images // in_a_file)).map(read)
        options = {"binarization": "dynamic", "shuffle": True}
        vae.fit(data.batches(images, task["batch_size"], **options), verbose=0)

    def work():
        epoch(task["num_images"])
        folder.cleanup()
        return {"peak_bytes": peak_bytes()}

    epoch(in_a_file)
    return work


def _learn(task):
    train, test = splits(task)
    vae = network(task)
    vae.compile()
    batches = data.batches(train, task["batch_size"], binarization="dynamic", shuffle=True)

    return learner(
        lambda: vae.fit(batches, verbose=0), lambda: float(np.mean(vae.elbo(test, seed=0)))
    )


def _score(task):
    vae = network(task, task.get("dtype"))
    images = binary_images(task["num_images"])

    def work():
        estimates = vae.log_likelihood(images, task["num_samples"], seed=0)
        return {"nll": -float(np.mean(estimates))}

    work()
    return work


def _decode(task):
    vae = network(task)
    vae.step.assign(1)  # what is untrained is not exported
    with tempfile.TemporaryDirectory() as folder:
        call = _served(vae, task["runtime"], Path(folder))

        def work():
            milliseconds = {
                size: timed(functools.partial(call, latents(size))) for size in task["batch_sizes"]
            }
            return {"milliseconds": milliseconds}

        for size in task["batch_sizes"]:
            call(latents(size))
    return work


def _served(vae, kind, folder):
    if kind == "Keras predict":
        return lambda z: vae.decoder.predict(z, batch_size=len(z), verbose=0)
    if kind == "SavedModel":
        path = to_saved_model(vae, folder / "served")
        runtime, function = runtimes.SavedModelRuntime(path), "decode"
    elif kind == "ONNX":
        path = to_onnx(vae, folder / "decoder.onnx", part="decoder")
        runtime = runtimes.OnnxRuntime(path)
        (function,) = runtime.signatures
    else:
        path = to_litert(vae, folder / "decoder.tflite", part="decoder")
        runtime, function = runtimes.LiteRTRuntime(path), "decode"
    ((name,), _) = runtime.signatures[function]
    return lambda z: runtime.run(function, {name: z})


if __name__ == "__main__":
    serve(train=_train, stream=_stream, learn=_learn, score=_score, decode=_decode)
