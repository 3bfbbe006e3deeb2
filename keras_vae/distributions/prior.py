"""Priors p(z) over the latents."""

import abc

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.part import Part

tfd = tfp.distributions


class Prior(Part):
    """What z looks like before any image is seen: a VAE asks it for its distribution.

    Args:
        latent_dim: Number of latents, at least 1.

    Raises:
        ValueError: If `latent_dim` is not an integer of at least 1.
    """

    def __init__(self, latent_dim: int, *, name: str | None = None):
        super().__init__(name=name)
        if not isinstance(latent_dim, int) or latent_dim < 1:
            raise ValueError(
                f"`latent_dim` should be an integer >= 1. Received: latent_dim={latent_dim!r}."
            )
        self.latent_dim = latent_dim
        self.built = True

    @abc.abstractmethod
    def distribution(self) -> tfd.Distribution:
        """Returns p(z), with event shape (latent_dim,) and no batch shape."""

    def get_config(self) -> dict:
        """Returns exactly the constructor's arguments."""
        return {"latent_dim": self.latent_dim, "name": self.name}


@keras.saving.register_keras_serializable("keras_vae")
class StandardNormal(Prior):
    """The standard normal prior, p(z) = N(z; 0, I).

    Args:
        latent_dim: Number of latents, at least 1.

    Example:

    >>> StandardNormal(2).distribution().sample(3, seed=(0, 1)).shape.as_list()
    [3, 2]

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", section 3.
    """

    def distribution(self):
        return tfd.MultivariateNormalDiag(
            loc=tf.zeros(self.latent_dim), scale_diag=tf.ones(self.latent_dim), name="prior"
        )
