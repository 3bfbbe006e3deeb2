"""Figures of images: reconstructions, samples, and a page of everything."""

import numpy as np

from keras_vae.plots.canvas import blank_sheet, draw_sheet
from keras_vae.plots.latents import decoded_grid

_ROWS, _COLUMNS = 6, 12


def reconstructions(model, x: np.ndarray):
    """Shows examples above their reconstructions.

    Args:
        model: A VAE of images.
        x: A few examples. Shape (batch, height, width, channels).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the images have neither one nor three channels.
    """
    figure = blank_sheet(model, len(x), 2)
    title = "inputs, and their reconstructions below"
    draw_sheet(figure.subplots(), _rows_of_inputs(model, x), title)
    return figure


def samples(model, *, seed: int | None = None):
    """Shows images decoded from the prior.

    Args:
        model: A VAE of images.
        seed: Any integer; the same one gives the same images.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the images have neither one nor three channels.
    """
    figure = blank_sheet(model, _COLUMNS, _ROWS)
    draw_sheet(figure.subplots(), _rows_of_samples(model, seed), "samples from the prior")
    return figure


def contact_sheet(model, x: np.ndarray, *, seed: int | None = None):
    """Shows on one page: inputs, reconstructions, samples, interpolations and a latent grid.

    Args:
        model: A VAE of images with a standard normal prior.
        x: At least 24 examples. Shape (batch, height, width, channels).
        seed: Any integer; the same one gives the same samples.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are too few examples, or the images have neither one nor three
            channels.
    """
    if len(x) < 2 * _COLUMNS:
        raise ValueError(
            f"A contact sheet needs at least {2 * _COLUMNS} examples. Received: {len(x)}."
        )
    figure = blank_sheet(model, 2 * _COLUMNS, 10, margin=(0.2, 0.64))
    axes = figure.subplots(2, 2, height_ratios=(4, 6))
    inputs = np.concatenate(
        [_rows_of_inputs(model, x[:_COLUMNS]), _rows_of_inputs(model, x[_COLUMNS:][:_COLUMNS])]
    )
    draw_sheet(axes[0, 0], inputs, "inputs, and their reconstructions below")
    between = model.interpolate(x[:4], x[4:8], _COLUMNS)
    draw_sheet(axes[0, 1], between, "from the left input to the right one")
    draw_sheet(axes[1, 0], _rows_of_samples(model, seed), "samples from the prior")
    rows, (first, second) = decoded_grid(model, x, _ROWS, _COLUMNS)
    varied = f"latents {first} (across) and {second} (up)"
    if second is None:
        varied = f"latent {first}, row by row"
    draw_sheet(axes[1, 1], rows, f"{varied}, 5% to 95% of the prior")
    return figure


def _rows_of_inputs(model, x):
    return np.stack([x, model.reconstruct(x)])


def _rows_of_samples(model, seed):
    images = model.sample(_ROWS * _COLUMNS, seed=seed)
    return np.reshape(images, (_ROWS, _COLUMNS, *model.event_shape))
