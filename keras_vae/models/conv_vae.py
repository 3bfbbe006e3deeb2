"""The convolutional VAE: for images and series of any size."""

from collections.abc import Sequence

import keras

from keras_vae.distributions import Bernoulli, DiagonalNormal, Likelihood, Posterior, Prior
from keras_vae.networks import conv_decoder, conv_encoder
from keras_vae.objectives import Objective
from keras_vae.tuning import picked_dtype
from keras_vae.vae import VAE


@keras.saving.register_keras_serializable("keras_vae")
class ConvVAE(VAE):
    """A VAE with convolutional networks, for images and series of any size.

    Args:
        event_shape: Shape of one example: (height, width, channels) or (length, channels).
        latent_dim: Number of latents, at least 1.
        filters: Number of filters of each level of the encoder, each at half the resolution of the
            one before; the decoder has them reversed.
        hidden_units: Width of the dense layer between the convolutions and the latents.
        activation: Of the hidden layers, a name that Keras knows.
        prior: p(z); a `StandardNormal` if not given.
        posterior: q(z given x); a `DiagonalNormal` if not given.
        likelihood: p(x given z); a `Bernoulli` if not given.
        objective: What training minimises; an `ELBO` if not given.
        name: Name of the model.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or "auto" for that where the device has
            bfloat16 units and "float32" elsewhere; the global one if not given.

    Shapes:
        Input and output (batch, *event_shape).

    Raises:
        ValueError: If a size is not an integer of at least 1, or the parts do not fit.

    Example:

    >>> vae = ConvVAE((33, 17, 1), latent_dim=16)
    >>> vae.sample(4).shape
    TensorShape([4, 33, 17, 1])

    References:
        Salimans et al. 2015, "Markov Chain Monte Carlo and Variational Inference: Bridging the
        Gap", section 5.2 (a convolutional VAE for MNIST).
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        *,
        filters: Sequence[int] = (32, 64),
        hidden_units: int = 256,
        activation: str = "relu",
        prior: Prior | None = None,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ):
        posterior, likelihood = posterior or DiagonalNormal(), likelihood or Bernoulli()
        dtype = picked_dtype(dtype)
        sizes = {
            "filters": filters,
            "hidden_units": hidden_units,
            "activation": activation,
            "dtype": dtype,
        }
        super().__init__(
            conv_encoder(event_shape, latent_dim, posterior=posterior, **sizes),
            conv_decoder(latent_dim, event_shape, likelihood=likelihood, **sizes),
            prior=prior,
            posterior=posterior,
            likelihood=likelihood,
            objective=objective,
            name=name,
            dtype=dtype,
        )
        self.filters = tuple(filters)
        self.hidden_units = hidden_units
        self.activation = activation

    def get_config(self):
        return {
            "event_shape": self.event_shape,
            "latent_dim": self.latent_dim,
            "filters": self.filters,
            "hidden_units": self.hidden_units,
            "activation": self.activation,
            **self.parts_config("prior", "posterior", "likelihood", "objective"),
        }
