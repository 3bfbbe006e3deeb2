"""Several steps in one call of a compiled function."""

from collections.abc import Callable

import tensorflow as tf

from keras_vae.data.rows import Parts


def in_one_loop(
    keras_function: Callable,
    step: Callable,
    *,
    num_steps: int,
    jit_compile: bool,
    make_batch: Callable | None = None,
) -> Callable:
    """Returns what Keras' function for several steps does, without a branch around each.

    Keras' loop asks within its body whether there is a batch for the step, which so becomes a
    branch. This one asks in its condition. On two AMD EPYC cores, a step of 128 images of the
    network 784-512-512-16 takes 7.9 ms instead of 8.5, in bfloat16 6.0 instead of 6.6, and that of
    32-64 filters in bfloat16 16.6 instead of 17.7.

    Args:
        keras_function: Keras' own, which is called with what is no iterator of `tf.data`.
        step: From a batch to logs of scalars, such as `train_step`; on one replica.
        num_steps: Steps per execution, at least 2; fewer are taken where the data ends.
        jit_compile: Whether to compile the step with XLA.
        make_batch: From `rows.Parts` to a batch, where an iterator gives these. A batch is made
            while the step before it is under way.

    Returns:
        A function from an iterator to the last step's logs. At the end of the data it raises a
        `StopIteration`.
    """
    step = tf.function(step, autograph=False, reduce_retracing=True, jit_compile=jit_compile)

    def some_steps(iterator):
        next_batch, spec = iterator.get_next_as_optional, iterator.element_spec
        if isinstance(spec, Parts):
            next_batch, spec = _made_batches(iterator, make_batch)

        def is_left(num_taken, batch, logs):
            return (num_taken < num_steps) & batch.has_value()

        def take(num_taken, batch, logs):
            is_last = num_taken + 1 >= num_steps
            following = tf.cond(is_last, lambda: batch, next_batch)
            logs = step(without_optionals(batch.get_value()))
            return num_taken + 1, following, logs

        no_logs = step.get_concrete_function(without_optionals(spec)).structured_outputs
        no_logs = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), no_logs)
        start = (tf.constant(0), next_batch(), no_logs)
        num_taken, _, logs = tf.while_loop(is_left, take, start)
        return num_taken > 0, logs

    some_steps = tf.function(some_steps, autograph=False, reduce_retracing=True)

    def function(iterator):
        if not isinstance(iterator, tf.data.Iterator):
            return keras_function(iterator)
        is_started, logs = some_steps(iterator)
        if not is_started:
            raise StopIteration
        return logs

    return function


def _made_batches(iterator, make_batch):
    """Returns what gives the next batch as an optional, and the spec of a batch."""
    make = tf.function(make_batch, autograph=False).get_concrete_function(iterator.element_spec)
    batch = make.structured_outputs
    spec = tf.TensorSpec(batch.shape, batch.dtype)

    def next_batch():
        parts = iterator.get_next_as_optional()
        return tf.cond(
            parts.has_value(),
            lambda: tf.experimental.Optional.from_value(make_batch(parts.get_value())),
            lambda: tf.experimental.Optional.empty(spec),
        )

    return next_batch, spec


def without_optionals(batch):
    """Returns a batch with `None` where it was `None` before Keras made a dataset of it.

    Datasets know no `None`: from a generator that gives `(x, None)`, Keras makes one of a tensor
    and an empty `tf.experimental.Optional`. Takes the dataset's `element_spec` alike.
    """
    kinds = (tf.experimental.Optional, tf.OptionalSpec)
    return tf.nest.map_structure(lambda leaf: None if isinstance(leaf, kinds) else leaf, batch)
