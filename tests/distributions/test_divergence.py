import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import (
    DiagonalNormal,
    FullCovarianceNormal,
    Prior,
    StandardNormal,
    kl_divergence,
    kl_per_latent,
)

tfd = tfp.distributions

POSTERIORS = [DiagonalNormal(), FullCovarianceNormal()]


class TwoBumps(Prior):
    """A prior whose KL divergence has no closed form."""

    def distribution(self):
        locs = np.array([[-1.5], [1.5]], "float32") * np.ones(self.latent_dim, "float32")
        return tfd.MixtureSameFamily(
            tfd.Categorical(probs=[0.3, 0.7]), tfd.MultivariateNormalDiag(locs)
        )


def posterior_of(posterior, latent_dim=3):
    shape = (4, posterior.params_size(latent_dim))
    return posterior.distribution(np.random.default_rng(0).normal(size=shape).astype("float32"))


def wide_prior():
    return tfd.MultivariateNormalDiag([0.5, -1.0, 0.0], [0.5, 2.0, 1.5])


def samples(q, num_samples=20_000):
    return q.sample(num_samples, seed=(0, 1))


@pytest.mark.parametrize("posterior", POSTERIORS)
class TestEveryPosterior:
    def test_kl_is_zero_when_posterior_equals_prior(self, posterior):
        q = posterior.distribution(np.zeros((4, posterior.params_size(3)), "float32"))
        prior = StandardNormal(3).distribution()
        np.testing.assert_allclose(kl_divergence(q, prior, samples(q, 1)), 0.0, atol=1e-6)
        np.testing.assert_allclose(kl_per_latent(q, prior), 0.0, atol=1e-6)

    @pytest.mark.parametrize("prior", [StandardNormal(3).distribution, wide_prior])
    def test_kl_equals_the_formula_for_normals(self, posterior, prior):
        q, prior = posterior_of(posterior), prior()
        covariance, precision = q.covariance().numpy(), np.linalg.inv(prior.covariance())
        shift = prior.mean() - q.mean()
        expected = 0.5 * (
            np.trace(precision @ covariance, axis1=1, axis2=2)
            + np.einsum("bi,ij,bj->b", shift, precision, shift)
            - 3
            - np.log(np.linalg.det(precision @ covariance))
        )
        np.testing.assert_allclose(kl_divergence(q, prior, samples(q, 1)), expected, rtol=1e-4)

    @pytest.mark.parametrize("prior", [StandardNormal(3).distribution, wide_prior])
    def test_kl_equals_its_monte_carlo_estimate(self, posterior, prior):
        q, prior = posterior_of(posterior), prior()
        z = samples(q)
        terms = (q.log_prob(z) - prior.log_prob(z)).numpy()
        standard_error = terms.std(axis=0) / np.sqrt(len(terms))
        difference = kl_divergence(q, prior, z) - terms.mean(axis=0)
        assert np.all(np.abs(difference) < 5 * standard_error)

    @pytest.mark.parametrize("prior", [StandardNormal(3).distribution, wide_prior])
    def test_kl_per_latent_sums_to_the_whole_and_is_never_negative(self, posterior, prior):
        q, prior = posterior_of(posterior), prior()
        per_latent = kl_per_latent(q, prior)
        assert per_latent.shape == (4, 3)
        assert np.all(per_latent >= 0)
        np.testing.assert_allclose(
            tf.reduce_sum(per_latent, axis=-1), tfd.kl_divergence(q, prior), rtol=1e-4
        )

    def test_kl_without_a_closed_form_is_estimated_from_the_samples(self, posterior):
        q, prior = posterior_of(posterior), TwoBumps(3).distribution()
        z = samples(q, 7)
        expected = np.mean(q.log_prob(z) - prior.log_prob(z), axis=0)
        np.testing.assert_allclose(kl_divergence(q, prior, z), expected, rtol=1e-5)

    def test_kl_per_latent_refuses_a_prior_that_is_not_normal(self, posterior):
        with pytest.raises(ValueError, match=r"free bits.*prior=MixtureSameFamily"):
            kl_per_latent(posterior_of(posterior), TwoBumps(3).distribution())


def test_kl_per_latent_of_independent_latents_is_that_of_each_by_itself():
    q, prior = posterior_of(DiagonalNormal()), wide_prior()
    expected = tfd.kl_divergence(
        tfd.Normal(q.mean(), q.stddev()), tfd.Normal(prior.mean(), prior.stddev())
    )
    np.testing.assert_allclose(kl_per_latent(q, prior), expected, rtol=1e-4, atol=1e-6)


def test_estimate_of_the_kl_to_a_mixture_is_right():
    # In one dimension the integral of q (log q - log p) can be done by a sum over a fine grid.
    q, prior = posterior_of(DiagonalNormal(), latent_dim=1), TwoBumps(1).distribution()
    grid = np.linspace(-30, 30, 60_001, dtype="float32")[:, None, None]
    log_q, log_p = q.log_prob(grid).numpy(), prior.log_prob(grid).numpy()
    expected = np.sum(np.exp(log_q) * (log_q - log_p), axis=0) * 0.001
    z = samples(q)
    standard_error = np.std(q.log_prob(z) - prior.log_prob(z), axis=0) / np.sqrt(len(z))
    assert np.all(np.abs(kl_divergence(q, prior, z) - expected) < 5 * standard_error)


def test_kl_per_latent_refuses_a_posterior_that_is_not_normal():
    with pytest.raises(ValueError, match=r"free bits.*posterior=MixtureSameFamily"):
        kl_per_latent(TwoBumps(3).distribution(), wide_prior())
