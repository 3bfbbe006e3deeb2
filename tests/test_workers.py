"""Two worker processes, joined by `TF_CONFIG` on this machine, against one process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_vae import zoo
from keras_vae.launcher import launch
from tests.images import write_set
from tests.worker import model

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 400


def two_workers(task, folder, **options):
    lines = []
    program = ["timeout", "--kill-after=5", str(SECONDS), sys.executable, str(WORKER)]
    status = launch([task, str(folder)], 2, show=lines.append, program=program, **options)
    return status, "\n".join(lines[-40:])


def results(folder, task, number):
    with np.load(folder / f"{task}_{number}.npz") as archive:
        return dict(archive)


def alone_and_both(task, folder):
    """What one process gives, and what each of two workers gives."""
    command = [sys.executable, WORKER, task, folder]
    alone = subprocess.run(command, env=os.environ, timeout=SECONDS, check=False)
    assert alone.returncode == 0
    status, lines = two_workers(task, folder)
    assert status == 0, lines
    return [results(folder, task, number) for number in ("alone", 0, 1)]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    return alone_and_both("steps", tmp_path_factory.mktemp("steps"))


def test_two_workers_take_the_same_step_as_one_process(steps):
    alone, first, second = steps
    np.testing.assert_allclose(first["one_step"], alone["one_step"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(first["one_step"], second["one_step"])


def test_uneven_batches_weigh_right_on_two_workers(steps):
    alone, first, second = steps
    np.testing.assert_allclose(first["uneven"], alone["uneven"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(first["uneven"], second["uneven"])


@pytest.mark.parametrize("what", ["history", "evaluation"])
def test_metrics_of_two_workers_are_global_means(steps, what):
    alone, first, second = steps
    np.testing.assert_allclose(first[what], alone[what], rtol=1e-5)
    np.testing.assert_array_equal(first[what], second[what])


def test_each_worker_predicts_everything_in_order(steps):
    alone, *workers = steps
    for worker in workers:
        np.testing.assert_allclose(worker["prediction"], alone["prediction"], rtol=1e-5)


def test_each_worker_has_noise_of_its_own_in_each_step(steps):
    _, first, second = steps
    draws = [worker[key] for worker in (first, second) for key in ("first", "second")]
    assert len(np.unique(draws)) == 4


@pytest.mark.slow
def test_two_workers_take_nearly_the_same_step_in_mixed_precision(tmp_path):
    alone, first, second = alone_and_both("mixed", tmp_path)
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        np.testing.assert_array_equal(first[dtype], second[dtype])
        # bfloat16 keeps 8 bits: a hundredth of the largest weights.
        np.testing.assert_allclose(first[dtype], alone["float32"], rtol=0, atol=1e-2)
        assert not np.array_equal(first[dtype], alone["float32"])


@pytest.mark.slow
def test_two_workers_that_read_files_of_their_own_give_the_means_over_all(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    write_set(tmp_path, "tfrecord", num_shards=3)
    alone, first, second = alone_and_both("files", tmp_path)
    assert len(first["own"]) != len(second["own"])
    assert sorted([*first["own"], *second["own"]]) == sorted(alone["own"])
    assert first["total"] == second["total"] == alone["total"] == 50
    for worker in (first, second):
        np.testing.assert_allclose(worker["history"], alone["history"], rtol=1e-5)


@pytest.mark.slow
def test_two_workers_train_a_recipe_into_one_folder(tmp_path):
    zoo.save(model(noise=False), tmp_path / "initial")
    *_, first, second = alone_and_both("recipe", tmp_path)
    alone, both = (tmp_path / name / "tiny" for name in ("default", "multi-worker"))
    assert first["written"] == second["written"] == str(both)
    assert [path.name for path in both.parent.iterdir()] == ["tiny"]
    weights = [zoo.load(folder).get_weights() for folder in (alone, both)]
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=5e-4)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_the_way_from_the_last_checkpoint(tmp_path):
    status, lines = two_workers("whole", tmp_path)
    assert status == 0, lines
    status, lines = two_workers("killed", tmp_path, restarts=1)
    assert status == 0, lines
    assert (tmp_path / "died").exists()
    for number in (0, 1):
        whole = results(tmp_path, "whole", number)
        killed = results(tmp_path, "killed", number)
        np.testing.assert_array_equal(killed["weights"], whole["weights"])
        # A running mean goes on from the sum over both workers, halved: its last bit may differ.
        np.testing.assert_allclose(killed["history"], whole["history"], rtol=1e-6)


@pytest.mark.slow
def test_all_workers_save_when_one_is_asked_to_stop(tmp_path):
    status, lines = two_workers("terminated", tmp_path)
    assert status == 138, lines
    newest = max((tmp_path / "checkpoints").glob("*.npz"))
    # Asked behind step 11; they agree on it behind every tenth batch, or where an epoch ends.
    assert newest.name == "checkpoint-000000000016.npz"
    status, lines = two_workers("terminated", tmp_path)
    assert status == 0, lines
    assert two_workers("whole", tmp_path)[0] == 0
    resumed, whole = (results(tmp_path, task, 0) for task in ("terminated", "whole"))
    np.testing.assert_array_equal(resumed["weights"], whole["weights"])
