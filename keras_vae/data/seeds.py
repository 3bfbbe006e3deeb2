"""Seeds that come with the batches: new ones in each epoch."""

import tensorflow as tf

# Purposes: one seed gives an independent stream of seeds to each.
SHUFFLE, NOISE, EPOCH = 1, 2, 3


def seeds_of_batches(seed, purpose, epoch=None):
    """Returns an endless dataset of seeds, (2,), int64: new ones in each iteration.

    `tf.data.Dataset.random` does the same, but mixes in the global seed; this one repeats whatever
    `tf.random.set_seed` was told. With `epoch`, they are those of the epoch that it holds.
    """
    if epoch is not None:
        seeds = seed_of_epoch(seed, purpose, epoch).flat_map(_one_epoch)
        return seeds.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    scalar = tf.TensorSpec([], tf.int64)
    variant = tf.raw_ops.RandomDatasetV2(
        seed=tf.constant(seed, tf.int64),
        seed2=tf.constant(purpose, tf.int64),
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        rerandomize_each_iteration=True,
        output_types=[scalar.dtype],
        output_shapes=[scalar.shape],
    )
    return tf.data.experimental.from_variant(variant, scalar).batch(2, drop_remainder=True)


def seed_of_epoch(seed, purpose, epoch=None):
    """Returns a dataset of one seed, (2,), int64: another one in each iteration, or epoch."""
    if epoch is None:
        return seeds_of_batches(seed, purpose).take(1)
    seeds = tf.constant([seed, purpose], tf.int64)
    # Read once, when an iteration asks for its first batch.
    return tf.data.Dataset.range(1).map(lambda _: _fold_in(seeds, epoch.read_value()))


def _one_epoch(seed):
    return tf.data.Dataset.counter().map(lambda batch: _fold_in(seed, batch))


def _fold_in(seed, number):
    return tf.random.experimental.stateless_fold_in(seed, number)
