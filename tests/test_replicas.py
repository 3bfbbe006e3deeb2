"""Who writes, who reads what, and a recipe that is trained on two replicas."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import replicas, zoo
from keras_vae.zoo import training
from tests.strategies import mirrored
from tests.worker import model, recipe

WITH_CHIEF = {"chief": 1, "worker": 2}


def strategy_of(cluster, task_type, task_id, num_replicas=2):
    """Stands in for one of several processes, which need no network to know their places."""
    addresses = {
        job: [f"{job}{index}:2222" for index in range(number)] for job, number in cluster.items()
    }
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(addresses), task_type=task_type, task_id=task_id
    )
    return SimpleNamespace(
        cluster_resolver=resolver,
        num_replicas_in_sync=num_replicas,
        extended=SimpleNamespace(_in_multi_worker_mode=lambda: True),
    )


@pytest.mark.parametrize(
    ("cluster", "task", "is_chief"),
    [
        ({"worker": 2}, ("worker", 0), True),
        ({"worker": 2}, ("worker", 1), False),
        (WITH_CHIEF, ("chief", 0), True),
        (WITH_CHIEF, ("worker", 0), False),
        (WITH_CHIEF, ("worker", 1), False),
        ({"worker": 2, "evaluator": 1}, ("evaluator", 0), False),
        ({}, ("", 0), True),
        ({}, (None, None), True),
    ],
)
def test_one_process_writes(cluster, task, is_chief):
    assert replicas.is_chief(strategy_of(cluster, *task)) == is_chief


@pytest.mark.parametrize("strategy", [tf.distribute.get_strategy, mirrored])
def test_a_single_process_writes_and_reads_everything(strategy):
    strategy = strategy()
    assert replicas.is_chief(strategy)
    context = replicas.input_context(strategy)
    assert (context.num_input_pipelines, context.input_pipeline_id) == (1, 0)
    assert context.num_replicas_in_sync == strategy.num_replicas_in_sync
    assert replicas.num_workers(strategy) == 1
    assert replicas.sum_over_workers(strategy, 7) == 7


@pytest.mark.parametrize("cluster", [{"worker": 1}, {"worker": 3}, WITH_CHIEF])
def test_every_process_reads_a_share_of_its_own(cluster):
    tasks = [(job, index) for job, number in cluster.items() for index in range(number)]
    strategies = [strategy_of(cluster, *task, num_replicas=4) for task in tasks]
    contexts = [replicas.input_context(strategy) for strategy in strategies]
    assert [context.input_pipeline_id for context in contexts] == list(range(len(tasks)))
    assert {context.num_input_pipelines for context in contexts} == {len(tasks)}
    assert {context.num_replicas_in_sync for context in contexts} == {4}
    assert {replicas.num_workers(strategy) for strategy in strategies} == {len(tasks)}


def test_a_strategy_goes_by_its_name():
    assert replicas.make_strategy("default") is tf.distribute.get_strategy()
    with pytest.raises(ValueError, match="default, mirrored, .* Received: 'miror'"):
        replicas.make_strategy("miror")


@pytest.mark.parametrize("config", [None, ""])
def test_workers_need_to_know_each_other(monkeypatch, config):
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="needs the environment variable TF_CONFIG"):
        replicas.make_strategy("multi-worker")


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        (tf.distribute.get_strategy, "One replica takes batches of 10."),
        (
            mirrored,
            "MirroredStrategy: 2 replicas on 1 worker(s). Each batch of 10 is shared out, 5 ",
        ),
        (
            lambda: strategy_of({"worker": 2}, "worker", 0, num_replicas=4),
            "MultiWorkerMirroredStrategy: 4 replicas on 2 worker(s). Each batch of 10 is shared "
            "out, 3 to a replica. The learning rate is that of the whole batch",
        ),
    ],
    ids=["default", "mirrored", "multi-worker"],
)
def test_a_strategy_is_described_in_a_line(strategy, line):
    assert replicas.describe(strategy(), 10).startswith(line)


def test_a_recipe_is_trained_on_two_replicas_to_the_weights_of_one(tmp_path, monkeypatch):
    compile_model, strategies = training._compile, []

    def watch(vae, *args):
        strategies.append(vae.distribute_strategy)
        compile_model(vae, *args)

    monkeypatch.setattr(training, "_compile", watch)
    initial = zoo.save(model(noise=False), tmp_path / "initial")
    one, two = (
        zoo.train(recipe(initial), tmp_path / name, strategy=strategy, verbose=0)
        for name, strategy in (("one", "default"), ("two", mirrored()))
    )
    assert [strategy.num_replicas_in_sync for strategy in strategies] == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["initial", "one", "two"]
    for weight, other in zip(*(zoo.load(path).get_weights() for path in (one, two)), strict=True):
        # Adam moves them by 3e-2; where few images are lit, it divides rounding by little.
        np.testing.assert_allclose(weight, other, rtol=0, atol=5e-4)
    results, others = (zoo.info(path).results for path in (one, two))
    for key in ("num_images", "epochs", "kept_epoch"):
        assert others["training"][key] == results["training"][key]
    validation = results["training"]["validation_elbo"]
    assert others["training"]["validation_elbo"] == pytest.approx(validation, abs=1e-2)
    test = results["test"]["elbo"]["mean"]
    assert others["test"]["elbo"]["mean"] == pytest.approx(test, abs=1e-2)
