import json
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import (
    DiagonalNormal,
    FixedScaleNormal,
    StandardNormal,
    kl_per_latent,
)
from keras_vae.objectives import ELBO, IWAE, Inference, Losses, log_weights
from keras_vae.schedules import Cyclical, Linear

STEP = tf.constant(0, tf.int64)


@pytest.fixture
def inference():
    """Five examples of shape (4,), three latents, six samples; the decoder is a fixed matrix."""
    rng = np.random.default_rng(0)
    params, x = rng.normal(size=(5, 6)).astype("float32"), rng.normal(size=(5, 4)).astype("float32")
    posterior = DiagonalNormal().distribution(params)
    z = posterior.sample(6, seed=(0, 1))
    likelihood = FixedScaleNormal(0.5)
    likelihood.build((4,))
    decoded = likelihood.distribution(tf.tensordot(z, rng.normal(size=(3, 4)).astype("float32"), 1))
    return Inference(x, z, posterior, StandardNormal(3).distribution(), decoded)


def assert_losses_equal(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_reconstruction_is_the_mean_log_prob_over_samples(inference):
    scipy_log_prob = scipy.stats.norm(inference.likelihood.mean(), 0.5).logpdf(inference.x)
    expected = -scipy_log_prob.sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(ELBO()(inference, STEP).reconstruction, expected, rtol=1e-5)


def test_kl_is_the_closed_form(inference):
    loc, scale = inference.posterior.mean().numpy(), inference.posterior.stddev().numpy()
    expected = np.sum(0.5 * (loc**2 + scale**2 - 1) - np.log(scale), axis=-1)
    np.testing.assert_allclose(ELBO()(inference, STEP).kl, expected, rtol=1e-5)


def test_plain_loss_is_the_negative_elbo(inference):
    losses = ELBO()(inference, STEP)
    np.testing.assert_allclose(losses.loss, -losses.elbo, rtol=1e-6)
    np.testing.assert_allclose(losses.elbo, -(losses.reconstruction + losses.kl), rtol=1e-6)


def test_losses_are_per_example(inference):
    assert [values.shape for values in ELBO()(inference, STEP)] == [(5,), (5,), (5,)]


def test_beta_weighs_the_kl_in_the_loss_and_nowhere_else(inference):
    plain, weighted = ELBO()(inference, STEP), ELBO(beta=3.0)(inference, STEP)
    np.testing.assert_allclose(weighted.loss, plain.reconstruction + 3 * plain.kl, rtol=1e-6)
    np.testing.assert_array_equal(weighted.elbo, plain.elbo)


def test_beta_of_zero_leaves_the_reconstruction(inference):
    losses = ELBO(beta=0.0)(inference, STEP)
    np.testing.assert_array_equal(losses.loss, losses.reconstruction)


def test_no_free_bits_equals_the_plain_elbo(inference):
    assert_losses_equal(ELBO(free_bits=0.0)(inference, STEP), ELBO()(inference, STEP))


def test_free_bits_that_no_latent_falls_below_change_nothing(inference):
    lowest = float(tf.reduce_min(kl_per_latent(inference.posterior, inference.prior)))
    assert_losses_equal(ELBO(free_bits=0.99 * lowest)(inference, STEP), ELBO()(inference, STEP))


def test_free_bits_are_a_floor_under_each_example_and_latent(inference):
    plain, floored = ELBO(beta=2.0)(inference, STEP), ELBO(2.0, free_bits=0.7)(inference, STEP)
    per_latent = kl_per_latent(inference.posterior, inference.prior).numpy()
    assert np.any(per_latent < 0.7)
    assert np.any(per_latent > 0.7)
    expected = plain.reconstruction + 2 * np.maximum(per_latent, 0.7).sum(axis=-1)
    np.testing.assert_allclose(floored.loss, expected, rtol=1e-6)
    np.testing.assert_array_equal(floored.elbo, plain.elbo)


def test_free_bits_stop_the_gradient_of_a_latent_below_the_floor(inference):
    params = tf.constant([[0.1, 2.0, 0.0, 0.0]])  # the first latent carries 0.005 nats
    prior = StandardNormal(2).distribution()
    with tf.GradientTape() as tape:
        tape.watch(params)
        posterior = DiagonalNormal().distribution(params)
        likelihood = FixedScaleNormal()
        likelihood.build((2,))
        z = tf.stop_gradient(posterior.sample(1, seed=(0, 1)))
        decoded = likelihood.distribution(z)
        given = Inference(tf.zeros((1, 2)), z, posterior, prior, decoded)
        loss = ELBO(free_bits=0.25)(given, STEP).loss
    gradient = tape.gradient(loss, params).numpy()[0]
    assert gradient[0] == 0.0
    assert gradient[1] == pytest.approx(2.0)


def test_weight_follows_the_step(inference):
    objective = ELBO(beta=Linear(0.0, 2.0, num_steps=10))
    for step, weight in [(0, 0.0), (5, 1.0), (10, 2.0), (100, 2.0)]:
        losses = objective(inference, tf.constant(step, tf.int64))
        expected = losses.reconstruction + weight * losses.kl
        np.testing.assert_allclose(losses.loss, expected, rtol=1e-6)


def test_log_weights_are_log_joint_minus_log_posterior(inference):
    x, z, posterior, _, likelihood = inference
    log_likelihood = scipy.stats.norm(likelihood.mean(), 0.5).logpdf(x).sum(axis=-1)
    log_prior = scipy.stats.norm().logpdf(z).sum(axis=-1)
    log_posterior = scipy.stats.norm(posterior.mean(), posterior.stddev()).logpdf(z).sum(axis=-1)
    weights = log_weights(inference)
    assert weights.shape == (6, 5)
    np.testing.assert_allclose(weights, log_likelihood + log_prior - log_posterior, rtol=1e-4)


def test_elbo_of_losses_has_the_sign_of_a_lower_bound():
    losses = Losses(tf.constant([9.0]), tf.constant([2.0]), tf.constant([1.0]))
    assert float(losses.elbo[0]) == -3.0


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(2, free_bits=0.5, num_samples=3),
        ELBO(Cyclical(0.5, 2.0, cycle_steps=10, ramp_fraction=0.25), free_bits=0.1),
    ],
)
def test_objective_survives_its_config(objective, inference):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(objective)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == objective.get_config()
    assert_losses_equal(copy(inference, STEP), objective(inference, STEP))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, r"`beta` should be a finite number >= 0. Received: beta=-1.0."),
        ({"beta": math.nan}, r"`beta` should be a finite number >= 0. Received: beta=nan."),
        ({"beta": "4"}, r"`beta` should be a finite number >= 0. Received: beta='4'."),
        ({"free_bits": -0.1}, r"`free_bits` should be .* >= 0. Received: free_bits=-0.1."),
        ({"free_bits": math.inf}, r"`free_bits` should be .* >= 0. Received: free_bits=inf."),
        ({"num_samples": 0}, r"`num_samples` should be an integer >= 1. Received: num_samples=0."),
        ({"num_samples": 1.5}, r"`num_samples` should be an integer >= 1. Received: num_samples="),
    ],
)
def test_an_argument_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ELBO(**changes)


def test_iwae_is_the_log_mean_of_the_importance_weights(inference):
    x, z = inference.x, inference.z.numpy()
    loc, scale = inference.posterior.mean().numpy(), inference.posterior.stddev().numpy()
    log_prob = scipy.stats.norm(inference.likelihood.mean(), 0.5).logpdf(x).sum(axis=-1)
    prior = scipy.stats.norm().logpdf(z).sum(axis=-1)
    posterior = scipy.stats.norm(loc, scale).logpdf(z).sum(axis=-1)
    expected = -scipy.special.logsumexp(log_prob + prior - posterior, axis=0, b=1 / 6)
    np.testing.assert_allclose(IWAE(6)(inference, STEP).loss, expected, rtol=1e-5)


def test_iwae_reports_the_terms_of_the_elbo_and_is_at_least_as_tight(inference):
    iwae, elbo = IWAE(6)(inference, STEP), ELBO(num_samples=6)(inference, STEP)
    assert_losses_equal((iwae.reconstruction, iwae.kl), (elbo.reconstruction, elbo.kl))
    sampled_elbo = tf.reduce_mean(log_weights(inference), axis=0)
    assert np.all(iwae.loss <= -sampled_elbo)


def test_iwae_is_the_evidence_if_the_posterior_is_exact():
    # p(z) = N(0, 1) and p(x given z) = N(z, s^2) give p(x) = N(0, 1 + s^2) and a normal posterior,
    # for which every sample has the same weight, p(x).
    s, x = 0.5, np.float32([[0.3], [-2.0]])
    loc, scale = x / (1 + s**2), np.full((2, 1), s / np.sqrt(1 + s**2), np.float32)
    posterior = tfp.distributions.MultivariateNormalDiag(loc, scale)
    z = posterior.sample(3, seed=(0, 1))
    likelihood = FixedScaleNormal(s)
    likelihood.build((1,))
    inference = Inference(
        x, z, posterior, StandardNormal(1).distribution(), likelihood.distribution(z)
    )
    expected = -scipy.stats.norm(0, np.sqrt(1 + s**2)).logpdf(x[:, 0])
    np.testing.assert_allclose(IWAE(3)(inference, STEP).loss, expected, rtol=1e-5)


def test_iwae_trains_and_survives_saving(make_vae, images, tmp_path):
    vae = make_vae(objective=IWAE(3))
    vae.compile(keras.optimizers.Adam(0.01))
    losses = vae.fit(images, epochs=5, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    vae.save(tmp_path / "iwae.keras")
    loaded = keras.saving.load_model(tmp_path / "iwae.keras")
    assert loaded.objective.get_config() == {"num_samples": 3}


@pytest.mark.parametrize("num_samples", [0, 2.0, "5"])
def test_iwae_needs_a_whole_number_of_samples(num_samples):
    with pytest.raises(ValueError, match="integer >= 1"):
        IWAE(num_samples)
