"""What tests of figures share: tiny models, and readers of what a figure shows."""

import itertools

import keras
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from keras_vae import models


@pytest.fixture(scope="package")
def vae():
    return pronounced((6, 5, 1), 3)


@pytest.fixture(scope="package")
def color_vae():
    return pronounced((6, 5, 3), 3)


@pytest.fixture(scope="package")
def vector_vae():
    return pronounced((7,), 2)


@pytest.fixture(scope="package")
def images():
    return binary((24, 6, 5, 1))


@pytest.fixture(scope="package")
def color_images():
    return binary((24, 6, 5, 3))


@pytest.fixture(scope="package")
def vectors():
    return binary((24, 7))


@pytest.fixture
def shown():
    """Returns a reader of the 6x5 image that a figure shows at a place of its sheet."""

    def read(figure, row, column, axes=0):
        sheet = np.asarray(figure.axes[axes].images[0].get_array())
        return sheet[8 * row : 8 * (row + 1), 7 * column : 7 * (column + 1)][1:-1, 1:-1]

    return read


@pytest.fixture
def check_page():
    """Returns a check that a figure is not blank, and no text leaves it or covers another."""

    def check(figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        assert np.asarray(canvas.buffer_rgba())[..., :3].std() > 1.0
        boxes = {text: text.get_window_extent(canvas.get_renderer()) for text in texts_of(figure)}
        width, height = canvas.get_width_height()
        for text, box in boxes.items():
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
            assert inside, f"{text.get_text()!r} leaves the figure"
        for (one, box), (other, other_box) in itertools.combinations(boxes.items(), 2):
            names = f"{one.get_text()!r} covers {other.get_text()!r}"
            assert not box.padded(-1).overlaps(other_box.padded(-1)), names

    return check


def pronounced(event_shape, latent_dim):
    """Returns an untrained model that is not shy: codes far apart give images far apart."""
    keras.utils.set_random_seed(0)
    vae = models.DenseVAE(event_shape, latent_dim, hidden_units=(8,))
    for weight in vae.trainable_variables:
        weight.assign(2.0 * weight)
    return vae


def binary(shape):
    return (np.random.default_rng(0).random(shape) > 0.5).astype("float32")


def texts_of(figure):
    """Returns the texts that are drawn; ticks beyond the limits exist but are not."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden |= {
                label
                for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
                for label in (tick.label1, tick.label2)
                if not low <= tick.get_loc() <= high or not axes.axison
            }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text() and text not in hidden
    ]
