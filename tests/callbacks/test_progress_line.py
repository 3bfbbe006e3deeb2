"""The line that shows training, as a terminal would have it."""

import io
import re

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from keras_vae.callbacks import LatentMonitor, ProgressLine


class Refresh(keras.callbacks.Callback):
    """Draws after every step, where a clock would draw ten times a second."""

    def __init__(self, line):
        super().__init__()
        self.line = line

    def on_train_batch_end(self, batch, logs=None):
        self.line._progress.refresh()


@pytest.fixture
def fit(make_vae, images):
    """Returns a function that trains two epochs of four steps, and gives history and lines."""

    def run(*before, width=80, **options):
        vae, text = make_vae(), io.StringIO()
        vae.compile()
        callbacks = [*before, ProgressLine(Console(file=text, width=width))]
        options = {"epochs": 2, "batch_size": 8, "verbose": 0} | options
        history = vae.fit(images, callbacks=callbacks, **options).history
        return history, [line for line in text.getvalue().splitlines() if line.strip()]

    return run


def test_each_epoch_has_a_line_with_its_numbers(fit):
    history, lines = fit(validation_split=0.25, batch_size=6)
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch {epoch + 1}/2 elbo")
        assert len(line) <= 80
        for name in ("elbo", "reconstruction", "kl", "val_elbo"):
            shown = re.search(rf"{name.removesuffix('_elbo')} (-?[\d.]+)", line)
            assert float(shown[1]) == pytest.approx(history[name][epoch], abs=0.006)


def test_active_units_come_from_a_monitor_before_it(fit, images):
    history, lines = fit(LatentMonitor(images))
    for active, line in zip(history["active_units"], lines, strict=True):
        assert line.rstrip().endswith(f"active {active}")


def test_without_a_monitor_no_active_units_are_claimed(fit):
    _, lines = fit()
    assert "active" not in "".join(lines)


@pytest.mark.parametrize(("width", "share"), [(80, " 100% elbo"), (120, "4/4")])
def test_the_epoch_under_way_moves_on_a_terminal_and_is_cleared(make_vae, images, width, share):
    vae, text = make_vae(), io.StringIO()
    vae.compile()
    console = Console(file=text, width=width, force_terminal=True)

    line = ProgressLine(console)
    vae.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=[line, Refresh(line)])
    moved = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text.getvalue())
    assert share in moved
    # Cleared before the whole line is printed, so that it stands there once.
    assert moved.count("epoch 1/2 elbo") == 1
    assert moved.count("epoch 2/2 elbo") == 1


def test_no_more_steps_are_shown_than_there_are():
    text = io.StringIO()
    line = ProgressLine(Console(file=text, width=80, force_terminal=True))
    line.set_params({"epochs": 1, "steps": 4})
    line.on_train_begin()
    line.on_epoch_begin(0)
    line.on_train_batch_end(31, {"elbo": -1.0})  # Keras, where 32 steps are taken at a time
    line._progress.refresh()
    line.on_train_end()
    assert "epoch 1/1 100% elbo -1.00" in text.getvalue()


def test_an_interrupted_training_gives_the_cursor_back(run_python):
    code = """
import io, sys
import keras, numpy as np
from rich.console import Console
from keras_vae import DenseVAE
from keras_vae.callbacks import ProgressLine

class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt

vae = DenseVAE((4, 4, 1), 2, hidden_units=(4,))
vae.compile()
line = ProgressLine(Console(file=sys.stdout, force_terminal=True, width=80))
try:
    vae.fit(np.zeros((8, 4, 4, 1)), verbose=0, callbacks=[line, Interrupt()])
except KeyboardInterrupt:
    print("interrupted")
"""
    output = run_python(code)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert hide in output.split("interrupted")[0]
    assert show in output.split("interrupted")[1]


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # Keras' habit
def test_data_of_unknown_length_is_counted_in_steps(make_vae, images):
    vae, text = make_vae(), io.StringIO()
    vae.compile()
    dataset = tf.data.Dataset.from_tensor_slices(images).filter(lambda _: True).batch(8)
    console = Console(file=text, width=80, force_terminal=True)

    line = ProgressLine(console)
    vae.fit(dataset, verbose=0, callbacks=[line, Refresh(line)])
    assert "epoch 1/1 step 4" in text.getvalue()
    assert "epoch 1/1 elbo" in text.getvalue()
