"""The distributions a VAE is made of: priors, posteriors and likelihoods."""

from keras_vae.distributions.divergence import kl_divergence, kl_per_latent
from keras_vae.distributions.likelihood import (
    Bernoulli,
    ContinuousBernoulli,
    FixedScaleNormal,
    Likelihood,
    PerValueScaleNormal,
    SharedScaleNormal,
)
from keras_vae.distributions.posterior import DiagonalNormal, FullCovarianceNormal, Posterior
from keras_vae.distributions.prior import Prior, StandardNormal

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiagonalNormal",
    "FixedScaleNormal",
    "FullCovarianceNormal",
    "Likelihood",
    "PerValueScaleNormal",
    "Posterior",
    "Prior",
    "SharedScaleNormal",
    "StandardNormal",
    "kl_divergence",
    "kl_per_latent",
]
