"""What no contestant can beat: the matrix products and convolutions of a step, and nothing else."""

import keras
import tensorflow as tf

from benchmarks.speed.contestants.ours import network
from benchmarks.speed.contestants.process import serve


def _products(layer, batch_size, dtype, needs_input_gradient):
    """Returns the function that computes the products of a layer, forward and backward."""

    def random(shape):
        return tf.cast(tf.random.normal(shape), dtype)

    x = random((batch_size, *layer.input.shape[1:]))
    y = random((batch_size, *layer.output.shape[1:]))
    kernel = random(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        products = [
            lambda: tf.matmul(x, kernel),
            lambda: tf.matmul(x, y, transpose_a=True),
            lambda: tf.matmul(y, kernel, transpose_b=True),
        ]
        return products if needs_input_gradient else products[:2]
    # A transposed convolution is the gradient of a convolution from its output to its input.
    large, small = (x, y) if type(layer) is keras.layers.Conv2D else (y, x)
    strides, sizes = [1, *layer.strides, 1], tf.shape(kernel)
    forward = {"strides": strides, "padding": "SAME"}
    by_kernel = {"input": large, "filter_sizes": sizes, "out_backprop": small}
    by_large = {"input_sizes": tf.shape(large), "filter": kernel, "out_backprop": small}
    products = [
        lambda: tf.raw_ops.Conv2D(input=large, filter=kernel, **forward),
        lambda: tf.raw_ops.Conv2DBackpropFilter(**by_kernel, **forward),
        lambda: tf.raw_ops.Conv2DBackpropInput(**by_large, **forward),
    ]
    return products if needs_input_gradient else products[:2]


def _prepare(task):
    vae = network(task)
    dtype = "bfloat16" if task.get("dtype") == "mixed_bfloat16" else "float32"
    layers = [
        layer
        for part in (vae.encoder, vae.decoder)
        for layer in part.layers
        if hasattr(layer, "kernel")
    ]
    products = [
        product
        for layer in layers
        for product in _products(layer, task["batch_size"], dtype, layer is not layers[0])
    ]

    @tf.function
    def step():
        return [product() for product in products]

    def epoch():
        for _ in range(task["num_images"] // task["batch_size"]):
            step()

    epoch()
    return epoch


if __name__ == "__main__":
    serve(train=_prepare)
