"""Seeds for stateless sampling: one helper, aware of replicas."""

import keras
import tensorflow as tf


def replica_seed(seed_generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Draws the next seed, a different one on every replica.

    Under `tf.distribute`, a `SeedGenerator` gives the same number to every replica, and so the same
    noise to different images. Folding in the replica's id makes the noise independent, and keeps it
    repeatable.

    Args:
        seed_generator: The stream to draw from; it advances by one.

    Returns:
        A seed for `tf.random.stateless_*` and TFP. Shape (2,), int32.
    """
    seed = tf.cast(tf.convert_to_tensor(seed_generator.next()), tf.int32)
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    replica_id = tf.cast(context.replica_id_in_sync_group, tf.int32)
    return tf.random.experimental.stateless_fold_in(seed, replica_id)


def fixed_seed(seed: int | None) -> tf.Tensor:
    """Turns a user's seed into one for stateless sampling.

    Args:
        seed: Any integer, or `None` for a fresh one from Keras' global generator, which
            `keras.utils.set_random_seed` makes repeatable.

    Returns:
        A seed of shape (2,), int32.

    Example:

    >>> fixed_seed(7).numpy().tolist()
    [7, 0]
    """
    if seed is None:
        return tf.cast(keras.random.SeedGenerator().next(), tf.int32)
    low, high = seed & 0x7FFFFFFF, (seed >> 31) & 0x7FFFFFFF
    return tf.constant([low, high], tf.int32)
