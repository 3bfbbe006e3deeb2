"""Independent Bernoullis in groups, against SciPy and TFP; their slopes against closed forms."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.bernoullis import IndependentBernoullis

tfd = tfp.distributions

# Sizes that are one group, a few, many, and no multiple of anything.
EVENT_SHAPES = [(64,), (1,), (28, 28, 1), (3, 7, 5), (97,)]


def of(logits, rank, kind=IndependentBernoullis):
    values = tfd.Bernoulli(logits=tf.cast(logits, tf.float32), dtype=tf.float32)
    return kind(values, reinterpreted_batch_ndims=rank)


def logits_and_data(event_shape, batch_shape=(5, 3), scale=6.0):
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=scale, size=(*batch_shape, *event_shape))
    data = generator.integers(0, 2, size=(*batch_shape[1:], *event_shape))
    return logits.astype("float32"), data.astype("float32")


@pytest.mark.parametrize("event_shape", EVENT_SHAPES)
def test_log_density_is_scipys(event_shape):
    logits, data = logits_and_data(event_shape)
    p = scipy.special.expit(np.float64(logits))
    axes = tuple(range(-len(event_shape), 0))
    expected = scipy.stats.bernoulli(p).logpmf(data[None]).sum(axis=axes)
    actual = of(logits, len(event_shape)).log_prob(data)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


def test_a_density_near_one_keeps_its_small_logarithm():
    # Of the true value, 784 log sigmoid(12) = -0.00482, single factors lose up to 6e-8 each.
    logits = np.full((1, 784), 12.0)
    expected = -784 * np.logaddexp(0, -12.0)
    actual = float(of(logits, 1).log_prob(tf.ones(784))[0])
    assert actual == pytest.approx(expected, abs=784 * 6e-8)


def test_no_product_underflows_where_every_value_is_as_likely_as_not():
    actual = of(np.zeros((2, 64 * 64)), 1).log_prob(tf.ones(64 * 64))
    np.testing.assert_allclose(actual, [-4096 * np.log(2)] * 2, rtol=1e-6)


@pytest.mark.parametrize("event_shape", EVENT_SHAPES)
def test_slopes_are_the_closed_ones(event_shape):
    logits, data = map(tf.constant, logits_and_data(event_shape))
    with tf.GradientTape() as tape:
        tape.watch([logits, data])
        total = tf.reduce_sum(of(logits, len(event_shape)).log_prob(data))
    of_logits, of_data = tape.gradient(total, [logits, data])
    np.testing.assert_allclose(of_logits, data - scipy.special.expit(logits), atol=1e-6)
    np.testing.assert_allclose(of_data, np.sum(logits, axis=0), rtol=1e-5, atol=1e-5)


def test_slopes_at_a_logit_of_zero():
    logits, data = tf.zeros((1, 6)), tf.constant([0.0, 1.0, 0.25, 0.0, 1.0, 0.5])
    with (
        tf.GradientTape() as tape,
        tf.autodiff.ForwardAccumulator(logits, tf.ones((1, 6))) as forward,
    ):
        tape.watch(logits)
        log_density = of(logits, 1).log_prob(data)
    np.testing.assert_allclose(tape.gradient(log_density, logits)[0], data - 0.5)
    np.testing.assert_allclose(forward.jvp(log_density), [np.sum(data - 0.5)], atol=1e-6)


def test_second_slope_and_forward_slope():
    logits, data = map(tf.constant, logits_and_data((3, 7, 5), scale=2.0))
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            total = tf.reduce_sum(of(logits, 3).log_prob(data))
        slope = inner.gradient(total, logits)
    p = scipy.special.expit(logits)
    np.testing.assert_allclose(outer.gradient(slope, logits), -p * (1 - p), atol=1e-6)
    with tf.autodiff.ForwardAccumulator(logits, tf.ones_like(logits)) as forward:
        log_density = of(logits, 3).log_prob(data)
    expected = np.sum(data - p, axis=(-3, -2, -1))
    np.testing.assert_allclose(forward.jvp(log_density), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("data_shape", [(4, 3), (3,), (5, 1, 4, 3), (1, 1), ()])
def test_data_broadcast_as_in_tfp(data_shape):
    logits = tf.constant(logits_and_data((4, 3), (5, 2))[0])
    data = tf.constant(np.random.default_rng(1).uniform(size=data_shape), tf.float32)
    slopes, densities = [], []
    for kind in (IndependentBernoullis, tfd.Independent):
        with tf.GradientTape() as tape:
            tape.watch([logits, data])
            density = of(logits, 2, kind).log_prob(data)
        slopes.append(tape.gradient(density, [logits, data]))
        densities.append(density)
    np.testing.assert_allclose(*densities, rtol=1e-5)
    for ours, theirs in zip(*slopes, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float64", "bfloat16"])
def test_data_are_cast_as_in_tfp(dtype):
    logits, data = logits_and_data((4, 3), (5, 2))
    binary = tf.cast(data > 0.5, dtype)
    ours, theirs = (
        of(logits, 2, kind).log_prob(binary) for kind in (IndependentBernoullis, tfd.Independent)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_batch_size_that_is_not_known_yet():
    logits, data = logits_and_data((28, 28, 1))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 28, 28, 1))])
    def log_density(logits):
        return of(logits, 3).log_prob(data)

    np.testing.assert_allclose(log_density(logits), of(logits, 3).log_prob(data), rtol=1e-6)
