"""Estimates over many examples and many latent samples, in pieces that fit in memory."""

import math
from collections.abc import Callable

import tensorflow as tf

from keras_vae.distributions import kl_divergence
from keras_vae.objectives import Inference

# What one pass decodes: so many examples, and so many values of the data in all.
_MAX_EXAMPLES = 64
_MAX_VALUES = 2**20
_PASSES_AT_ONCE = 2  # while one waits for its slowest core, the other works


def over_examples(score: Callable, x: tf.Tensor, num_samples: int, seed: tf.Tensor) -> tf.Tensor:
    """Applies a compiled score to some examples at a time.

    Args:
        score: Takes x, the number of samples (a tensor), the number of them to decode at a time,
            and a seed; returns a score for each example.
        x: Shape (num_examples, *event_shape).
        num_samples: Latent samples per example, at least 1.
        seed: Shape (2,), int32.

    Returns:
        Shape (num_examples,).

    Raises:
        ValueError: If `num_samples` is less than 1.
    """
    if num_samples < 1:
        raise ValueError(
            f"`num_samples` should be at least 1. Received: num_samples={num_samples}."
        )
    decodes = max(1, _MAX_VALUES // math.prod(x.shape[1:]))
    batch_size = min(_MAX_EXAMPLES, decodes, len(x))
    samples_per_pass = max(1, decodes // batch_size)
    if len(x) < min(_MAX_EXAMPLES, decodes):
        # Few examples come in many numbers, and each size of a pass is compiled.
        samples_per_pass = 2 ** int(math.log2(samples_per_pass))
    samples_per_pass = min(num_samples, samples_per_pass)
    scores = []
    for start in range(0, len(x), batch_size):
        batch = x[start : start + batch_size]
        # The last batch is filled up, so that one compiled function serves all.
        padding = tf.repeat(batch[:1], batch_size - len(batch), axis=0)
        batch_seed = tf.random.experimental.stateless_fold_in(seed, start)
        filled = tf.concat([batch, padding], axis=0)
        scores.append(score(filled, tf.constant(num_samples), samples_per_pass, batch_seed))
    return tf.concat(scores, axis=0)[: len(x)]


def over_samples(
    term: Callable[[Inference], tf.Tensor],
    infer: Callable[[int, tf.Tensor], Inference],
    num_samples: tf.Tensor,
    samples_per_pass: int,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns a term of each latent sample, a few samples at a time.

    Args:
        term: Maps an inference to (num_samples, batch).
        infer: Takes a number of latent samples and a seed, and returns an inference with them.
        num_samples: How many samples, a scalar int32 tensor: another number compiles nothing anew,
            if it is more than a pass.
        samples_per_pass: How many to decode at a time.
        seed: Shape (2,), int32.

    Returns:
        Shape (num_samples, batch).
    """

    def one_pass(start):
        return term(infer(samples_per_pass, tf.random.experimental.stateless_fold_in(seed, start)))

    starts = tf.range(0, num_samples, samples_per_pass)
    terms = tf.map_fn(
        one_pass, starts, parallel_iterations=_PASSES_AT_ONCE, fn_output_signature=tf.float32
    )
    return tf.reshape(terms, (-1, tf.shape(terms)[-1]))[:num_samples]


def elbo_terms(inference: Inference) -> tf.Tensor:
    """Returns log p(x given z) - KL(q || p), whose mean over the samples is the ELBO.

    Returns:
        Nats. Shape (num_samples, batch).
    """
    x, z, posterior, prior, likelihood = inference
    return likelihood.log_prob(x) - kl_divergence(posterior, prior, z)


def reconstruction_terms(inference: Inference) -> tf.Tensor:
    """Returns log p(x given z), whose mean over the samples is the ELBO without its KL divergence.

    Returns:
        Nats. Shape (num_samples, batch).
    """
    return inference.likelihood.log_prob(inference.x)
