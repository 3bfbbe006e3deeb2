"""Numbers about held-out data, against NumPy, SciPy and closed forms."""

import numpy as np
import pytest
import scipy.stats

from keras_vae import metrics, models


@pytest.fixture(scope="module")
def vae():
    return models.DenseVAE((4, 4, 1), 3, hidden_units=(8,))


@pytest.fixture(scope="module")
def images():
    return (np.random.default_rng(0).random((1200, 4, 4, 1)) > 0.5).astype("float32")


def test_standard_error_is_that_of_scipy():
    values = np.random.default_rng(1).normal(size=50)
    measured = metrics.mean_with_standard_error(values)
    assert measured["mean"] == pytest.approx(values.mean())
    assert measured["standard_error"] == pytest.approx(scipy.stats.sem(values))


def test_a_fair_coin_costs_one_bit_per_dimension():
    log_likelihood = np.full(10, 28 * 28 * np.log(0.5))
    assert metrics.bits_per_dimension(log_likelihood, (28, 28, 1)) == pytest.approx(1.0)


def test_kl_per_latent_is_the_closed_form_of_two_normals(vae, images):
    posterior = vae.encode(images)
    loc, scale = posterior.mean().numpy(), posterior.stddev().numpy()
    expected = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
    np.testing.assert_allclose(metrics.kl_per_latent(vae, images), expected, atol=1e-5)


def test_a_latent_that_ignores_the_image_is_not_active(vae, images):
    kernel, bias = vae.encoder.get_layer("params").weights
    before = kernel.numpy(), bias.numpy()
    changed = 10.0 * before[0]
    changed[:, 1] = 0.0  # the mean of the second latent becomes constant
    kernel.assign(changed)
    assert metrics.active_units(vae, images) == 2
    assert metrics.active_units(vae, images, threshold=1e9) == 0
    kernel.assign(before[0])
