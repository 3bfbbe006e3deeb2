"""What several replicas need of `fit` and `evaluate` beyond what Keras does for one."""

import functools
import os
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_vae.executions import without_optionals


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns a strategy by name.

    Args:
        name: "default", one device; "mirrored", all GPUs of this machine; "multi-worker", the
            workers that the environment variable `TF_CONFIG` names, one of which this process is;
            or "tpu", the TPU that this machine belongs to.

    Raises:
        ValueError: If there is no such name, or `TF_CONFIG` is missing.
    """
    if name == "default":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi-worker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "The strategy 'multi-worker' needs the environment variable TF_CONFIG, which names "
                "all workers: start them with `keras-vae launch`, or through a cluster manager."
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    raise ValueError(
        "The strategy should be one of default, mirrored, multi-worker and tpu. "
        f"Received: {name!r}."
    )


def describe(strategy: tf.distribute.Strategy, batch_size: int) -> str:
    """Says in one line how a strategy shares out the work."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return f"One replica takes batches of {batch_size}."
    kind = "MultiWorkerMirroredStrategy" if has_workers(strategy) else type(strategy).__name__
    return (
        f"{kind}: {replicas} replicas on {num_workers(strategy)} worker(s). Each "
        f"batch of {batch_size} is shared out, {-(-batch_size // replicas)} to a replica. The "
        "learning rate is that of the whole batch, and is not scaled."
    )


def input_context(strategy: tf.distribute.Strategy) -> tf.distribute.InputContext:
    """Returns which of how many workers this process is, for `keras_vae.data`."""
    if not has_workers(strategy):
        return tf.distribute.InputContext(num_replicas_in_sync=strategy.num_replicas_in_sync)
    resolver = strategy.cluster_resolver
    tasks = resolver.cluster_spec().as_dict()
    chiefs = len(tasks.get("chief", []))
    return tf.distribute.InputContext(
        num_input_pipelines=chiefs + len(tasks.get("worker", [])),
        input_pipeline_id=resolver.task_id + (chiefs if resolver.task_type == "worker" else 0),
        num_replicas_in_sync=strategy.num_replicas_in_sync,
    )


def make_function(
    step: Callable,
    apply: Callable | None,
    *,
    metrics: list[keras.metrics.Mean],
    num_steps: int,
    run_eagerly: bool,
) -> Callable:
    """Returns what `fit` and `evaluate` call to take some steps on all replicas.

    Keras' own function fails here in three ways. With a guard, the optimizer synchronises within a
    branch, even for a single replica ("merge_call called while defining a new graph"). With several
    steps per execution it calls a compiled step in a branch inside of a loop, where TensorFlow
    loses inputs of the replicas ("You must feed a value for placeholder tensor"). And with several
    workers it takes means along the first axis of scalars ("PerReplica ... unsupported type"). This
    one runs the step itself in the loop, and adds up the metrics of all replicas behind it, once.

    Args:
        step: From a batch to what is left to do, if anything is: whether to do it, and with what.
        apply: Does it. It may synchronise replicas, which no branch inside of a step may.
        metrics: What the step updates.
        num_steps: Steps per execution; fewer are taken where the data ends.
        run_eagerly: Whether to compile nothing.

    Returns:
        A function from an iterator to the means over all replicas so far, by name.

    Raises:
        ValueError: If a metric is no running mean.
    """
    if others := [m.name for m in metrics if not isinstance(m, keras.metrics.Mean)]:
        raise ValueError(
            "Replicas that are kept alike add up running means only, `keras.metrics.Mean`. "
            f"Received: the metrics {', '.join(map(repr, others))}."
        )
    strategy = tf.distribute.get_strategy()
    step_of_batch = tf.autograph.experimental.do_not_convert(step)

    @tf.autograph.experimental.do_not_convert
    def step(batch):
        return step_of_batch(without_optionals(batch))

    @tf.autograph.experimental.do_not_convert
    def take(batch):
        outcome = strategy.run(step, args=(batch,))
        if apply is not None:
            is_wanted = strategy.experimental_local_results(outcome[0])[0]
            tf.cond(is_wanted, lambda: _run_for_effect(strategy, apply, outcome[1]), lambda: None)

    def one_step(iterator):
        take(iterator.get_next())
        return True, means()

    def some_steps(iterator):
        is_started = False
        for _ in tf.range(num_steps):
            batch = iterator.get_next_as_optional()
            if not batch.has_value():
                break
            take(batch.get_value())
            is_started = True
        return is_started, means()

    def one_batch(batch):
        take(batch)
        return means()

    def means():
        return means_over_replicas(strategy, metrics)

    run = one_step if num_steps == 1 else some_steps
    if not run_eagerly:
        run = tf.function(run, reduce_retracing=True)
        one_batch = tf.function(one_batch, reduce_retracing=True)

    def function(iterator):
        if not isinstance(iterator, tf.distribute.DistributedIterator):
            return one_batch(next(iterator))  # `train_on_batch`: the same batch on every replica
        is_started, logs = run(iterator)
        if not is_started:
            raise StopIteration
        return logs

    return function


def means_over_replicas(
    strategy: tf.distribute.Strategy, metrics: list[keras.metrics.Mean]
) -> dict[str, tf.Tensor]:
    """Returns the running means over all replicas, by name, in one operation."""
    per_replica = strategy.run(_global_means, args=(metrics,))
    return {
        name: strategy.experimental_local_results(value)[0] for name, value in per_replica.items()
    }


def mirrors(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy keeps its replicas alike, if only a single one.

    Their optimizer synchronises, which TensorFlow refuses within any branch of a step.
    """
    kinds = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.TPUStrategy,
    )
    return strategy.num_replicas_in_sync > 1 or isinstance(strategy, kinds)


def share_of_batch(data) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
    """Returns a replica's examples, their weights or `None`, and how many there are.

    Raises:
        ValueError: If there is not one weight for each example.
    """
    x, _, weight = keras.utils.unpack_x_y_sample_weight(data)
    x = tf.convert_to_tensor(x)
    num_examples = tf.shape(x)[0]
    if weight is not None:
        weight = tf.convert_to_tensor(weight)
        if weight.shape[1:].num_elements() not in (1, None):
            raise ValueError(
                "`sample_weight` should hold one number for each example, (batch,) or (batch, 1). "
                f"Received: shape={weight.shape}."
            )
        weight = tf.reshape(weight, [-1])
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return x, weight, num_examples
    # A short last batch leaves replicas without examples, on which the convolutions of oneDNN and
    # the distributions of TFP fail: those replicas get one that weighs nothing.
    weight = tf.ones([num_examples]) if weight is None else weight
    missing = tf.cast(tf.equal(num_examples, 0), tf.int32)
    x = tf.pad(x, [[0, missing], *[[0, 0]] * (x.shape.rank - 1)])
    return x, tf.pad(weight, [[0, missing]]), num_examples


def sum_over_replicas(values):
    """Returns the sums of tensors over all replicas; from within one of them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one of its job that writes what all share."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, ""):
        return True
    if "chief" in resolver.cluster_spec().as_dict():
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the replicas belong to several processes."""
    return getattr(strategy.extended, "_in_multi_worker_mode", lambda: False)()


def sum_over_workers(strategy: tf.distribute.Strategy, value: int) -> int:
    """Returns the sum of a number over all workers, each of which has to call it."""
    with strategy.scope():
        over_replicas = int(_compiled_sum(strategy)(tf.constant(value, tf.int64)))
    return over_replicas * num_workers(strategy) // strategy.num_replicas_in_sync


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has called it."""
    sum_over_workers(strategy, 0)


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    return input_context(strategy).num_input_pipelines


@functools.cache
def _compiled_sum(strategy):
    def on_replica(value):
        return sum_over_replicas(tf.identity(value))  # on the replica's own device

    @tf.function
    def total(value):
        per_replica = strategy.run(on_replica, args=(value,))
        return strategy.experimental_local_results(per_replica)[0]

    return total


@tf.autograph.experimental.do_not_convert
def _global_means(metrics):
    # Inside of a replica, a running mean is that of the replica.
    totals = tf.stack([tf.convert_to_tensor(metric.total) for metric in metrics])
    counts = tf.stack([tf.convert_to_tensor(metric.count) for metric in metrics])
    totals, counts = tf.unstack(sum_over_replicas(tf.stack([totals, counts])))
    means = tf.math.divide_no_nan(totals, counts)
    return {metric.name: mean for metric, mean in zip(metrics, tf.unstack(means), strict=True)}


def _run_for_effect(strategy, function, *args):
    strategy.run(function, args=args)
