"""Checks that the parts of a VAE fit each other."""

from keras_vae.distributions import Likelihood, Posterior, Prior
from keras_vae.networks.checks import check_part
from keras_vae.objectives import Objective


def check_parts(vae) -> None:
    """Raises `ValueError` unless the networks of a `VAE` fit each other and its parts."""
    kinds = {
        "prior": Prior,
        "posterior": Posterior,
        "likelihood": Likelihood,
        "objective": Objective,
    }
    for name, kind in kinds.items():
        check_part(name, getattr(vae, name), kind)
    expected = vae.posterior.params_size(vae.latent_dim)
    if vae.encoder.output_shape != (None, expected):
        raise ValueError(
            f"The encoder's output should have shape (batch, {expected}) for "
            f"{vae.latent_dim} latents and a {type(vae.posterior).__name__}. "
            f"Received: encoder.output_shape={vae.encoder.output_shape}."
        )
    *axes, channels = vae.event_shape
    expected = (None, *axes, channels * vae.likelihood.params_size())
    if vae.decoder.output_shape != expected:
        raise ValueError(
            f"The decoder's output should have shape {expected} for data of shape "
            f"{vae.event_shape} and a {type(vae.likelihood).__name__}. "
            f"Received: decoder.output_shape={vae.decoder.output_shape}."
        )
    if vae.likelihood.built and vae.likelihood.event_ndims != len(vae.event_shape):
        raise ValueError(
            "The likelihood serves data with as many axes as it was first used with, "
            f"{vae.likelihood.event_ndims}: give this model one of its own. "
            f"Received: event_shape={vae.event_shape}."
        )
    if vae.prior.latent_dim != vae.latent_dim:
        raise ValueError(
            "The prior should have as many latents as the decoder takes, "
            f"{vae.latent_dim}. Received: prior.latent_dim={vae.prior.latent_dim}."
        )
