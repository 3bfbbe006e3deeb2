import numpy as np
import pytest
import tensorflow as tf

from keras_vae.distributions import (
    Bernoulli,
    FixedScaleNormal,
    FullCovarianceNormal,
    PerValueScaleNormal,
)
from keras_vae.networks import conv_decoder, conv_encoder

TINY = {"filters": (4, 6), "hidden_units": 8}
EVENT_SHAPES = [(28, 28, 1), (32, 48, 3), (33, 17, 1), (1, 1, 1), (50, 2), (7, 1)]


def gradients(network):
    inputs = np.random.default_rng(0).normal(size=(16, *network.input_shape[1:]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(inputs.astype("float32"))))
    return tape.gradient(loss, network.trainable_weights)


@pytest.mark.parametrize("event_shape", EVENT_SHAPES)
class TestEveryShape:
    def test_encoder_gives_the_posteriors_params(self, event_shape):
        encoder = conv_encoder(event_shape, 3, **TINY)
        assert encoder.input_shape == (None, *event_shape)
        assert encoder.output_shape == (None, 6)
        assert encoder(tf.zeros((2, *event_shape))).shape == (2, 6)

    def test_decoder_gives_the_likelihoods_params(self, event_shape):
        decoder = conv_decoder(3, event_shape, **TINY)
        assert decoder.input_shape == (None, 3)
        assert decoder.output_shape == (None, *event_shape)
        assert decoder(tf.zeros((2, 3))).shape == (2, *event_shape)

    def test_every_weight_gets_a_finite_gradient(self, event_shape):
        for network in (conv_encoder(event_shape, 3, **TINY), conv_decoder(3, event_shape, **TINY)):
            for gradient in gradients(network):
                assert np.all(np.isfinite(gradient))
                assert np.any(gradient != 0)


def test_parts_decide_the_width_of_the_last_layer():
    encoder = conv_encoder((8, 8, 3), 3, **TINY, posterior=FullCovarianceNormal())
    decoder = conv_decoder(3, (8, 8, 3), **TINY, likelihood=PerValueScaleNormal())
    assert encoder.output_shape == (None, 9)
    assert decoder.output_shape == (None, 8, 8, 6)


@pytest.mark.parametrize("filters", [(4,), (4, 5, 6, 7)])
def test_there_is_a_level_for_each_of_the_filters(filters):
    encoder = conv_encoder((33, 17, 1), 3, filters=filters, hidden_units=8)
    decoder = conv_decoder(3, (33, 17, 1), filters=filters, hidden_units=8)
    kernels = [weight.shape for weight in encoder.weights if len(weight.shape) == 4]
    assert [shape[-1] for shape in kernels] == list(filters)
    assert decoder.output_shape == (None, 33, 17, 1)


def test_every_value_of_an_odd_sized_image_reaches_the_latents():
    encoder = conv_encoder((5, 3, 1), 2, filters=(4, 4), hidden_units=16)
    x = tf.constant(np.random.default_rng(0).normal(size=(32, 5, 3, 1)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        params = encoder(x)
    assert np.all(np.any(tape.gradient(params, x) != 0, axis=0))


def test_every_value_of_an_odd_sized_image_depends_on_the_latents():
    # Small enough for the Jacobian: no pixel at the border may be left to a bias alone.
    decoder = conv_decoder(2, (5, 3, 1), filters=(4, 4), hidden_units=16)
    z = tf.constant(np.random.default_rng(0).normal(size=(32, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(z)
        params = decoder(z)
    jacobian = tape.batch_jacobian(params, z)
    assert np.all(np.any(jacobian != 0, axis=(0, -1)))


def test_an_encoder_ends_in_float32_under_mixed_precision():
    encoder = conv_encoder((9, 9, 1), 3, **TINY, dtype="mixed_bfloat16")
    assert _dtypes(encoder) == ["bfloat16", "float32"]
    assert encoder.output.dtype == "float32"


@pytest.mark.parametrize(
    ("likelihood", "last"), [(Bernoulli(), "bfloat16"), (FixedScaleNormal(), "float32")]
)
def test_a_decoder_ends_in_what_its_likelihood_bears(likelihood, last):
    decoder = conv_decoder(3, (9, 9, 1), **TINY, likelihood=likelihood, dtype="mixed_bfloat16")
    assert _dtypes(decoder) == ["bfloat16", last]
    assert decoder.output.dtype == "float32"


def _dtypes(network):
    dtypes = [layer.compute_dtype for layer in network.layers if layer.weights]
    return [dtypes[0], dtypes[-1]]


@pytest.mark.parametrize("bad", [(5,), (8, 8, 8, 1)])
def test_an_event_shape_without_a_convolution_is_refused(bad):
    for build in (lambda: conv_encoder(bad, 2), lambda: conv_decoder(2, bad)):
        with pytest.raises(ValueError, match=r"use a dense one for vectors. Received: event_shape"):
            build()


@pytest.mark.parametrize("bad", [(), (8, 0, 1), 8])
def test_a_wrong_event_shape_is_refused(bad):
    for build in (lambda: conv_encoder(bad, 2), lambda: conv_decoder(2, bad)):
        with pytest.raises(ValueError, match=r"`event_shape` should .* Received: event_shape="):
            build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 0}, "`latent_dim` should be an integer >= 1. Received: latent_dim=0."),
        ({"hidden_units": 0}, "`hidden_units` should be an integer >= 1. Received: hidden_units=0"),
        ({"hidden_units": (8,)}, "`hidden_units` should be an integer >= 1. Received: hidden"),
        ({"filters": ()}, "`filters` should not be empty. Received: filters="),
        ({"filters": (4, 0)}, "`filters` should be a sequence of integers >= 1. Received: filt"),
        ({"filters": 4}, "`filters` should be a sequence of integers >= 1. Received: filters=4"),
    ],
)
def test_a_wrong_size_is_refused(changes, message):
    arguments = {"event_shape": (8, 8, 1), "latent_dim": 2} | changes
    for build in (conv_encoder, conv_decoder):
        with pytest.raises(ValueError, match=message):
            build(**arguments)
