"""Rows of an array, gathered batch by batch."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.data.autotuning import without_autotuning
from keras_vae.data.seeds import EPOCH, seed_of_epoch

PREFETCHED_BATCHES = 2


class Parts(NamedTuple):
    """What a batch is made of.

    Attributes:
        number: Of the batch in its epoch. Scalar, int64.
        epoch: All rows, (num_rows, ...); their order, (num_rows,), int32; and a seed, (2,), int64.
    """

    number: tf.Tensor
    epoch: tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes a batch of its parts; those made alike are equal.

    Attributes:
        batch_size: Rows in a batch.
        finish: Maps rows and a seed of their own, (2,), int64, to what the batch should become.
        drop_remainder: Whether every batch is whole.
    """

    batch_size: int
    finish: Callable
    drop_remainder: bool

    def __call__(self, parts: Parts) -> tf.Tensor:
        number, (array, order, seed) = parts
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        rows = tf.ensure_shape(rows, [self.batch_size if self.drop_remainder else None])
        # Neighbouring seeds give independent numbers; the first one gave the order.
        return self.finish(tf.gather(array, rows), seed + number + 1)


class Unmade(NamedTuple):
    """Batches that can be made where they are needed, instead of in tf.data.

    A dataset that is made of some has them as its attribute `unmade`.

    Attributes:
        parts: Dataset of `Parts`.
        make: From `Parts` to a batch.
    """

    parts: tf.data.Dataset
    make: Maker

    def made(self) -> tf.data.Dataset:
        """Returns the dataset of batches."""
        return self.parts.map(self.make, tf.data.AUTOTUNE)


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
    unmade = batch_rows(array, batch_size, _as_it_is, seed=seeds, shuffle=shuffle)
    dataset = without_autotuning(unmade.made()).prefetch(PREFETCHED_BATCHES)
    dataset.unmade = unmade
    return dataset


def batch_rows(
    array: np.ndarray,
    batch_size: int,
    finish: Callable,
    *,
    seed: tf.data.Dataset | None = None,
    shuffle: bool = False,
    drop_remainder: bool = False,
) -> Unmade:
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
        The batches, yet to be made.
    """
    num_rows = len(array)
    num_batches = num_rows // batch_size if drop_remainder else -(-num_rows // batch_size)
    with tf.device("CPU:0"):
        array = tf.constant(array)

    def one_epoch(epoch_seed):
        order = tf.range(num_rows)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, epoch_seed)
        return tf.data.Dataset.from_tensors((array, order, epoch_seed)).repeat(num_batches)

    if seed is None:
        with tf.device("CPU:0"):
            epochs = one_epoch(tf.zeros(2, tf.int64))
    else:
        epochs = seed.flat_map(one_epoch)
        epochs = epochs.apply(tf.data.experimental.assert_cardinality(num_batches))
    numbers = tf.data.Dataset.range(num_batches)
    parts = tf.data.Dataset.zip(Parts(numbers, epochs))
    return Unmade(parts, Maker(batch_size, finish, drop_remainder))


def _as_it_is(batch, seed):
    return tf.cast(batch, tf.float32)
