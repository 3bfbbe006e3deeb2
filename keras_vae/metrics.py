"""What held-out data says about a trained VAE; nats per example unless said otherwise."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import distributions

ACTIVE_VARIANCE = 0.01  # of the posterior mean over the data, above which a latent is active

_BATCH_SIZE = 500
_MIXTURE_BATCH_SIZE = 200  # samples, each under every example's posterior
_WEIGHTS_BATCH_SIZE = 50
_MAX_VALUES = 2**21  # decoded at once


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

    Of binary data, it is what a perfect coder built on the model needs. Of a density it is
    relative to a unit interval, and may be negative. For images of 8 bits, scaled to [0, 1], add
    log2(255) = 7.99 to compare with published numbers; that holds if noise of one level was added
    to the values, in training too. Without it a density may grow at the 256 levels alone, and the
    number is too good.

    Args:
        log_likelihood: Nats per example. Shape (num_examples,).
        event_shape: Shape of one example.

    Example:

    >>> round(bits_per_dimension(np.array([-math.log(2.0)]), (1,)), 6)
    1.0

    References:
        Theis et al. 2016, "A note on the evaluation of generative models".
    """
    return float(-np.mean(log_likelihood) / math.log(2.0) / math.prod(event_shape))


def posterior_means(model, x: np.ndarray) -> np.ndarray:
    """Returns E[z given x] of each example, encoded 500 at a time.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).

    Returns:
        Shape (num_examples, latent_dim).
    """
    return _means(_posteriors(model, x))


def kl_per_latent(model, x: np.ndarray) -> np.ndarray:
    """Returns the KL divergence from the prior that each latent carries.

    That of latent j is of q(z_j given x and the latents before j): their sum is the whole. For a
    diagonal posterior it is of q(z_j given x).

    Args:
        model: A VAE with a normal posterior and a diagonal normal prior.
        x: Data. Shape (num_examples, *event_shape).

    Returns:
        Nats per example and latent. Shape (num_examples, latent_dim).
    """
    return _kl_per_latent(_posteriors(model, x), model.prior.distribution())


def active_units(model, x: np.ndarray, threshold: float = ACTIVE_VARIANCE) -> int:
    """Counts the latents that say something about x: Var_x(E[z_j given x]) > threshold.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).
        threshold: Variance of the posterior mean over the data, above which a latent counts.

    References:
        Burda et al. 2016, "Importance Weighted Autoencoders", section 5.2 (threshold 0.01).
    """
    return _num_active(_posteriors(model, x), threshold)


def information(model, x: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Splits the mean KL divergence into what the code says of x and how far it is from the prior.

        E_x[KL(q(z given x) || p(z))] = I(x; z) + KL(q(z) || p(z)),   q(z) = E_x[q(z given x)]

    The mutual information, in nats, is at most log(num_examples), which bounds the estimate from a
    few examples; the marginal KL divergence is what sampling from the prior suffers from. Both are
    estimated with one sample per example, and q(z) by the mixture of all examples.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).
        seed: Of the samples.

    Returns:
        Nats, by name: `kl`, `mutual_information` and `marginal_kl`. The first is the sum of the
        other two.

    References:
        Hoffman and Johnson 2016, "ELBO surgery".
    """
    return _information(_posteriors(model, x), model.prior.distribution(), seed)


class LatentSummary(NamedTuple):
    """What `latent_summary` finds out about a code.

    Attributes:
        kl_per_latent: As `kl_per_latent` returns it. Shape (num_examples, latent_dim).
        active_units: As `active_units` counts them.
        information: As `information` splits it.
    """

    kl_per_latent: np.ndarray
    active_units: int
    information: dict[str, float]


def latent_summary(
    model, x: np.ndarray, *, threshold: float = ACTIVE_VARIANCE, seed: int = 0
) -> LatentSummary:
    """Measures `kl_per_latent`, `active_units` and `information` while encoding the data once.

    Args:
        model: A VAE with a normal posterior and a diagonal normal prior.
        x: Data. Shape (num_examples, *event_shape).
        threshold: As for `active_units`.
        seed: As for `information`.
    """
    posteriors, prior = _posteriors(model, x), model.prior.distribution()
    return LatentSummary(
        _kl_per_latent(posteriors, prior),
        _num_active(posteriors, threshold),
        _information(posteriors, prior, seed),
    )


def effective_sample_size(
    model, x: np.ndarray, num_samples: int = 500, *, seed: int = 0
) -> np.ndarray:
    """Returns how many of the importance samples behind a log-likelihood count, for each example.

        (sum_i w_i)^2 / sum_i w_i^2,   w_i = p(x, z_i) / q(z_i given x)

    It lies between 1 and `num_samples`. Where it is near 1, a single sample makes the estimate, and
    the true log-likelihood may be far above it: take more samples.

    Args:
        model: A VAE.
        x: Data. Shape (num_examples, *event_shape).
        num_samples: Importance samples per example, at least 1.
        seed: Of the samples.

    Returns:
        Shape (num_examples,).

    References:
        Kong 1992, "A Note on Importance Sampling using Standardized Weights".
    """
    prior, sizes = model.prior.distribution(), []
    at_once = max(1, _MAX_VALUES // (_WEIGHTS_BATCH_SIZE * math.prod(model.event_shape)))
    for index, batch in enumerate(_batches(x, _WEIGHTS_BATCH_SIZE)):
        posterior = model.encode(batch)
        weights = []
        for piece, size in enumerate(_pieces(num_samples, at_once)):
            z = posterior.sample(size, seed=(seed, index * num_samples + piece))
            log_prob = model.decode(z).log_prob(tf.cast(batch, tf.float32))
            weights.append(log_prob + prior.log_prob(z) - posterior.log_prob(z))
        weights = tf.concat(weights, axis=0)
        weights -= tf.reduce_max(weights, axis=0)  # or float32 would lose what is behind the point
        once, twice = (tf.reduce_logsumexp(k * weights, axis=0) for k in (1.0, 2.0))
        sizes.append(tf.exp(2.0 * once - twice).numpy())
    return np.concatenate(sizes)


def _posteriors(model, x):
    return [model.encode(batch) for batch in _batches(x)]


def _means(posteriors):
    return np.concatenate([posterior.mean().numpy() for posterior in posteriors])


def _kl_per_latent(posteriors, prior):
    return np.concatenate(
        [distributions.kl_per_latent(posterior, prior).numpy() for posterior in posteriors]
    )


def _num_active(posteriors, threshold):
    return int((_means(posteriors).var(axis=0) > threshold).sum())


def _information(posteriors, prior, seed):
    kl, own, samples = [], [], []
    for index, posterior in enumerate(posteriors):
        z = posterior.sample(seed=(seed, index))
        kl.append(distributions.kl_divergence(posterior, prior, z[tf.newaxis]))
        own.append(posterior.log_prob(z))
        samples.append(z)
    samples = tf.concat(samples, axis=0)
    density = _mixture_density(posteriors)
    marginal = [density(z) for z in tf.split(samples, _pieces(len(samples), _MIXTURE_BATCH_SIZE))]
    total = float(tf.reduce_mean(tf.concat(kl, axis=0)))
    own, marginal = (tf.cast(tf.concat(nats, axis=0), tf.float64) for nats in (own, marginal))
    mutual = float(tf.reduce_mean(own - marginal))
    return {"kl": total, "mutual_information": mutual, "marginal_kl": total - mutual}


def _mixture_density(posteriors):
    """Returns the function from codes to log q(z), with q the mixture of all posteriors."""
    num_components = sum(posterior.batch_shape[0] for posterior in posteriors)

    def one_by_one(z):
        return tf.concat([each.log_prob(z[:, tf.newaxis]) for each in posteriors], axis=1)

    log_probs = one_by_one
    if all(isinstance(each, tfp.distributions.MultivariateNormalDiag) for each in posteriors):
        log_probs = _normal_log_probs(posteriors)
    return lambda z: tf.reduce_logsumexp(log_probs(z), axis=1) - math.log(num_components)


def _normal_log_probs(posteriors):
    """Returns the function from codes to their log densities under each of many diagonal normals.

    With the square multiplied out it is one product of matrices, tens of times faster than the
    normals one by one. In float64, since large terms cancel.
    """
    moments = (_means(posteriors), [posterior.stddev() for posterior in posteriors])
    loc, scale = moments[0].astype(np.float64), np.concatenate(moments[1]).astype(np.float64)
    precision = scale**-2.0
    weights = tf.constant(np.concatenate([-0.5 * precision, loc * precision], axis=1))
    log_normalizer = np.log(scale) + 0.5 * math.log(2.0 * math.pi)
    offset = tf.constant(-np.sum(0.5 * loc**2 * precision + log_normalizer, axis=1))

    def log_probs(z):
        z = tf.cast(z, tf.float64)
        terms = tf.concat([tf.square(z), z], axis=1)
        return tf.matmul(terms, weights, transpose_b=True) + offset

    return log_probs


def _pieces(total, size):
    return [size] * (total // size) + ([total % size] if total % size else [])


def _batches(x, size=_BATCH_SIZE):
    x = tf.convert_to_tensor(x)
    return [x[start : start + size] for start in range(0, len(x), size)]
