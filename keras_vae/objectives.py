"""Objectives: what training minimises, in nats per example."""

import abc
import math
from typing import NamedTuple

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.divergence import kl_divergence, kl_per_latent
from keras_vae.schedules import Schedule, as_schedule

tfd = tfp.distributions


class Inference(NamedTuple):
    """Everything that one pass through a VAE knows about a batch.

    Attributes:
        x: The data. Shape (batch, *event_shape).
        z: Samples of the posterior. Shape (num_samples, batch, latent_dim).
        posterior: q(z given x), batch shape (batch,).
        prior: p(z), no batch shape.
        likelihood: p(x given z), batch shape (num_samples, batch).
    """

    x: tf.Tensor
    z: tf.Tensor
    posterior: tfd.Distribution
    prior: tfd.Distribution
    likelihood: tfd.Distribution


class Losses(NamedTuple):
    """Nats per example, each of shape (batch,).

    Attributes:
        loss: What training minimises.
        reconstruction: -E[log p(x given z)] under the posterior.
        kl: KL(q(z given x) || p(z)), unweighted.
    """

    loss: tf.Tensor
    reconstruction: tf.Tensor
    kl: tf.Tensor

    @property
    def elbo(self) -> tf.Tensor:
        """The evidence lower bound, whatever weights the loss gives its terms."""
        return -(self.reconstruction + self.kl)


class Objective(abc.ABC):
    """Maps an `Inference` and the optimizer step to `Losses`.

    Attributes:
        num_samples: How many latent samples per example the objective wants in training.
    """

    num_samples: int

    @abc.abstractmethod
    def __call__(self, inference: Inference, step: tf.Tensor) -> Losses:
        """Returns the losses of each example at a scalar integer `step`."""

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Returns exactly the constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict) -> "Objective":
        """Rebuilds the objective from `get_config()`."""
        parts = {key: keras.saving.deserialize_keras_object(value) for key, value in config.items()}
        return cls(**parts)


@keras.saving.register_keras_serializable("keras_vae")
class ELBO(Objective):
    """The negative evidence lower bound, with a weight and a floor on the KL term.

        loss = -E[log p(x given z)] + beta(step) * sum_j max(KL_j, free_bits)

    with z ~ q(z given x). At `beta=1` and `free_bits=0` it is the negative ELBO itself. `beta`
    above 1 trades reconstruction for a simpler latent code (beta-VAE); a schedule from 0 to 1 is
    KL warm-up. `free_bits` stops rewarding a latent for carrying less than that many nats, which
    keeps it from collapsing onto the prior; it is applied to each example and latent.

    Args:
        beta: Weight of the KL term: a number of at least 0, or a `Schedule` of the step.
        free_bits: Nats per latent below which the KL term stops to push, at least 0.
        num_samples: Latent samples per example, at least 1.

    Shapes:
        See `Inference` and `Losses`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> ELBO(beta=4.0).get_config()["free_bits"]
    0.0

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 7.
        Higgins et al. 2017, "beta-VAE", equation 4.
        Kingma et al. 2016, "Improved Variational Inference with Inverse Autoregressive Flow",
        appendix C.8 (free bits, there on the mean over a minibatch).
    """

    def __init__(
        self, beta: float | Schedule = 1.0, *, free_bits: float = 0.0, num_samples: int = 1
    ):
        self._schedule = as_schedule("beta", beta)
        self.beta = beta
        if not math.isfinite(free_bits) or free_bits < 0:
            raise ValueError(
                f"`free_bits` should be a finite number >= 0. Received: free_bits={free_bits!r}."
            )
        self.free_bits = float(free_bits)
        self.num_samples = _check_num_samples(num_samples)

    def __call__(self, inference, step):
        x, z, posterior, prior, likelihood = inference
        reconstruction = -tf.reduce_mean(likelihood.log_prob(x), axis=0)
        kl = penalty = kl_divergence(posterior, prior, z)
        if self.free_bits > 0:
            per_latent = kl_per_latent(posterior, prior)
            penalty = tf.reduce_sum(tf.maximum(per_latent, self.free_bits), axis=-1)
        return Losses(reconstruction + self._schedule(step) * penalty, reconstruction, kl)

    def get_config(self):
        return {
            "beta": keras.saving.serialize_keras_object(self.beta),
            "free_bits": self.free_bits,
            "num_samples": self.num_samples,
        }


@keras.saving.register_keras_serializable("keras_vae")
class IWAE(Objective):
    """The negative importance-weighted bound, tighter than the ELBO the more samples it takes.

        loss = -log (1/k) sum_i w_i,   w_i = p(x, z_i) / q(z_i given x),   z_i ~ q(z given x)

    With k = 1 it is the ELBO, its KL term estimated from the sample; with growing k it approaches
    -log p(x), and lets the posterior be less than perfect where that does not hurt. Its gradient
    is that of the reparameterised bound. `reconstruction` and `kl` stay those of the ELBO.

    Args:
        num_samples: k, the latent samples per example, at least 1.

    Shapes:
        See `Inference` and `Losses`.

    Raises:
        ValueError: If `num_samples` is not an integer of at least 1.

    Example:

    >>> IWAE(num_samples=50).get_config()
    {'num_samples': 50}

    References:
        Burda et al. 2016, "Importance Weighted Autoencoders", equation 8.
    """

    def __init__(self, num_samples: int = 5):
        self.num_samples = _check_num_samples(num_samples)

    def __call__(self, inference, step):
        x, z, posterior, prior, likelihood = inference
        log_prob = likelihood.log_prob(x)
        weights = log_prob + prior.log_prob(z) - posterior.log_prob(z)
        num_samples = tf.cast(tf.shape(z)[0], tf.float32)
        loss = tf.math.log(num_samples) - tf.reduce_logsumexp(weights, axis=0)
        return Losses(loss, -tf.reduce_mean(log_prob, axis=0), kl_divergence(posterior, prior, z))

    def get_config(self):
        return {"num_samples": self.num_samples}


def _check_num_samples(num_samples):
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(
            f"`num_samples` should be an integer >= 1. Received: num_samples={num_samples!r}."
        )
    return num_samples


def log_weights(inference: Inference) -> tf.Tensor:
    """Returns log p(x, z) - log q(z given x), the importance weights of the latent samples.

    Their log-mean-exp over the samples estimates log p(x) from below.

    Returns:
        Nats. Shape (num_samples, batch).

    References:
        Burda et al. 2016, "Importance Weighted Autoencoders", equation 8.
    """
    x, z, posterior, prior, likelihood = inference
    return likelihood.log_prob(x) + prior.log_prob(z) - posterior.log_prob(z)
