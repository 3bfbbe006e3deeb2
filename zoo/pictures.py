"""The pictures of a card, as PNG files: samples, reconstructions, and the plane of two latents."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

_ROWS, _COLUMNS = 4, 12
_GRID_SIZE = 20


def write_pictures(folder: Path, model, examples: np.ndarray | None = None) -> None:
    """Writes samples.png, reconstructions.png if there are examples, and grid.png for two latents.

    A model of anything but images of one or three channels gets none.

    Args:
        folder: Where to.
        model: A VAE.
        examples: Data to reconstruct. Shape (batch, height, width, channels).
    """
    if len(model.event_shape) != 3 or model.event_shape[-1] not in (1, 3):
        return
    samples = model.sample(_ROWS * _COLUMNS, seed=0)
    (folder / "samples.png").write_bytes(_sheet(samples, _COLUMNS))
    if examples is not None:
        x = np.asarray(examples[:_COLUMNS], np.float32)
        both = np.concatenate([x, model.reconstruct(x)])
        (folder / "reconstructions.png").write_bytes(_sheet(both, len(x)))
    if model.latent_dim == 2:
        (folder / "grid.png").write_bytes(_sheet(_plane(model), _GRID_SIZE))


def _plane(model):
    """Decodes the quantiles of a standard normal: 20 across the first latent, 20 up the second."""
    levels = (np.arange(_GRID_SIZE) + 0.5) / _GRID_SIZE
    quantiles = tfp.distributions.Normal(0.0, 1.0).quantile(np.float32(levels))
    first, second = np.meshgrid(quantiles, quantiles[::-1])
    return model.decode(np.stack([first, second], axis=-1).reshape(-1, 2)).mean()


def _sheet(images, columns):
    """Returns images of shape (rows * columns, height, width, channels) as one PNG, with gaps."""
    images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    height, width, channels = images.shape[1:]
    rows = len(images) // columns
    grid = tf.reshape(images, (rows, columns, height, width, channels))
    sheet = tf.reshape(
        tf.transpose(grid, (0, 2, 1, 3, 4)), (rows * height, columns * width, channels)
    )
    pixels = tf.cast(tf.round(tf.clip_by_value(sheet, 0.0, 1.0) * 255), tf.uint8)
    # Twice the size, so that small images can be seen on a page.
    pixels = tf.repeat(tf.repeat(pixels, 2, axis=0), 2, axis=1)
    return tf.io.encode_png(pixels).numpy()
