import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import (
    DiagonalNormal,
    FullCovarianceNormal,
    StandardNormal,
    kl_divergence,
    kl_per_latent,
)

POSTERIORS = [DiagonalNormal, FullCovarianceNormal]
# Posterior -> its bound, the largest that it may be, and which power of the scale is bounded.
BOUNDS = {
    DiagonalNormal: ("max_log_variance", 80.0, 2),
    FullCovarianceNormal: ("max_log_scale", 40.0, 1),
}


def random_params(posterior, latent_dim, batch=5, scale=1.0):
    shape = (batch, posterior.params_size(latent_dim))
    return np.random.default_rng(0).normal(scale=scale, size=shape).astype("float32")


def bounded_exp(raw, bound):
    return np.exp(bound * np.tanh(raw / bound))


def test_diagonal_normal_equals_scipy():
    posterior = DiagonalNormal(max_log_variance=2.0)
    params = random_params(posterior, 3)
    loc, raw = np.split(params, 2, axis=-1)
    z = np.random.default_rng(1).normal(size=(4, 5, 3)).astype("float32")
    variance = bounded_exp(raw, 2.0)
    expected = scipy.stats.norm(loc, np.sqrt(variance)).logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(posterior.distribution(params).log_prob(z), expected, rtol=1e-4)


def test_full_covariance_normal_equals_scipy():
    posterior = FullCovarianceNormal(max_log_scale=2.0)
    params = random_params(posterior, 3)
    q = posterior.distribution(params)
    z = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    expected = [
        scipy.stats.multivariate_normal(loc, covariance).logpdf(z_of_one)
        for loc, covariance, z_of_one in zip(q.mean(), q.covariance(), z, strict=True)
    ]
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-3)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_full_covariance_is_that_of_its_lower_triangle(latent_dim):
    posterior = FullCovarianceNormal(max_log_scale=2.0)
    params = random_params(posterior, latent_dim)
    raw = tfp.math.fill_triangular(params[:, latent_dim:]).numpy()
    diagonal = np.eye(latent_dim) * bounded_exp(np.diagonal(raw, axis1=1, axis2=2), 2.0)[:, None]
    lower = np.tril(raw, -1) + diagonal
    q = posterior.distribution(params)
    np.testing.assert_allclose(q.mean(), params[:, :latent_dim])
    np.testing.assert_allclose(q.covariance(), lower @ lower.transpose(0, 2, 1), rtol=1e-4)


def test_every_parameter_of_the_full_covariance_matters():
    posterior = FullCovarianceNormal()
    params = tf.constant(random_params(posterior, 4, batch=1))
    with tf.GradientTape() as tape:
        tape.watch(params)
        q = posterior.distribution(params)
        weights = tf.range(1.0, 21.0)
        entries = tf.concat([q.mean()[0], tf.reshape(q.covariance()[0], [-1])], axis=0)
        loss = tf.reduce_sum(entries * weights)
    assert np.all(tape.gradient(loss, params) != 0)


@pytest.mark.parametrize("kind", POSTERIORS)
class TestEveryPosterior:
    def test_samples_have_its_moments(self, kind):
        q = kind().distribution(random_params(kind(), 2, batch=1, scale=0.5))
        num_samples = 20_000
        z = q.sample(num_samples, seed=(0, 1)).numpy()[:, 0]
        scale = np.sqrt(np.diag(q.covariance()[0]))
        # Five standard errors of a mean, and of a covariance entry (at most sqrt(2) its scales).
        error = 5 / np.sqrt(num_samples)
        assert np.all(np.abs(z.mean(axis=0) - q.mean()[0]) < error * scale)
        assert np.all(
            np.abs(np.cov(z.T) - q.covariance()[0]) < error * np.sqrt(2) * np.outer(scale, scale)
        )

    def test_gradients_flow_through_samples(self, kind):
        params = tf.constant(random_params(kind(), 2))
        with tf.GradientTape() as tape:
            tape.watch(params)
            z = kind().distribution(params).sample(3, seed=(0, 1))
        gradient = tape.gradient(z, params)
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient != 0)

    @pytest.mark.parametrize("latent_dim", [1, 3])
    def test_params_of_that_size_give_that_many_latents(self, kind, latent_dim):
        posterior = kind()
        q = posterior.distribution(random_params(posterior, latent_dim))
        assert (q.batch_shape, q.event_shape) == ([5], [latent_dim])

    def test_works_in_graphs_with_an_unknown_batch(self, kind):
        params = random_params(kind(), 3)
        traced = tf.function(
            lambda params: kind().distribution(params).covariance(),
            input_signature=[tf.TensorSpec((None, params.shape[1]))],
        )
        np.testing.assert_allclose(
            traced(params), kind().distribution(params).covariance(), rtol=1e-5
        )

    @pytest.mark.parametrize("share", [0.15, 1.0])
    @pytest.mark.parametrize("signs", ["plus", "minus", "mixed"])
    @pytest.mark.parametrize("latent_dim", [1, 4])
    def test_enormous_params_stay_finite(self, kind, share, signs, latent_dim):
        name, largest, _ = BOUNDS[kind]
        posterior = kind(**{name: share * largest})
        shape = (5, posterior.params_size(latent_dim))
        sign = {"plus": 1, "minus": -1, "mixed": np.random.default_rng(0).choice([-1, 1], shape)}
        params = tf.constant(np.full(shape, 1e4) * sign[signs], tf.float32)
        prior = StandardNormal(latent_dim).distribution()
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(params)
            q = posterior.distribution(params)
            z = q.sample(3, seed=(0, 1))
            outputs = (z, q.log_prob(z), kl_divergence(q, prior, z), kl_per_latent(q, prior))
        for output in outputs:
            assert np.all(np.isfinite(output))
            assert np.all(np.isfinite(tape.gradient(output, params)))

    def test_scale_is_close_to_exp_near_zero(self, kind):
        posterior, power = kind(), 1 / BOUNDS[kind][2]
        params = np.zeros((1, posterior.params_size(1)), "float32")
        params[:, -1] = 0.1
        # m tanh(r / m) = r - r^3 / (3 m^2) + ..., so the relative error is some 1e-5 here.
        np.testing.assert_allclose(
            posterior.distribution(params).stddev(), np.exp([[power * 0.1]]), rtol=1e-4
        )

    def test_half_precision_params_give_a_float32_distribution(self, kind):
        params = tf.cast(random_params(kind(), 2), tf.float16)
        assert kind().distribution(params).dtype == tf.float32

    def test_survives_its_config(self, kind):
        bound = BOUNDS[kind][0]
        posterior = kind(**{bound: 3.0}, name="mine")
        config = keras.saving.serialize_keras_object(posterior)
        copy = keras.saving.deserialize_keras_object(config)
        assert type(copy) is kind
        assert copy.get_config() == {bound: 3.0, "name": "mine"}

    @pytest.mark.parametrize("bad", [0.0, -1.0, 81.0, np.inf, np.nan])
    def test_a_bound_that_float32_cannot_hold_is_refused(self, kind, bad):
        name, largest, _ = BOUNDS[kind]
        refused = rf"`{name}` should be in \(0, {largest:g}\].*Received: "
        with pytest.raises(ValueError, match=refused):
            kind(**{name: bad})


def test_params_of_a_size_that_fits_no_number_of_latents_are_refused():
    with pytest.raises(ValueError, match=r"latent_dim \* \(latent_dim \+ 3\) / 2 .*=6\."):
        FullCovarianceNormal().distribution(tf.zeros((2, 6)))
