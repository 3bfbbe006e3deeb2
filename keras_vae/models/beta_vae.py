"""The beta-VAE: a convolutional VAE that pays more for its latents."""

from collections.abc import Sequence

import keras

from keras_vae.distributions import Bernoulli, DiagonalNormal, Likelihood, Posterior, Prior
from keras_vae.networks import conv_decoder, conv_encoder
from keras_vae.objectives import ELBO
from keras_vae.schedules import Schedule
from keras_vae.tuning import picked_dtype
from keras_vae.vae import VAE


@keras.saving.register_keras_serializable("keras_vae")
class BetaVAE(VAE):
    """A convolutional VAE whose KL term is weighted by beta.

    Beta above 1 pushes the latents towards independence and leaves unused ones at the prior, which
    often makes each remaining one stand for something by itself, at the price of blurrier
    reconstructions. The reported `elbo` is unweighted, and so comparable with other models'.

    Args:
        event_shape: Shape of one example: (height, width, channels) or (length, channels).
        latent_dim: Number of latents, at least 1.
        beta: Weight of the KL term: a number of at least 0, or a `Schedule` of the step.
        filters: Number of filters of each level of the encoder; the decoder has them reversed.
        hidden_units: Width of the dense layer between the convolutions and the latents.
        prior: p(z); a `StandardNormal` if not given.
        posterior: q(z given x); a `DiagonalNormal` if not given.
        likelihood: p(x given z); a `Bernoulli` if not given.
        name: Name of the model.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or "auto" for that where the device has
            bfloat16 units and "float32" elsewhere; the global one if not given.

    Shapes:
        Input and output (batch, *event_shape).

    Raises:
        ValueError: If beta is negative, a size is not an integer of at least 1, or the parts do
            not fit.

    Example:

    >>> BetaVAE((28, 28, 1), latent_dim=10, beta=4.0).objective.beta
    4.0

    References:
        Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework", equation 4.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        *,
        beta: float | Schedule = 4.0,
        filters: Sequence[int] = (32, 64),
        hidden_units: int = 256,
        prior: Prior | None = None,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ):
        posterior, likelihood = posterior or DiagonalNormal(), likelihood or Bernoulli()
        dtype = picked_dtype(dtype)
        sizes = {"filters": filters, "hidden_units": hidden_units, "dtype": dtype}
        super().__init__(
            conv_encoder(event_shape, latent_dim, posterior=posterior, **sizes),
            conv_decoder(latent_dim, event_shape, likelihood=likelihood, **sizes),
            prior=prior,
            posterior=posterior,
            likelihood=likelihood,
            objective=ELBO(beta),
            name=name,
            dtype=dtype,
        )
        self.beta = beta
        self.filters = tuple(filters)
        self.hidden_units = hidden_units

    def get_config(self):
        return {
            "event_shape": self.event_shape,
            "latent_dim": self.latent_dim,
            "filters": self.filters,
            "hidden_units": self.hidden_units,
            **self.parts_config("beta", "prior", "posterior", "likelihood"),
        }
