"""The cheap transposed convolution against that of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.networks import conv_decoder
from keras_vae.networks.upsampling import Conv2DTranspose, in_general_operations


def with_gradients(layer, x, weight):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * weight)
    return y, *tape.gradient(loss, [x, *layer.trainable_weights])


def twins(filters, shape, **options):
    """Returns both layers, of equal weights."""
    layers = [
        kind(filters, 3, 2, padding="same", bias_initializer="normal", **options)
        for kind in (Conv2DTranspose, keras.layers.Conv2DTranspose)
    ]
    for layer in layers:
        layer.build((None, *shape))
    layers[1].set_weights(layers[0].get_weights())
    return layers


def operations(layer, shape):
    function = tf.function(layer.call, input_signature=[tf.TensorSpec((None, *shape))])
    return {operation.type for operation in function.get_concrete_function().graph.get_operations()}


@pytest.mark.parametrize("shape", [(4, 6, 5), (3, 4, 3), (3, 7, 2), (1, 1, 1), (2, 1, 9)])
@pytest.mark.parametrize("filters", [1, 2, 3, 7])
@pytest.mark.parametrize("use_bias", [True, False])
def test_results_and_gradients_are_those_of_keras(shape, filters, use_bias):
    ours, stock = twins(filters, shape, use_bias=use_bias, activation="tanh")
    assert "Conv2DBackpropInput" not in operations(ours, shape)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(3, *shape)), tf.float32)
    weight = tf.constant(rng.normal(size=stock(x).shape), tf.float32)
    for got, expected in zip(
        with_gradients(ours, x, weight), with_gradients(stock, x, weight), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


def test_images_of_unknown_size_grow_too():
    ours, stock = twins(1, (None, None, 2))
    unknown = tf.function(ours.call, input_signature=[tf.TensorSpec((None, None, None, 2))])
    assert "Conv2DBackpropInput" not in operations(ours, (None, None, 2))
    for shape in [(2, 4, 6, 2), (3, 5, 1, 2), (0, 4, 4, 2)]:
        x = tf.random.normal(shape)
        np.testing.assert_allclose(unknown(x), stock(x), rtol=0, atol=1e-5)


def test_many_channels_go_the_general_way():
    shape = (4, 4, 5)
    ours, stock = twins(8, shape)
    assert operations(ours, shape) == operations(stock, shape)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 4, "strides": 2, "padding": "same"},
        {"kernel_size": 3, "strides": 1, "padding": "same"},
        {"kernel_size": 3, "strides": 2, "padding": "valid"},
        {"kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
    ],
)
def test_every_other_geometry_goes_the_general_way(options):
    ours = Conv2DTranspose(1, **options)
    stock = keras.layers.Conv2DTranspose(1, **options)
    x = tf.random.normal((2, 5, 4, 3))
    stock.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(stock.get_weights())
    np.testing.assert_array_equal(ours(x), stock(x))


def test_bfloat16_is_as_near_as_it_can_be():
    ours, stock = twins(1, (14, 14, 32), dtype="mixed_bfloat16")
    x = tf.random.normal((8, 14, 14, 32))
    exact = keras.layers.Conv2DTranspose(1, 3, 2, padding="same")
    exact.build(x.shape)
    exact.set_weights(ours.get_weights())
    errors = [np.abs(tf.cast(layer(x), tf.float32) - exact(x)).max() for layer in (ours, stock)]
    assert errors[0] < 2 * errors[1]


def test_a_network_computes_in_general_operations_within_the_block_only():
    decoder = conv_decoder(2, (8, 8, 1), filters=(4, 6), hidden_units=8)
    shape = (2,)
    before = operations(decoder, shape)
    assert "GatherV2" in before
    with in_general_operations(decoder):
        assert "GatherV2" not in operations(decoder, shape)
    assert operations(decoder, shape) == before


def test_weights_lie_where_those_of_keras_did():
    paths = [weight.path for weight in conv_decoder(2, (8, 8, 1), hidden_units=8).weights]
    assert any("conv2d_transpose" in path for path in paths)


def test_a_network_with_it_reloads(tmp_path):
    decoder = conv_decoder(2, (8, 8, 1), filters=(4, 6), hidden_units=8)
    decoder.save(tmp_path / "decoder.keras")
    loaded = keras.models.load_model(tmp_path / "decoder.keras")
    z = tf.random.normal((3, 2))
    np.testing.assert_array_equal(loaded(z), decoder(z))
