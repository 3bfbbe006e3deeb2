import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.distributions import (
    Bernoulli,
    FixedScaleNormal,
    FullCovarianceNormal,
    PerValueScaleNormal,
)
from keras_vae.networks import dense_decoder, dense_encoder

EVENT_SHAPES = [(5,), (7, 1), (8, 8, 1), (4, 6, 3)]


def gradients(network):
    inputs = np.random.default_rng(0).normal(size=(16, *network.input_shape[1:]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(inputs.astype("float32"))))
    return tape.gradient(loss, network.trainable_weights)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("event_shape", EVENT_SHAPES)
class TestEveryShape:
    def test_encoder_gives_the_posteriors_params(self, event_shape, gated):
        encoder = dense_encoder(event_shape, 3, hidden_units=(8,), gated=gated)
        assert encoder.input_shape == (None, *event_shape)
        assert encoder.output_shape == (None, 6)

    def test_decoder_gives_the_likelihoods_params(self, event_shape, gated):
        decoder = dense_decoder(3, event_shape, hidden_units=(8,), gated=gated)
        assert decoder.input_shape == (None, 3)
        assert decoder.output_shape == (None, *event_shape)

    def test_every_weight_gets_a_finite_gradient(self, event_shape, gated):
        sizes = {"hidden_units": (8, 6), "gated": gated}
        for network in (
            dense_encoder(event_shape, 3, **sizes),
            dense_decoder(3, event_shape, **sizes),
        ):
            for gradient in gradients(network):
                assert np.all(np.isfinite(gradient))
                assert np.any(gradient != 0)


def test_parts_decide_the_width_of_the_last_layer():
    encoder = dense_encoder((8, 8, 1), 3, hidden_units=(), posterior=FullCovarianceNormal())
    decoder = dense_decoder(3, (8, 8, 1), hidden_units=(), likelihood=PerValueScaleNormal())
    assert encoder.output_shape == (None, 9)
    assert decoder.output_shape == (None, 8, 8, 2)


def test_hidden_layers_follow_hidden_units():
    encoder = dense_encoder((5,), 3, hidden_units=(8, 6))
    shapes = [weight.shape for weight in encoder.weights]
    assert shapes == [(5, 8), (8,), (8, 6), (6,), (6, 6), (6,)]
    decoder = dense_decoder(3, (5,), hidden_units=(8, 6))
    shapes = [weight.shape for weight in decoder.weights]
    assert shapes == [(3, 6), (6,), (6, 8), (8,), (8, 5), (5,)]


def test_without_hidden_units_the_encoder_is_affine():
    encoder = dense_encoder((4, 2), 3, hidden_units=())
    kernel, bias = encoder.get_weights()
    x = np.random.default_rng(0).normal(size=(6, 4, 2)).astype("float32")
    np.testing.assert_allclose(encoder(x), x.reshape(6, 8) @ kernel + bias, rtol=1e-4, atol=1e-6)


def test_gated_layer_equals_its_formula():
    encoder = dense_encoder((5,), 3, hidden_units=(4,), gated=True)
    both, both_bias, kernel, bias = encoder.get_weights()
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    value, gate = np.split(x @ both + both_bias, 2, axis=-1)
    expected = (value / (1 + np.exp(-gate))) @ kernel + bias
    np.testing.assert_allclose(encoder(x), expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_ends_in_float32_under_mixed_precision():
    encoder = dense_encoder((5,), 3, hidden_units=(4,), gated=True, dtype="mixed_bfloat16")
    assert _dtypes(encoder) == ["bfloat16", "float32"]
    assert encoder.output.dtype == "float32"


@pytest.mark.parametrize(
    ("likelihood", "last"), [(Bernoulli(), "bfloat16"), (FixedScaleNormal(), "float32")]
)
def test_a_decoder_ends_in_what_its_likelihood_bears(likelihood, last):
    decoder = dense_decoder(
        3, (5,), hidden_units=(4,), likelihood=likelihood, dtype="mixed_bfloat16"
    )
    assert _dtypes(decoder) == ["bfloat16", last]
    assert decoder.output.dtype == "float32"


def _dtypes(network):
    dtypes = [layer.compute_dtype for layer in network.layers if layer.weights]
    return [dtypes[0], dtypes[-1]]


def test_networks_survive_their_config():
    encoder = dense_encoder((5,), 3, hidden_units=(4,), gated=True)
    copy = keras.Model.from_config(encoder.get_config())
    copy.set_weights(encoder.get_weights())
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    np.testing.assert_array_equal(copy(x), encoder(x))


@pytest.mark.parametrize("bad", [(), (8, 0, 1), (8, -1), (8.0,), 8, None, "88"])
def test_a_wrong_event_shape_is_refused(bad):
    for build in (lambda: dense_encoder(bad, 2), lambda: dense_decoder(2, bad)):
        with pytest.raises(ValueError, match=r"`event_shape` should .* Received: event_shape="):
            build()


@pytest.mark.parametrize("bad", [0, -1, 1.5, None, math.nan])
def test_a_wrong_number_of_latents_is_refused(bad):
    for build in (lambda: dense_encoder((5,), bad), lambda: dense_decoder(bad, (5,))):
        with pytest.raises(ValueError, match=r"`latent_dim` should be an integer >= 1. Received: "):
            build()


@pytest.mark.parametrize("bad", [(8, 0), (1.5,), 8, None])
def test_wrong_hidden_units_are_refused(bad):
    for build in (
        lambda: dense_encoder((5,), 2, hidden_units=bad),
        lambda: dense_decoder(2, (5,), hidden_units=bad),
    ):
        with pytest.raises(ValueError, match=r"`hidden_units` should be a sequence .* Received: h"):
            build()
