"""Training that is killed, by steps and in the midst of a write, and goes on to the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.resume import ExactResume, Preempted

STEPS = 52


@pytest.fixture(scope="module")
def train():
    """Returns a function that trains in a process of its own, and may let it die."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("killable.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    ) as process:

        def train(folder, **plan):
            process.stdin.write(json.dumps({"folder": str(folder), **plan}) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield train
        process.stdin.close()


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The same training, never interrupted."""
    result = train(tmp_path_factory.mktemp("whole") / "checkpoints")
    assert result["status"] == 0
    assert result["step"] == STEPS
    return result


def survives(train, folder, kill_points, **plan):
    for step in kill_points:
        assert train(folder, step=int(step), **plan)["status"] == -9
    return train(folder, **plan)


def test_three_kills_change_no_bit(train, whole, tmp_path):
    # Before the first checkpoint, within an epoch, and right at the end of one.
    assert survives(train, tmp_path, [2, 17, 26]) == whole


def test_kills_change_no_bit_where_plateaus_reduce_the_learning_rate(train, tmp_path):
    whole = train(tmp_path / "whole", plateau=True)
    assert whole["step"] == STEPS
    assert len(set(whole["history"]["learning_rate"])) > 1
    # Within each epoch but the first.
    assert survives(train, tmp_path / "killed", [20, 30, 45], plateau=True) == whole


@pytest.mark.slow
def test_twenty_kills_at_random_steps_change_no_bit(train, whole, tmp_path):
    kill_points = np.sort(np.random.default_rng(6).choice(STEPS, 20, replace=False) + 1)
    assert survives(train, tmp_path, kill_points) == whole


@pytest.mark.slow
def test_a_kill_at_any_of_six_random_steps_changes_no_bit(train, whole, tmp_path):
    for step in np.random.default_rng(7).choice(STEPS, 6, replace=False) + 1:
        assert survives(train, tmp_path / str(step), [step]) == whole


def test_a_kill_while_a_checkpoint_is_written_changes_no_bit(train, whole, tmp_path):
    assert train(tmp_path, write=20)["status"] == -9
    (left,) = (path for path in tmp_path.iterdir() if path.name.endswith(".tmp"))
    os.utime(left, (0, 0))  # a younger one may be another process' own
    assert train(tmp_path) == whole
    assert not left.exists()


def test_a_full_disk_leaves_the_checkpoints_as_they_were(train, whole, tmp_path):
    result = train(tmp_path, full=20)
    assert result["status"] == 1
    assert "File too large" in result["error"]
    # Saved behind steps 13 + 3 and 13 + 6; the one behind step 22 did not fit.
    assert [path.name[-6:] for path in sorted(tmp_path.iterdir())] == ["16.npz", "19.npz"]
    assert train(tmp_path) == whole


def test_sigterm_saves_and_ends_with_its_own_status(train, whole, tmp_path):
    result = train(tmp_path, terminate=15)
    assert result == {"status": Preempted.STATUS} == {"status": 138}
    assert (tmp_path / "checkpoint-000000000015.npz").exists()
    assert train(tmp_path) == whole


def test_a_damaged_checkpoint_is_passed_over(train, whole, tmp_path):
    train(tmp_path, step=30)
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert train(tmp_path) == whole
    assert newest.with_name(newest.name + ".unreadable").exists()


# Within this process


def fit(
    make_vae,
    folder,
    *,
    epochs=2,
    steps_per_execution=1,
    callbacks=(),
    stateful=(),
    units=8,
    **options,
):
    keras.utils.set_random_seed(0)
    vae = make_vae(hidden_units=(units,))
    vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=steps_per_execution)
    epoch = tf.Variable(0, dtype=tf.int64)
    gray = np.random.default_rng(0).random((30, 8, 8, 1), np.float32)
    batches = data.batches(gray, 4, binarization="dynamic", shuffle=True, epoch=epoch)
    resume = ExactResume(folder, epoch=epoch, callbacks=stateful, **options)
    try:
        history = vae.fit(batches, epochs=epochs, callbacks=[*callbacks, resume], verbose=0)
    finally:
        resume.close()
    return vae, history.history


class CrashAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step) >= self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_history_and_weights_are_whole_after_a_crash(make_vae, tmp_path, steps_per_execution):
    # Eight batches an epoch: with three steps per execution, the last one is not full.
    options = {"steps_per_execution": steps_per_execution, "every_steps": 2}
    vae, history = fit(make_vae, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(make_vae, tmp_path / "crashed", callbacks=[CrashAt(13)], **options)
    again, history_again = fit(make_vae, tmp_path / "crashed", **options)
    assert history_again == history
    for one, other in zip(vae.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_broken_off_while_it_passes_over_leaves_nothing_behind(make_vae, tmp_path):
    options = {"steps_per_execution": 1, "every_steps": 2}
    with pytest.raises(KeyboardInterrupt):
        fit(make_vae, tmp_path, callbacks=[CrashAt(5)], **options)
    models = []

    class CrashAtOnce(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            models.append(self.model)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_vae, tmp_path, callbacks=[CrashAtOnce()], **options)
    (vae,) = models
    before = int(vae.step)
    vae.fit(np.zeros((20, 8, 8, 1), np.float32), batch_size=4, verbose=0)
    assert before == 4
    assert int(vae.step) == before + 5


def test_training_that_has_ended_is_not_repeated(make_vae, tmp_path):
    first, history = fit(make_vae, tmp_path)
    again, history_again = fit(make_vae, tmp_path)
    assert int(again.step) == int(first.step) == 16
    assert history_again == history


def test_more_epochs_go_on_from_the_last(make_vae, tmp_path):
    fit(make_vae, tmp_path, epochs=1)
    vae, history = fit(make_vae, tmp_path, epochs=2)
    whole, whole_history = fit(make_vae, tmp_path / "whole", epochs=2)
    assert history == whole_history
    np.testing.assert_array_equal(vae.get_weights()[0], whole.get_weights()[0])


def test_early_stopping_that_stopped_stays_stopped(make_vae, tmp_path):
    for _ in range(2):
        stopping = keras.callbacks.EarlyStopping("loss", mode="max", patience=2)
        options = {"callbacks": [stopping], "stateful": [stopping], "epochs": 9}
        vae, history = fit(make_vae, tmp_path, **options)
        assert int(vae.step) == 3 * 8
        assert len(history["loss"]) == 3


@pytest.mark.parametrize(
    ("settings", "learning_rates"),
    [
        ({"patience": 2}, [1e-2, 1e-2, 1e-2, 1e-3, 1e-3]),
        ({"patience": 1, "cooldown": 2}, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4]),
    ],
)
def test_a_plateau_waits_and_cools_down_as_if_never_interrupted(
    make_vae, tmp_path, settings, learning_rates
):
    # To its mind, no epoch is better than the first. It starts anew behind each epoch.
    for epochs in range(1, 6):
        reducing = keras.callbacks.ReduceLROnPlateau("loss", mode="max", **settings)
        options = {"callbacks": [reducing], "stateful": [reducing], "epochs": epochs}
        _, history = fit(make_vae, tmp_path, **options)
    assert history["learning_rate"] == pytest.approx(learning_rates)


def test_other_callbacks_are_refused(make_vae, tmp_path):
    stopping = keras.callbacks.EarlyStopping("loss", mode="max", patience=2)
    reducing = keras.callbacks.ReduceLROnPlateau("loss", mode="max", patience=2)
    fit(make_vae, tmp_path, epochs=1, callbacks=[stopping, reducing], stateful=[stopping, reducing])
    message = r"callbacks \['EarlyStopping', 'ReduceLROnPlateau'\]: .* Received: callbacks="
    for stateful in ([stopping], [reducing, stopping]):
        with pytest.raises(ValueError, match=message):
            fit(make_vae, tmp_path, callbacks=stateful, stateful=stateful)


def test_training_does_not_start_afresh_where_no_checkpoint_can_be_read(make_vae, tmp_path):
    fit(make_vae, tmp_path, epochs=2)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    left = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="None of the 2 checkpoints"):
        fit(make_vae, tmp_path, epochs=2)
    assert sorted(tmp_path.iterdir()) == left


def test_a_model_trains_again_after_an_interruption_while_batches_are_passed_over(
    make_vae, tmp_path
):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make_vae, tmp_path, callbacks=[CrashAt(5)], every_steps=2)
    vae = make_vae(hidden_units=(8,))
    vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=1)
    x = np.zeros((32, 8, 8, 1), np.float32)
    options = {"batch_size": 4, "epochs": 1, "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        vae.fit(x, **options, callbacks=[Interrupt(), ExactResume(tmp_path)])
    vae.fit(x, **options, callbacks=[ExactResume(tmp_path / "new")])
    assert int(vae.step) == 4 + 8


@pytest.mark.parametrize(
    ("steps_per_execution", "agreed"), [(1, [10, 20]), (4, [12, 20]), (32, [32, 64, 96])]
)
def test_workers_agree_behind_every_tenth_batch_or_the_next_execution(
    make_vae, tmp_path, monkeypatch, steps_per_execution, agreed
):
    resume = ExactResume(tmp_path)
    vae = make_vae()
    vae.compile(steps_per_execution=steps_per_execution)
    resume.set_model(vae)
    resume._strategy, resume._is_asked_to_stop, asked = tf.distribute.get_strategy(), False, []
    monkeypatch.setattr("keras_vae.resume.has_workers", lambda _: True)
    monkeypatch.setattr("keras_vae.resume.sum_over_workers", lambda *_: asked.append(done) or 0)
    for done in range(steps_per_execution, max(agreed) + 1, steps_per_execution):
        resume._should_stop(done - 1)
    assert asked == agreed


def test_the_next_training_starts_at_its_beginning(make_vae, tmp_path):
    fit(make_vae, tmp_path, epochs=1)
    vae = make_vae(hidden_units=(8,))
    vae.compile(keras.optimizers.Adam(0.01))
    x = np.zeros((4, 8, 8, 1), np.float32)
    options = {"callbacks": [CrashAt(9), ExactResume(tmp_path)], "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        vae.fit(np.zeros((32, 8, 8, 1), np.float32), batch_size=4, epochs=2, **options)
    assert len(vae.fit(x, epochs=1, verbose=0).history["loss"]) == 1


def test_another_model_is_refused(make_vae, tmp_path):
    fit(make_vae, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds the training of another model or optimizer"):
        fit(make_vae, tmp_path, units=9)


def test_other_steps_per_execution_are_refused_within_an_epoch(make_vae, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make_vae, tmp_path, callbacks=[CrashAt(7)], every_steps=1)
    with pytest.raises(ValueError, match=r"with steps_per_execution=1, .* Received: .*=2"):
        fit(make_vae, tmp_path, steps_per_execution=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_steps": 0}, "every_steps=0"),
        ({"keep": 1}, "keep=1"),
        ({"callbacks": [keras.callbacks.Callback()]}, "Received: a Callback"),
        (
            {"callbacks": [keras.callbacks.EarlyStopping(restore_best_weights=True)]},
            "restore_best_weights=True",
        ),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ExactResume(tmp_path, **options)
