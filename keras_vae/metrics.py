"""What held-out data says about a trained VAE; nats per example unless said otherwise."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_vae import distributions

_BATCH_SIZE = 500


def mean_with_standard_error(values: np.ndarray) -> dict[str, float]:
    """Returns the mean of independent values and its standard error.

    Args:
        values: Shape (num_examples,).

    Example:

    >>> mean_with_standard_error(np.array([1.0, 3.0]))
    {'mean': 2.0, 'standard_error': 1.0}
    """
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": float(values.mean()), "standard_error": float(error)}


def bits_per_dimension(log_likelihood: np.ndarray, event_shape: Sequence[int]) -> float:
    """Returns the mean negative log-likelihood in bits per value of the data.

    Args:
        log_likelihood: Nats per example. Shape (num_examples,).
        event_shape: Shape of one example.

    Example:

    >>> round(bits_per_dimension(np.array([-math.log(2.0)]), (1,)), 6)
    1.0
    """
    return float(-np.mean(log_likelihood) / math.log(2.0) / math.prod(event_shape))


def kl_per_latent(model, x: np.ndarray) -> np.ndarray:
    """Returns the KL divergence from the prior that each latent carries.

    Args:
        model: A VAE with a normal posterior and a diagonal normal prior.
        x: Data. Shape (num_examples, *event_shape).

    Returns:
        Nats per example and latent. Shape (num_examples, latent_dim).
    """
    prior = model.prior.distribution()
    return np.concatenate(
        [distributions.kl_per_latent(model.encode(batch), prior).numpy() for batch in _batches(x)]
    )


def active_units(model, x: np.ndarray, threshold: float = 0.01) -> int:
    """Counts the latents that say something about x: Var_x(E[z_j given x]) > threshold.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).
        threshold: Variance of the posterior mean over the data, above which a latent counts.

    References:
        Burda et al. 2016, "Importance Weighted Autoencoders", section 5.2 (threshold 0.01).
    """
    means = np.concatenate([model.encode(batch).mean().numpy() for batch in _batches(x)])
    return int((means.var(axis=0) > threshold).sum())


def _batches(x):
    x = tf.convert_to_tensor(x)
    return [x[start : start + _BATCH_SIZE] for start in range(0, len(x), _BATCH_SIZE)]
