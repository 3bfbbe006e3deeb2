"""Models loaded with other arguments, and parts of them frozen, for fine-tuning."""

import logging

import keras
import numpy as np
import pytest

import keras_vae.zoo
from keras_vae import models
from keras_vae.distributions import FixedScaleNormal, SharedScaleNormal
from keras_vae.zoo import store


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    vae = models.ConvVAE((8, 8, 1), 3, filters=(4, 6), hidden_units=10)
    vae.step.assign(7)
    return vae


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return keras_vae.zoo.save(model, tmp_path_factory.mktemp("zoo") / "tiny")


def layers(network):
    return [layer for layer in network.layers if layer.weights]


def same(first, second):
    return [
        all(np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))
        for one, other in zip(layers(first), layers(second), strict=True)
    ]


def test_another_latent_dim_keeps_all_layers_but_those_beside_the_latents(model, folder, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = keras_vae.zoo.load(folder, latent_dim=5)
    assert loaded.latent_dim == 5
    assert same(loaded.encoder, model.encoder) == [True, True, True, False]
    assert same(loaded.decoder, model.decoder)[0] is False
    assert all(same(loaded.decoder, model.decoder)[1:])
    fresh = [loaded.encoder.layers[-1].name, layers(loaded.decoder)[0].name]
    message = f"tiny with latent_dim=5: fresh weights in encoder/{fresh[0]}, decoder/{fresh[1]};"
    assert message in caplog.text
    assert int(loaded.step) == 0


def test_another_event_shape_keeps_the_convolutions(model, folder):
    loaded = keras_vae.zoo.load(folder, event_shape=(12, 12, 1))
    assert loaded.sample(2).shape == (2, 12, 12, 1)
    assert same(loaded.encoder, model.encoder) == [True, True, False, True]
    # Of the decoder, the layer in the middle depends on the size.
    assert same(loaded.decoder, model.decoder) == [True, False, True, True]


def test_another_level_keeps_the_layers_around_it(model, folder):
    loaded = keras_vae.zoo.load(folder, filters=(4, 6, 8))
    ours, theirs = layers(loaded.encoder), layers(model.encoder)
    for mine, its in ((ours[0], theirs[0]), (ours[1], theirs[1]), (ours[-1], theirs[-1])):
        np.testing.assert_array_equal(mine.kernel, its.kernel)


def test_another_likelihood_keeps_what_has_the_same_shape(model, folder, caplog):
    loaded = keras_vae.zoo.load(folder, likelihood=FixedScaleNormal(0.3))
    assert all(same(loaded.decoder, model.decoder))
    assert caplog.text == ""
    assert int(loaded.step) == 7
    keras_vae.zoo.load(folder, likelihood=SharedScaleNormal())
    assert "fresh weights in likelihood;" in caplog.text


def test_an_unknown_override_is_answered_with_the_arguments(folder):
    with pytest.raises(ValueError, match=r"ConvVAE, whose arguments are event_shape, .*'latent'"):
        keras_vae.zoo.load(folder, latent=5)


def test_an_override_out_of_range_is_refused(folder):
    with pytest.raises(ValueError, match="latent_dim"):
        keras_vae.zoo.load(folder, latent_dim=0)


def test_without_weights_nothing_is_copied(model, folder, caplog):
    loaded = keras_vae.zoo.load(folder, weights=False, latent_dim=5)
    assert not any(same(loaded.decoder, model.decoder)[1:])
    assert caplog.text == ""


def test_a_model_adopts_all_of_its_twin(model):
    twin = models.ConvVAE((8, 8, 1), 3, filters=(4, 6), hidden_units=10)
    assert store.adopt_weights(twin, model) == []
    for ours, theirs in zip(twin.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("frozen", [("encoder",), ("decoder",), ("encoder", "decoder"), ()])
@pytest.mark.parametrize("trained_before", [False, True])
def test_a_frozen_network_stays_and_the_other_one_learns(folder, frozen, trained_before):
    loaded = keras_vae.zoo.load(folder)
    x = np.random.default_rng(0).random((16, 8, 8, 1)).astype("float32").round()
    if trained_before:
        loaded.freeze("decoder")
        loaded.fit(x, verbose=0)
    loaded.freeze(*frozen)
    before = {name: getattr(loaded, name).get_weights() for name in ("encoder", "decoder")}
    loaded.fit(x, verbose=0)
    for name, weights in before.items():
        now = getattr(loaded, name).get_weights()
        equal = [np.array_equal(a, b) for a, b in zip(weights, now, strict=True)]
        assert all(equal) if name in frozen else not any(equal)


def test_freezing_keeps_the_optimizers_settings(folder):
    loaded = keras_vae.zoo.load(folder)
    loaded.compile(keras.optimizers.Adam(0.0123), steps_per_execution=3)
    loaded.freeze("encoder")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.0123)
    assert loaded.steps_per_execution == 3


def test_freezing_what_is_no_network_is_refused(model):
    with pytest.raises(ValueError, match="'encoder', 'decoder' or both. Received: 'prior'"):
        model.freeze("prior")
