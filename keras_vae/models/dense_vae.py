"""The dense VAE: fully connected networks for data of any shape."""

from collections.abc import Sequence

import keras

from keras_vae.distributions import Bernoulli, DiagonalNormal, Likelihood, Posterior, Prior
from keras_vae.networks import dense_decoder, dense_encoder
from keras_vae.objectives import Objective
from keras_vae.tuning import picked_dtype
from keras_vae.vae import VAE


@keras.saving.register_keras_serializable("keras_vae")
class DenseVAE(VAE):
    """A VAE with dense networks, for vectors, small images, or any data without locality.

    Args:
        event_shape: Shape of one example, such as (28, 28, 1) or (20,).
        latent_dim: Number of latents, at least 1.
        hidden_units: Width of each hidden layer of the encoder; the decoder has them reversed.
        gated: Whether hidden layers are gated linear units instead of ReLU.
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

    >>> vae = DenseVAE((28, 28, 1), latent_dim=16)
    >>> vae.sample(4).shape
    TensorShape([4, 28, 28, 1])

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix C.
        Tomczak and Welling 2018, "VAE with a VampPrior", section 5.1 (gated units).
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        *,
        hidden_units: Sequence[int] = (512, 512),
        gated: bool = False,
        prior: Prior | None = None,
        posterior: Posterior | None = None,
        likelihood: Likelihood | None = None,
        objective: Objective | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ):
        posterior, likelihood = posterior or DiagonalNormal(), likelihood or Bernoulli()
        dtype = picked_dtype(dtype)
        sizes = {"hidden_units": hidden_units, "gated": gated, "dtype": dtype}
        super().__init__(
            dense_encoder(event_shape, latent_dim, posterior=posterior, **sizes),
            dense_decoder(latent_dim, event_shape, likelihood=likelihood, **sizes),
            prior=prior,
            posterior=posterior,
            likelihood=likelihood,
            objective=objective,
            name=name,
            dtype=dtype,
        )
        self.hidden_units = tuple(hidden_units)
        self.gated = gated

    def get_config(self):
        return {
            "event_shape": self.event_shape,
            "latent_dim": self.latent_dim,
            "hidden_units": self.hidden_units,
            "gated": self.gated,
            **self.parts_config("prior", "posterior", "likelihood", "objective"),
        }
