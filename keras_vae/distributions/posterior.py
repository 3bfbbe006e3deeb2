"""Posteriors q(z given x): what an encoder's parameters mean."""

import abc
import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.part import Part

tfd = tfp.distributions


class Posterior(Part):
    """Turns an encoder's output into a distribution over the latents.

    An encoder asks it how wide its last layer must be (`params_size`), and a VAE asks it for the
    distribution.
    """

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name)
        self.built = True

    @abc.abstractmethod
    def params_size(self, latent_dim: int) -> int:
        """Returns how many parameters describe `latent_dim` latents."""

    @abc.abstractmethod
    def distribution(self, params: tf.Tensor) -> tfd.Distribution:
        """Returns q(z given x).

        Args:
            params: Output of the encoder. Shape (batch, params_size(latent_dim)).

        Returns:
            A distribution with batch shape (batch,) and event shape (latent_dim,).
        """

    def get_config(self) -> dict:
        """Returns exactly the constructor's arguments."""
        return {"name": self.name}


@keras.saving.register_keras_serializable("keras_vae")
class DiagonalNormal(Posterior):
    """The mean-field posterior, q(z given x) = N(z; loc(x), diag(scale(x)^2)).

    The encoder gives `loc` and a raw log-variance per latent; the log-variance is
    `m * tanh(raw / m)` with `m = max_log_variance`, close to `raw` near 0 and never beyond `m`, so
    that no finite input gives a scale of 0 or inf.

    Args:
        max_log_variance: Bound of the absolute log-variance, in (0, 80].

    Raises:
        ValueError: If the bound is outside of that.

    Shapes:
        `distribution(params)`: params (batch, 2 * latent_dim); event (latent_dim,).

    Example:

    >>> posterior = DiagonalNormal()
    >>> posterior.params_size(16)
    32
    >>> posterior.distribution(tf.zeros((5, 32))).stddev().shape.as_list()
    [5, 16]

    References:
        Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 9 and appendix C.2.
    """

    def __init__(self, *, max_log_variance: float = 12.0, name: str | None = None):
        super().__init__(name=name)
        self.max_log_variance = _bound("max_log_variance", max_log_variance, 80.0, "the variance")

    def params_size(self, latent_dim):
        return 2 * latent_dim

    def distribution(self, params):
        loc, raw = tf.split(tf.cast(params, tf.float32), 2, axis=-1)
        scale = tf.exp(0.5 * _bounded(raw, self.max_log_variance))
        return tfd.MultivariateNormalDiag(loc, scale, name="posterior")

    def get_config(self):
        return {"max_log_variance": self.max_log_variance, **super().get_config()}


@keras.saving.register_keras_serializable("keras_vae")
class FullCovarianceNormal(Posterior):
    """A posterior whose latents may be correlated, q(z given x) = N(z; loc(x), L(x) L(x)^T).

    The encoder gives `loc`, the raw logarithms of L's diagonal (bounded as the log-variance of
    `DiagonalNormal` is) and the entries of L below it. It costs `latent_dim^2 / 2` outputs; for up
    to some tens of latents it closes part of the gap that the mean-field posterior leaves.

    Args:
        max_log_scale: Bound of the absolute logarithm of L's diagonal, in (0, 40].

    Raises:
        ValueError: If the bound is outside of that.

    Shapes:
        `distribution(params)`: params (batch, latent_dim * (latent_dim + 3) / 2);
        event (latent_dim,).

    Example:

    >>> FullCovarianceNormal().params_size(16)
    152

    References:
        Kingma and Welling 2019, "An Introduction to Variational Autoencoders", section 2.5.1.
    """

    def __init__(self, *, max_log_scale: float = 6.0, name: str | None = None):
        super().__init__(name=name)
        self.max_log_scale = _bound("max_log_scale", max_log_scale, 40.0, "the variance")

    def params_size(self, latent_dim):
        return latent_dim * (latent_dim + 3) // 2

    def distribution(self, params):
        latent_dim = self._latent_dim(params.shape[-1])
        loc, entries = tf.split(tf.cast(params, tf.float32), [latent_dim, -1], axis=-1)
        # One gather instead of a dozen operations, some of which LiteRT lacks: entry 0 is the zero
        # above the diagonal.
        rows = _triangular_rows(latent_dim)
        on_diagonal = np.isin(np.arange(1, rows.max() + 1), np.diag(rows))
        diagonal = tf.exp(_bounded(entries, self.max_log_scale))
        entries = tf.where(on_diagonal, diagonal, entries)
        entries = tf.concat([tf.zeros_like(entries[..., :1]), entries], axis=-1)
        scale_tril = tf.gather(entries, rows, axis=-1)
        return tfd.MultivariateNormalTriL(loc, scale_tril, name="posterior")

    def get_config(self):
        return {"max_log_scale": self.max_log_scale, **super().get_config()}

    def _latent_dim(self, params_size):
        latent_dim = (math.isqrt(9 + 8 * params_size) - 3) // 2
        if self.params_size(latent_dim) != params_size:
            raise ValueError(
                "`params` should have latent_dim * (latent_dim + 3) / 2 entries in the last axis. "
                f"Received: params.shape[-1]={params_size}."
            )
        return latent_dim


def _bound(name, value, largest, held):
    if not 0.0 < value <= largest:
        raise ValueError(
            f"`{name}` should be in (0, {largest:g}], where float32 still holds {held}. "
            f"Received: {name}={value!r}."
        )
    return float(value)


def _bounded(raw, bound):
    """Returns numbers close to `raw` around 0, with a gradient everywhere, within the bound."""
    return bound * tf.tanh(raw / bound)


def _triangular_rows(size):
    """Returns which entry, from 1 on, goes where, in the order of `tfp.math.fill_triangular`."""
    entries = np.arange(1, size * (size + 1) // 2 + 1)
    return np.tril(np.concatenate([entries[size:], entries[::-1]]).reshape(size, size))
