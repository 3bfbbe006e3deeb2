"""What several replicas need of `fit` and `evaluate` beyond what Keras does for one."""

from collections.abc import Callable

import keras
import tensorflow as tf


def make_function(
    step: Callable,
    metrics: list[keras.metrics.Mean],
    *,
    num_steps: int,
    run_eagerly: bool,
    otherwise: Callable,
) -> Callable:
    """Returns what `fit` and `evaluate` call to take some steps on all replicas.

    Keras' own function fails here in two ways. With several steps per execution it calls a compiled
    step in a branch inside of a loop, where TensorFlow loses inputs of the replicas ("You must feed
    a value for placeholder tensor"); and with several workers it takes means along the first axis
    of scalars ("PerReplica ... unsupported type"). This one runs the step itself in the loop, and
    adds up the metrics of all replicas behind it, once.

    Args:
        step: `train_step` or `test_step`.
        metrics: What the step updates.
        num_steps: Steps per execution; fewer are taken where the data ends.
        run_eagerly: Whether to compile nothing.
        otherwise: Keras' own function, for batches that no strategy has shared out.

    Returns:
        A function from an iterator to the means over all replicas so far, by name.
    """
    strategy = tf.distribute.get_strategy()
    step = tf.autograph.experimental.do_not_convert(step)

    def one_step(iterator):
        strategy.run(step, args=(iterator.get_next(),))
        return True, means()

    def some_steps(iterator):
        is_started = False
        for _ in tf.range(num_steps):
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                break
            strategy.run(step, args=(batch.get_value(),))
            is_started = True
        return is_started, means()

    def means():
        per_replica = strategy.run(_global_means, args=(metrics,))
        return {
            name: strategy.experimental_local_results(value)[0]
            for name, value in per_replica.items()
        }

    run = one_step if num_steps == 1 else some_steps
    if not run_eagerly:
        run = tf.function(run, reduce_retracing=True)

    def function(iterator):
        if not isinstance(iterator, tf.distribute.DistributedIterator):
            return otherwise(iterator)
        is_started, logs = run(iterator)
        if not is_started:
            raise StopIteration
        return logs

    return function


def global_batch_size(x: tf.Tensor) -> tf.Tensor:
    """Returns the number of examples on all replicas together, which may differ in their share."""
    batch_size = tf.cast(tf.shape(x)[0], tf.float32)
    return _sum_over_replicas(batch_size)


@tf.autograph.experimental.do_not_convert
def _global_means(metrics):
    # Inside of a replica, a running mean is that of the replica.
    totals = tf.stack([tf.convert_to_tensor(metric.total) for metric in metrics])
    counts = tf.stack([tf.convert_to_tensor(metric.count) for metric in metrics])
    totals, counts = tf.unstack(_sum_over_replicas(tf.stack([totals, counts])))
    means = tf.math.divide_no_nan(totals, counts)
    return {metric.name: mean for metric, mean in zip(metrics, tf.unstack(means), strict=True)}


def _sum_over_replicas(value):
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
