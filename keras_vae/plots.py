"""Figures of what a VAE makes of images. They are returned, never shown or saved."""

import numpy as np
import tensorflow as tf

from keras_vae import metrics

_ROWS, _COLUMNS = 6, 12


def reconstructions(model, x: np.ndarray):
    """Shows examples above their reconstructions.

    Args:
        model: A VAE of images.
        x: A few examples. Shape (batch, height, width, channels).

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = _figure(len(x), 2)
    _draw(figure.subplots(), _rows_of_inputs(model, x), "inputs, and their reconstructions below")
    return figure


def samples(model, *, seed: int | None = None):
    """Shows images decoded from the prior.

    Args:
        model: A VAE of images.
        seed: Any integer; the same one gives the same images.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = _figure(_COLUMNS, _ROWS)
    _draw(figure.subplots(), _rows_of_samples(model, seed), "samples from the prior")
    return figure


def interpolation(model, x_start: np.ndarray, x_end: np.ndarray):
    """Shows the way from one example to another, a row for each pair.

    Args:
        model: A VAE of images.
        x_start: Shape (batch, height, width, channels).
        x_end: Shape (batch, height, width, channels).

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = _figure(_COLUMNS, len(x_start))
    rows = model.interpolate(x_start, x_end, _COLUMNS)
    _draw(figure.subplots(), rows, "from the left input to the right one")
    return figure


def latent_grid(model, x: np.ndarray, *, size: int = 10):
    """Shows images decoded on a grid over two latents, spaced by quantiles of the prior.

    With more than two latents, the two that carry most nats on `x` vary and the others stay at 0.

    Args:
        model: A VAE of images with a standard normal prior.
        x: Data that says which latents matter. Shape (batch, height, width, channels).
        size: Points along each latent.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = _figure(size, size)
    rows, (first, second) = _rows_of_grid(model, x, size)
    axes = figure.subplots()
    _draw(axes, rows, "decoded grid, 5% to 95% of the prior")
    axes.set_xlabel(f"latent {first}")
    axes.set_ylabel(f"latent {second}")
    return figure


def contact_sheet(model, x: np.ndarray, *, seed: int | None = None):
    """Shows all of the above on one page: inputs, reconstructions, samples, interpolation, grid.

    Args:
        model: A VAE of images with a standard normal prior.
        x: At least 24 examples. Shape (batch, height, width, channels).
        seed: Any integer; the same one gives the same samples.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are too few examples.
    """
    if len(x) < 2 * _COLUMNS:
        raise ValueError(
            f"A contact sheet needs at least {2 * _COLUMNS} examples. Received: {len(x)}."
        )
    figure = _figure(2 * _COLUMNS, 11)
    axes = figure.subplots(2, 2, height_ratios=(4, 6))
    inputs = np.concatenate(
        [_rows_of_inputs(model, x[:_COLUMNS]), _rows_of_inputs(model, x[_COLUMNS:][:_COLUMNS])]
    )
    _draw(axes[0, 0], inputs, "inputs, and their reconstructions below")
    _draw(
        axes[0, 1],
        model.interpolate(x[:4], x[4:8], _COLUMNS),
        "from the left input to the right one",
    )
    _draw(axes[1, 0], _rows_of_samples(model, seed), "samples from the prior")
    rows, (first, second) = _rows_of_grid(model, x, _ROWS, columns=_COLUMNS)
    _draw(axes[1, 1], rows, f"latents {first} (across) and {second} (down), 5% to 95% of the prior")
    return figure


def _rows_of_inputs(model, x):
    return np.stack([x, model.reconstruct(x)])


def _rows_of_samples(model, seed):
    images = model.sample(_ROWS * _COLUMNS, seed=seed)
    return np.reshape(images, (_ROWS, _COLUMNS, *model.event_shape))


def _rows_of_grid(model, x, rows, columns=None):
    columns = columns or rows
    if model.latent_dim == 1:
        first = second = 0
    else:
        nats = metrics.kl_per_latent(model, x).mean(axis=0)
        first, second = np.argsort(-nats, kind="stable")[:2]
    prior = model.prior.distribution()
    z = np.zeros((rows, columns, model.latent_dim), np.float32)
    down, across = (_quantiles(size) for size in (rows, columns))
    z[..., second] = down[:, np.newaxis]
    z[..., first] = across
    z = prior.mean() + prior.stddev() * z
    return model.decode(z).mean().numpy(), (int(first), int(second))


def _quantiles(size):
    probabilities = tf.linspace(0.05, 0.95, size)
    return tf.math.ndtri(probabilities).numpy()


def _figure(columns, rows):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "keras-vae[plots]".') from error
    return Figure(figsize=(0.5 * columns + 0.4, 0.5 * rows + 0.6), layout="constrained", dpi=160)


def _draw(axes, rows, title):
    """Draws images of shape (rows, columns, height, width, channels) as one picture."""
    rows = np.clip(np.asarray(rows), 0.0, 1.0)
    gap = ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))
    rows = np.pad(rows, gap, constant_values=0.5)
    num_rows, num_columns, height, width, channels = rows.shape
    sheet = rows.transpose(0, 2, 1, 3, 4).reshape(num_rows * height, num_columns * width, channels)
    axes.imshow(sheet.squeeze(-1) if channels == 1 else sheet, cmap="gray", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])
