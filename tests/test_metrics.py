"""Numbers about held-out data, against NumPy, SciPy and closed forms."""

import keras
import numpy as np
import pytest
import scipy.stats

from keras_vae import VAE, metrics, models
from keras_vae.distributions import DiagonalNormal, FixedScaleNormal, FullCovarianceNormal


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


def test_posterior_means_in_pieces_are_those_of_the_whole(vae, images):
    # 1,200 images take three pieces, and sums of other sizes may differ in the last bit.
    expected = vae.encode(images).mean()
    np.testing.assert_allclose(metrics.posterior_means(vae, images), expected, atol=1e-6)


def test_a_latent_that_ignores_the_image_is_not_active(vae, images):
    kernel, bias = vae.encoder.get_layer("params").weights
    before = kernel.numpy(), bias.numpy()
    changed = 10.0 * before[0]
    changed[:, 1] = 0.0  # the mean of the second latent becomes constant
    kernel.assign(changed)
    assert metrics.active_units(vae, images) == 2
    assert metrics.active_units(vae, images, threshold=1e9) == 0
    kernel.assign(before[0])


def linear_vae(slope, scale, noise=0.5):
    """A VAE of single numbers: q(z given x) = N(slope x, scale^2), p(x given z) = N(z, noise^2)."""
    x = keras.Input((1,))
    loc = keras.layers.Rescaling(slope)(x)
    raw = 80.0 * np.arctanh(2.0 * np.log(scale) / 80.0)
    log_variance = keras.layers.Rescaling(0.0, offset=raw)(x)
    encoder = keras.Model(x, keras.layers.Concatenate()([loc, log_variance]))
    z = keras.Input((1,))
    decoder = keras.Model(z, keras.layers.Rescaling(1.0)(z))
    posterior = DiagonalNormal(max_log_variance=80.0)
    return VAE(encoder, decoder, posterior=posterior, likelihood=FixedScaleNormal(noise))


NUMBERS = np.random.default_rng(2).normal(size=(3000, 1)).astype("float32")


@pytest.mark.parametrize(("slope", "active"), [(0.07, 0), (0.15, 1)])
def test_a_unit_is_active_by_its_variance_and_not_by_its_deviation(slope, active):
    # Of N(0, 1) data, the means' variance is slope^2: 0.0049 and 0.0225, beside 0.01.
    assert metrics.active_units(linear_vae(slope, 0.5), NUMBERS) == active
    assert metrics.latent_summary(linear_vae(slope, 0.5), NUMBERS[:500]).active_units == active


def test_information_is_that_of_a_gaussian_channel():
    # Of N(0, 1) data, z = a x + s e tells log(1 + a^2 / s^2) / 2, and q(z) is N(0, a^2 + s^2).
    a, s = 0.8, 0.4
    measured = metrics.information(linear_vae(a, s), NUMBERS)
    variance = a**2 + s**2
    # One sample for each of 3,000 numbers: a standard error of 0.015.
    assert measured["mutual_information"] == pytest.approx(np.log(variance / s**2) / 2, abs=0.06)
    marginal_kl = (variance - 1 - np.log(variance)) / 2
    assert measured["marginal_kl"] == pytest.approx(marginal_kl, abs=0.06)
    parts = measured["mutual_information"] + measured["marginal_kl"]
    assert measured["kl"] == pytest.approx(parts, rel=1e-6)


def test_a_code_that_ignores_the_data_has_no_information():
    measured = metrics.information(linear_vae(0.0, 1.0), NUMBERS[:200])
    assert measured == pytest.approx(dict.fromkeys(measured, 0.0), abs=1e-5)


def test_information_of_codes_far_apart_is_the_log_of_their_number():
    apart = 100.0 * np.arange(64, dtype=np.float32)[:, np.newaxis]
    measured = metrics.information(linear_vae(1.0, 0.1), apart)
    assert measured["mutual_information"] == pytest.approx(np.log(64), rel=1e-4)  # z is 6,300


@pytest.mark.parametrize("posterior", [DiagonalNormal(), FullCovarianceNormal()])
def test_information_in_bulk_is_that_of_the_mixture_summed_one_by_one(images, posterior):
    vae = models.DenseVAE((4, 4, 1), 3, hidden_units=(8,), posterior=posterior)
    x, num = images[:60], 60
    codes = vae.encode(x)
    z = codes.sample(seed=(0, 0))
    own, mixture = codes.log_prob(z).numpy(), np.zeros(num)
    loc, covariance = codes.mean().numpy(), codes.covariance().numpy()
    for k in range(num):
        normal = scipy.stats.multivariate_normal(loc[k], covariance[k])
        mixture += normal.pdf(z) / num
    measured = metrics.information(vae, x)
    assert measured["mutual_information"] == pytest.approx(np.mean(own - np.log(mixture)), abs=1e-5)


def test_a_summary_holds_what_the_single_numbers_say(vae, images):
    summary = metrics.latent_summary(vae, images)
    np.testing.assert_array_equal(summary.kl_per_latent, metrics.kl_per_latent(vae, images))
    assert summary.active_units == metrics.active_units(vae, images)
    assert summary.information == metrics.information(vae, images)


def test_every_sample_counts_if_the_posterior_is_exact():
    noise = 0.5
    exact = linear_vae(1 / (1 + noise**2), noise / np.sqrt(1 + noise**2), noise)
    sizes = metrics.effective_sample_size(exact, NUMBERS[:70], num_samples=120)
    np.testing.assert_allclose(sizes, 120.0, rtol=1e-3)


def test_effective_sample_size_is_the_closed_form_for_samples_of_the_prior():
    # With q = p(z), w = N(x; z, s^2): E[w] = N(x; 0, 1 + s^2) and
    # E[w^2] = N(0; 0, 2 s^2) N(x; 0, 1 + s^2 / 2).
    s, x = 0.5, np.float32([[0.0], [1.0], [2.0]])
    once = scipy.stats.norm(0, np.sqrt(1 + s**2)).pdf(x[:, 0])
    twice = scipy.stats.norm(0, np.sqrt(2) * s).pdf(0) * scipy.stats.norm(
        0, np.sqrt(1 + s**2 / 2)
    ).pdf(x[:, 0])
    sizes = metrics.effective_sample_size(linear_vae(0.0, 1.0, s), x, num_samples=20_000)
    np.testing.assert_allclose(sizes / 20_000, once**2 / twice, rtol=0.05)


@pytest.mark.parametrize(
    "measure",
    [
        lambda vae, seed: metrics.information(vae, NUMBERS[:200], seed=seed),
        lambda vae, seed: metrics.latent_summary(vae, NUMBERS[:200], seed=seed).information,
        lambda vae, seed: list(metrics.effective_sample_size(vae, NUMBERS[:9], 20, seed=seed)),
    ],
    ids=["information", "latent_summary", "effective_sample_size"],
)
def test_the_same_seed_draws_the_same_and_another_draws_anew(measure):
    vae = linear_vae(0.8, 0.4)
    first, again, other = (measure(vae, seed) for seed in (3, 3, 4))
    assert first == again != other


@pytest.fixture(scope="module")
def first_draw():
    return np.random.random()


@pytest.fixture(scope="module")
def second_draw(first_draw):
    return np.random.random()


def test_fixtures_of_a_module_do_not_depend_on_what_was_drawn_before(first_draw, second_draw):
    assert first_draw == second_draw
