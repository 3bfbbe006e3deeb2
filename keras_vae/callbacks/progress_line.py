"""A line for each epoch on the terminal, with what matters of a VAE."""

import atexit

import keras
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

_LABELS = {
    "elbo": "elbo {}",
    "val_elbo": "(val {})",
    "reconstruction": "reconstruction {}",
    "kl": "kl {}",
    "active_units": "active {}",
}
_WIDE = 110  # characters, from which on there is room for a bar and the time


class ProgressLine(keras.callbacks.Callback):
    """Shows a line for each epoch: ELBO, reconstruction, KL (nats) and active units.

    A line is 80 characters wide; where there is room, a bar and the time are added. Give
    `verbose=0` to `fit`, or Keras draws a bar of its own. Active units are those that a
    `LatentMonitor` before it in the list counted, after the epoch if it is over.

    Args:
        console: A `rich.console.Console`; the terminal if not given.

    Example:

    >>> import io
    >>> import numpy as np
    >>> from rich.console import Console
    >>> from keras_vae.models import DenseVAE
    >>> vae, text = DenseVAE((8, 8, 1), 2, hidden_units=(8,)), io.StringIO()
    >>> vae.compile()
    >>> callbacks = [ProgressLine(Console(file=text, width=80))]
    >>> history = vae.fit(np.zeros((64, 8, 8, 1)), verbose=0, callbacks=callbacks)
    >>> print(text.getvalue())
    epoch 1/1 elbo -... reconstruction ... kl ...
    """

    listens_to_steps = False  # see `VAE.compile`

    def __init__(self, console=None):
        super().__init__()
        self._console = console
        self._progress = None

    def on_train_begin(self, logs=None):
        self._stop()  # what an interrupted training may have left
        self._active_units = None
        epoch = TextColumn("{task.fields[epoch]}")
        numbers = TextColumn("{task.fields[numbers]}")
        self._progress = Progress(epoch, numbers, console=self._console)
        if self._progress.console.width >= _WIDE:
            bar = (BarColumn(bar_width=12), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress.columns = (epoch, *bar, numbers)
        self._progress.start()
        # Keras tells nobody of Ctrl-C, and the terminal would stay without a cursor.
        atexit.register(self._stop)

    def on_epoch_begin(self, epoch, logs=None):
        self._label = f"epoch {epoch + 1}/{self.params['epochs']}"
        steps = self.params.get("steps")
        self._task = self._progress.add_task("", total=steps, epoch=self._label, numbers="")

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params.get("steps")
        done = min(batch + 1, steps or batch + 1)  # Keras counts whole executions
        share = f" {done / steps:.0%}" if steps else f" step {done}"
        line = {"epoch": self._label + share, "numbers": self._numbers(logs)}
        self._progress.update(self._task, completed=done, **line)

    def on_epoch_end(self, epoch, logs=None):
        self._active_units = (logs or {}).get("active_units", self._active_units)
        # Only the epoch under way moves: what is over scrolls away as any output does.
        self._progress.remove_task(self._task)
        self._progress.refresh()
        line = f"{self._label} {self._numbers(logs)}"
        self._progress.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_train_end(self, logs=None):
        self._stop()

    def _stop(self):
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            atexit.unregister(self._stop)

    def _numbers(self, logs):
        logs = {**(logs or {})}
        if self._active_units is not None:
            logs.setdefault("active_units", self._active_units)
        return " ".join(
            label.format(_shown(logs[name])) for name, label in _LABELS.items() if name in logs
        )


def _shown(value):
    return f"{int(value)}" if isinstance(value, int) else f"{float(value):.2f}"
