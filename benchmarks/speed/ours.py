"""keras_vae, as a user gets it: `compile()` and `fit()`."""

import keras

from benchmarks.speed.contestant import serve
from benchmarks.speed.inputs import gray_images
from keras_vae import ConvVAE, DenseVAE, data


def network(task: dict, dtype: str | None = None):
    """Returns the network of a task, fresh."""
    if task["network"] == "dense":
        return DenseVAE((28, 28, 1), 16, hidden_units=(512, 512), dtype=dtype)
    return ConvVAE((28, 28, 1), 16, filters=(32, 64), hidden_units=256, dtype=dtype)


def _prepare(task):
    keras.utils.set_random_seed(0)
    vae = network(task, dtype=task.get("dtype"))
    vae.compile(**task.get("compile", {}))
    images = gray_images(task["num_images"])
    batches = data.batches(images, task["batch_size"], binarization="dynamic", shuffle=True)

    def epoch():
        vae.fit(batches, verbose=0)

    epoch()
    return epoch


if __name__ == "__main__":
    serve(_prepare)
