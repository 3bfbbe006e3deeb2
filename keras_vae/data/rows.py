"""Rows of an array, gathered batch by batch."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_vae.data.autotuning import without_autotuning
from keras_vae.data.seeds import EPOCH, seed_of_epoch

PREFETCHED_BATCHES = 2


def dataset_of(
    array: np.ndarray, batch_size: int, *, shuffle: bool = False, seed: int = 0
) -> tf.data.Dataset:
    """Returns what Keras makes of an array for `fit`, without its autotuning.

    Args:
        array: Shape (num_rows, ...), of numbers.
        batch_size: Rows in a batch, at least 1.
        shuffle: Whether every epoch comes in another random order.
        seed: Decides the orders. From 0 to 2**32 - 1.

    Returns:
        A dataset of float32, (batch, ...).
    """
    seeds = seed_of_epoch(seed, EPOCH) if shuffle else None
    dataset = batch_rows(array, batch_size, _as_it_is, seed=seeds, shuffle=shuffle)
    return without_autotuning(dataset).prefetch(PREFETCHED_BATCHES)


def batch_rows(
    array: np.ndarray,
    batch_size: int,
    finish: Callable,
    *,
    seed: tf.data.Dataset | None = None,
    shuffle: bool = False,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Turns an array into batches of its rows.

    Element by element, tf.data costs as much as a small model, so whole batches are gathered. And
    each function costs milliseconds when an iteration starts, one within another still more: one
    draws all that an epoch needs, and one makes a batch.

    Args:
        array: Shape (num_rows, ...).
        batch_size: Rows in a batch, at least 1.
        finish: Maps a batch and a seed of its own, (2,), int64, to what the batch should become.
        seed: Gives one seed, (2,), int64, another in each iteration: as `seeds.seed_of_epoch` does.
            If not given, nothing is random.
        shuffle: Whether every iteration comes in another random order; needs a seed.
        drop_remainder: Whether to leave out a smaller last batch.

    Returns:
        A dataset of batches.
    """
    num_rows = len(array)
    num_batches = num_rows // batch_size if drop_remainder else -(-num_rows // batch_size)
    with tf.device("CPU:0"):
        array = tf.constant(array)

    def one_epoch(epoch_seed):
        order = tf.range(num_rows)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, epoch_seed)
        return tf.data.Dataset.from_tensors((order, epoch_seed)).repeat(num_batches)

    def one_batch(batch, epoch):
        order, epoch_seed = epoch
        rows = order[batch * batch_size : (batch + 1) * batch_size]
        rows = tf.ensure_shape(rows, [batch_size if drop_remainder else None])
        # Neighbouring seeds give independent numbers; the first one gave the order.
        return finish(tf.gather(array, rows), epoch_seed + batch + 1)

    if seed is None:
        with tf.device("CPU:0"):
            epochs = one_epoch(tf.zeros(2, tf.int64))
    else:
        epochs = seed.flat_map(one_epoch)
        epochs = epochs.apply(tf.data.experimental.assert_cardinality(num_batches))
    numbers = tf.data.Dataset.range(num_batches)
    return tf.data.Dataset.zip(numbers, epochs).map(one_batch, tf.data.AUTOTUNE)


def _as_it_is(batch, seed):
    return tf.cast(batch, tf.float32)
