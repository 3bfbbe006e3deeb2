"""Training that can be killed at any time and ends with the same weights."""

import copy
import logging
import os
import signal
import threading
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_vae.checkpoints import Checkpoint, CheckpointFolder
from keras_vae.replicas import (
    has_workers,
    is_chief,
    num_workers,
    sum_over_workers,
    wait_for_workers,
)

# What Keras' own callbacks carry from epoch to epoch.
_CARRIED = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}
_BATCHES_BETWEEN_AGREEMENTS = 10

_logger = logging.getLogger(__name__)


class Preempted(SystemExit):
    """Training was asked to stop by SIGTERM, and has saved where it is.

    Not caught, it ends the process with status 138: a number from 128 on, which cluster managers
    take for "start it again", and other than the 143 of a process that SIGTERM killed unsaved.
    """

    STATUS = 138

    def __init__(self):
        super().__init__(self.STATUS)


class WorkerLost(SystemExit):
    """Another worker of the training is gone, and this one cannot go on without it.

    Not caught, it ends the process with the status of `Preempted`: all are to be started again, and
    go on from the last checkpoint.
    """

    def __init__(self):
        super().__init__(Preempted.STATUS)


class ExactResume(keras.callbacks.Callback):
    """Saves training as it goes, and goes on from there, to the same weights bit for bit.

    A checkpoint holds the weights, the optimizer with its step, its schedule and its averages, the
    states of all random generators, the running means, the position in the epoch, the history, and
    what other callbacks carry along. When `fit` is called again with the same folder, data and
    callbacks, it goes on behind the last batch that was saved. What the batches before it in the
    epoch would have been is read and passed over.

    Exact means: the same bits, on the same processor with the same number of threads, if the data
    are the same in every epoch of the same number: `keras_vae.data.batches(..., epoch=epoch)` are,
    also with shuffling and binarization. Under several replicas, the weights are the same bits; the
    metrics of an epoch that was broken off may differ in the last one.

    That holds for data that end with an epoch. With `steps_per_epoch`, Keras reads one stream on
    and on, and what goes on later begins it anew.

    Checkpoints are written beside the training. One that cannot be written, as on a full disk,
    stops it with an `OSError` when the next is due, and leaves those that are there.

    SIGTERM, by which clusters and people ask a process to end, saves after the batch under way and
    raises `Preempted`; a second one ends the process at once. Under
    `tf.distribute.MultiWorkerMirroredStrategy`, the first worker writes, and the folder should be
    one that all workers see.

    Args:
        folder: Where the checkpoints go.
        epoch: The variable that was given to `data.batches`; it is set in every epoch.
        every_steps: Optimizer steps after which to save within an epoch; it is saved at the end of
            every epoch in any case.
        callbacks: Other callbacks whose state is saved: Keras' `EarlyStopping`, `ModelCheckpoint`
            and `ReduceLROnPlateau`, and those with `get_state()`, JSON, and `set_state(state)`. In
            the list for `fit`, they stand before this one.
        keep: How many checkpoints to keep, at least 2.

    Attributes:
        history: The logs of every epoch so far, one dict each, with its number as `epoch`.

    Raises:
        ValueError: If an argument is out of its range, the folder is the address of a bucket, or a
            callback keeps its state to itself.

    Example:

    >>> import tempfile
    >>> from keras_vae import DenseVAE, data
    >>> folder = tempfile.mkdtemp()
    >>> with tf.device("CPU:0"):  # where tf.data reads it
    ...     epoch = tf.Variable(0, dtype=tf.int64)
    >>> images = np.zeros((8, 8, 8, 1), np.float32)
    >>> batches = data.batches(images, 4, shuffle=True, epoch=epoch)
    >>> for epochs in (1, 2):  # the second time, only the second epoch is run
    ...     vae = DenseVAE(event_shape=(8, 8, 1), latent_dim=2, hidden_units=(8,))
    ...     vae.compile("adam")
    ...     resume = ExactResume(folder, epoch=epoch)
    ...     _ = vae.fit(batches, epochs=epochs, callbacks=[resume], verbose=0)
    >>> int(vae.step), [entry["epoch"] for entry in resume.history]
    (4, [0, 1])
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        epoch: tf.Variable | None = None,
        every_steps: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        keep: int = 2,
    ):
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(
                f"`every_steps` should be at least 1. Received: every_steps={every_steps!r}."
            )
        self.folder = CheckpointFolder(folder, keep=keep)
        self.epoch = epoch
        self.every_steps = every_steps
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if getattr(callback, "restore_best_weights", False):
                raise ValueError(
                    "EarlyStopping keeps the best weights in memory, where a kill loses them: save "
                    "them with ModelCheckpoint(save_best_only=True) instead. "
                    "Received: restore_best_weights=True."
                )
            if not hasattr(callback, "get_state") and not _carried(callback):
                raise ValueError(
                    "`callbacks` should be Keras' EarlyStopping, ModelCheckpoint or "
                    "ReduceLROnPlateau, or have `get_state` and `set_state`. "
                    f"Received: a {type(callback).__name__}."
                )
        self.history = []
        self._writing = self._write_error = None

    # What fit calls

    def on_train_begin(self, logs=None):
        self.history, self._skip, self._restored = [], 0, None
        self._epoch, self._last_saved, self._is_asked_to_stop = 0, 0, False
        self._strategy = self.model.distribute_strategy
        self._catch_sigterm()
        self._end_passing_over()  # where it was broken off
        checkpoint = self.folder.read()
        self._check_agreement(checkpoint)
        if is_chief(self._strategy):
            self.folder.tidy()
        if checkpoint is not None:
            self._restore(checkpoint)
        self.model._initial_epoch = self._epoch  # as Keras' own BackupAndRestore does

    def on_epoch_begin(self, epoch, logs=None):
        self.model._initial_epoch = 0  # Keras has read it, and keeps it where `fit` raises
        self._epoch = epoch
        if self.epoch is not None:
            self.epoch.assign(epoch)
        if self._restored is None:
            self._last_saved = 0
            return
        self._fill_history()
        if self._skip:  # Keras has just reset the running means.
            self._assign(_metric_variables(self.model), self._restored)
            self._pass_over(self._skip)
        self._restored = None

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        if done <= self._skip:
            return
        if self._should_stop(batch):
            self._save(self._epoch, done)
            self._stop()
        if self.every_steps is not None and done - self._last_saved >= self.every_steps:
            self._save(self._epoch, done)

    def on_epoch_end(self, epoch, logs=None):
        numbers = {name: _as_number(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch, **numbers})
        self._skip = 0
        self._save(epoch + 1, 0)
        if self._should_stop(None):
            self._stop()

    def on_train_end(self, logs=None):
        self._finish_writing()
        if self._restored is not None:  # there was nothing left to do
            self._fill_history()
        self.model._initial_epoch = 0
        self.close()

    def close(self) -> None:
        """Ends what goes on beside: also when training did not come to its end, call this."""
        self._release_sigterm()
        if self._writing is not None:
            self._writing.join()

    # Saving

    def _release_sigterm(self):
        if getattr(self, "_previous_handler", None) is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def _save(self, epoch, batch):
        self._finish_writing()
        # Workers add up the running means while they read them: all have to.
        variables = _variables(self.model)
        if batch:
            variables |= _metric_variables(self.model)
        arrays = {
            name: np.array(keras.ops.convert_to_numpy(value)) for name, value in variables.items()
        }
        state = {
            "epoch": epoch,
            "batch": batch,
            "steps_per_execution": self.model.steps_per_execution,
            "stop_training": self.model.stop_training,
            "history": self.history,
            "callbacks": [[type(c).__name__, _state_of(c)] for c in self.callbacks],
        }
        self._last_saved = batch
        if is_chief(self._strategy):
            # A guarded model counts steps that its optimizer was kept from.
            steps = getattr(self.model, "step", self.model.optimizer.iterations)
            number = int(keras.ops.convert_to_numpy(steps))
            self._start_writing(Checkpoint(number, arrays, copy.deepcopy(state)))

    def _start_writing(self, checkpoint):
        # Beside the training, which has no need to wait for the disk.
        def write():
            try:
                self.folder.write(checkpoint)
            except Exception as error:  # for the thread that trains to raise
                self._write_error = error

        self._writing = threading.Thread(target=write)
        self._writing.start()

    def _finish_writing(self):
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        error, self._write_error = self._write_error, None
        if error is not None:
            raise error

    # Going on

    def _restore(self, checkpoint):
        arrays, state = checkpoint.arrays, checkpoint.state
        variables = _variables(self.model)
        expected = {name: tuple(variable.shape) for name, variable in variables.items()}
        found = {
            name: array.shape for name, array in arrays.items() if not name.startswith("metric")
        }
        if found != expected:
            different = sorted({*expected.items()} ^ {*found.items()})
            raise ValueError(
                f"{self.folder.path} holds the training of another model or optimizer, which "
                f"differs in {different[0][0]!r}, shape {different[0][1]}. Delete the folder to "
                "start afresh, or give the model that it holds to go on."
            )
        steps = self.model.steps_per_execution
        if state["batch"] and state["steps_per_execution"] != steps:
            raise ValueError(
                f"{self.folder.path} holds a training with steps_per_execution="
                f"{state['steps_per_execution']}, broken off within an epoch: go on with the same. "
                f"Received: steps_per_execution={steps}."
            )
        found = [name for name, _ in state["callbacks"]]
        given = [type(callback).__name__ for callback in self.callbacks]
        if found != given:
            raise ValueError(
                f"{self.folder.path} holds a training with the callbacks {found}: go on with the "
                f"same, in the same order. Received: callbacks={given}."
            )
        self._assign(variables, arrays)
        for callback, (_, callback_state) in zip(self.callbacks, state["callbacks"], strict=True):
            _set_state(callback, callback_state)
        self._restored, self._skip = arrays, state["batch"]
        self._epoch, self._last_saved = state["epoch"], state["batch"]
        self.history = state["history"]
        if state["stop_training"]:  # it had come to its end, early
            self._epoch = self.params["epochs"]
        _logger.info(
            "Going on from step %d: epoch %d, behind batch %d.",
            checkpoint.number,
            state["epoch"] + 1,
            state["batch"],
        )

    def _fill_history(self):
        # Keras has begun its own anew.
        keras_history = self.model.history
        keras_history.epoch[:] = [entry["epoch"] for entry in self.history]
        for entry in self.history:
            for name in entry.keys() - {"epoch"}:
                keras_history.history.setdefault(name, []).append(entry[name])

    def _assign(self, variables, arrays):
        with self._strategy.scope():
            for name, variable in variables.items():
                variable.assign(arrays[name])

    def _pass_over(self, num_batches):
        """Lets `fit` walk through the batches that it has seen, and do nothing with them."""
        train_function, steps = self.model.train_function, self.model.steps_per_execution
        logs = {metric.name: metric.result() for metric in self.model.metrics}
        remaining = num_batches

        def pass_over(iterator):
            nonlocal remaining
            for _ in range(min(steps, remaining)):
                next(iterator, None)
            remaining -= steps
            if remaining <= 0:
                self._end_passing_over()
            return logs

        pass_over.in_place_of = train_function
        self.model.train_function = pass_over

    def _end_passing_over(self):
        function = self.model.train_function
        self.model.train_function = getattr(function, "in_place_of", function)

    # SIGTERM

    def _catch_sigterm(self):
        self.close()
        if threading.current_thread() is not threading.main_thread():
            return

        def handler(number, frame):
            self._release_sigterm()  # the next one is for whom it was before
            self._is_asked_to_stop = True
            _logger.warning("SIGTERM: saving after this batch.")

        self._previous_handler = signal.signal(signal.SIGTERM, handler) or signal.SIG_DFL

    def _should_stop(self, batch):
        if not has_workers(self._strategy):
            return self._is_asked_to_stop
        # All have to stop behind the same batch, whoever was asked to.
        if batch is not None:
            before = max(0, batch + 1 - self.model.steps_per_execution)
            if (batch + 1) // _BATCHES_BETWEEN_AGREEMENTS == before // _BATCHES_BETWEEN_AGREEMENTS:
                return False
        return sum_over_workers(self._strategy, int(self._is_asked_to_stop)) > 0

    def _stop(self):
        self._finish_writing()
        # Nobody leaves before the first has written: whoever sees one leave stops the others.
        wait_for_workers(self._strategy)
        self.close()
        raise Preempted

    def _check_agreement(self, checkpoint):
        number = 0 if checkpoint is None else checkpoint.number
        if sum_over_workers(self._strategy, number) != number * num_workers(self._strategy):
            raise ValueError(
                f"The workers see different checkpoints in {self.folder.path}: it should be a "
                f"folder that all of them share. Received: step {number} here."
            )


def _variables(model):
    # By position: Keras numbers the names of layers through, model after model.
    owners = {"model": model, "optimizer": model.optimizer}
    return {
        f"{owner}.{index}": variable
        for owner in owners
        for index, variable in enumerate(owners[owner].variables)
    }


def _metric_variables(model):
    return {
        f"metric.{metric.name}.{i}": variable
        for metric in model.metrics
        for i, variable in enumerate(metric.variables)
    }


def _carried(callback):
    for kind, names in _CARRIED.items():
        if isinstance(callback, kind):
            return names
    return ()


def _state_of(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: _as_number(getattr(callback, name, None)) for name in _carried(callback)}


def _set_state(callback, state):
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name, value in state.items():
        setattr(callback, name, value)


def _as_number(value):
    return np.asarray(value).item() if value is not None else None
