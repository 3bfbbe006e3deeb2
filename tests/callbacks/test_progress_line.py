"""The line that shows training, as a terminal would have it."""

import io
import re

import pytest
from rich.console import Console

from keras_vae.callbacks import LatentMonitor, ProgressLine


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


@pytest.mark.parametrize(("width", "middle"), [(80, "/2 elbo"), (120, "4/4")])
def test_each_epoch_has_a_line_with_its_numbers(fit, width, middle):
    history, lines = fit(width=width, validation_split=0.25, batch_size=6)
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch {epoch + 1}/2")
        assert middle in line
        assert "…" not in line
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


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # Keras' habit
def test_data_of_unknown_length_is_counted(make_vae, images):
    import tensorflow as tf

    vae, text = make_vae(), io.StringIO()
    vae.compile()
    dataset = tf.data.Dataset.from_tensor_slices(images).filter(lambda _: True).batch(8)
    vae.fit(dataset, verbose=0, callbacks=[ProgressLine(Console(file=text, width=160))])
    assert "4/4" in text.getvalue()
