"""Convolutional encoders and decoders for images and series of any size."""

import math
from collections.abc import Sequence

import keras

from keras_vae.distributions import Bernoulli, DiagonalNormal, Likelihood, Posterior
from keras_vae.networks.shapes import check_event_shape, check_sizes


def conv_encoder(
    event_shape: Sequence[int],
    latent_dim: int,
    *,
    filters: Sequence[int] = (32, 64),
    hidden_units: int = 256,
    posterior: Posterior | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Returns a convolutional encoder: each level halves the resolution.

    Args:
        event_shape: Shape of one example: (height, width, channels), or (length, channels) for a
            series. Any size will do; odd sizes are rounded up at each level.
        latent_dim: Number of latents, at least 1.
        filters: Number of filters of each level, from the data on.
        hidden_units: Width of the dense layer between the convolutions and the parameters.
        posterior: Decides the width of the last layer; a `DiagonalNormal` if not given.
        dtype: Keras dtype policy of the hidden layers; the last layer is always float32.

    Shapes:
        Input (batch, *event_shape); output (batch, posterior.params_size(latent_dim)).

    Raises:
        ValueError: If a size is not an integer of at least 1, or `event_shape` is neither that of
            an image nor that of a series.

    Example:

    >>> conv_encoder((33, 17, 1), 16).output_shape
    (None, 32)
    """
    event_shape = _check(event_shape, latent_dim, filters, hidden_units)
    posterior = posterior or DiagonalNormal()
    inputs = keras.Input(event_shape, name="x")
    hidden = inputs
    for level_filters in filters:
        hidden = _conv(event_shape, level_filters, strides=2, activation="relu", dtype=dtype)(hidden)
    hidden = keras.layers.Flatten(dtype=dtype)(hidden)
    hidden = keras.layers.Dense(hidden_units, activation="relu", dtype=dtype)(hidden)
    params = keras.layers.Dense(posterior.params_size(latent_dim), dtype="float32", name="params")
    return keras.Model(inputs, params(hidden), name="encoder")


def conv_decoder(
    latent_dim: int,
    event_shape: Sequence[int],
    *,
    filters: Sequence[int] = (32, 64),
    hidden_units: int = 256,
    likelihood: Likelihood | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Returns a convolutional decoder, the mirror image of `conv_encoder`.

    Each level doubles the resolution by sub-pixel convolution: a convolution at the low resolution
    gives four values per new pixel block, which are then laid out. MEASURED

    Args:
        latent_dim: Number of latents, at least 1.
        event_shape: Shape of one example: (height, width, channels), or (length, channels) for a
            series. What the levels round up is cropped.
        filters: Number of filters of each level, as given to the encoder: from the data on.
        hidden_units: Width of the dense layer between the latents and the convolutions.
        likelihood: Decides how many parameters each value gets; a `Bernoulli` if not given.
        dtype: Keras dtype policy of the hidden layers; the last one is always float32.

    Shapes:
        Input (batch, latent_dim);
        output (batch, *event_shape[:-1], event_shape[-1] * likelihood.params_size()).

    Raises:
        ValueError: If a size is not an integer of at least 1, or `event_shape` is neither that of
            an image nor that of a series.

    Example:

    >>> conv_decoder(16, (33, 17, 1)).output_shape
    (None, 33, 17, 1)

    References:
        Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network", section 3.2.
    """
    event_shape = _check(event_shape, latent_dim, filters, hidden_units)
    likelihood = likelihood or Bernoulli()
    # Spatial sizes from the data down to the smallest feature map.
    sizes = [event_shape[:-1]]
    for _ in filters:
        sizes.append(tuple(math.ceil(size / 2) for size in sizes[-1]))
    inputs = keras.Input((latent_dim,), name="z")
    hidden = keras.layers.Dense(hidden_units, activation="relu", dtype=dtype)(inputs)
    smallest = (*sizes[-1], filters[-1])
    hidden = keras.layers.Dense(math.prod(smallest), activation="relu", dtype=dtype)(hidden)
    hidden = keras.layers.Reshape(smallest, dtype=dtype)(hidden)
    for level in range(len(filters) - 1, 0, -1):
        hidden = _upsample(hidden, filters[level - 1], sizes[level], "relu", dtype)
    num_params = event_shape[-1] * likelihood.params_size()
    outputs = _upsample(hidden, num_params, sizes[0], None, "float32")
    return keras.Model(inputs, outputs, name="decoder")


def _check(event_shape, latent_dim, filters, hidden_units):
    event_shape = check_event_shape(event_shape)
    if len(event_shape) not in (2, 3):
        raise ValueError(
            "A convolutional network needs an `event_shape` of (height, width, channels) or "
            "(length, channels); use a dense one for vectors. "
            f"Received: event_shape={event_shape}."
        )
    check_sizes("latent_dim", [latent_dim])
    check_sizes("filters", filters)
    check_sizes("hidden_units", [hidden_units])
    if not filters:
        raise ValueError(f"`filters` should not be empty. Received: filters={filters!r}.")
    return event_shape


def _conv(event_shape, filters, *, strides=1, activation=None, dtype):
    layer = keras.layers.Conv1D if len(event_shape) == 2 else keras.layers.Conv2D
    return layer(filters, 3, strides, padding="same", activation=activation, dtype=dtype)


def _upsample(hidden, channels, size, activation, dtype):
    """Doubles the resolution and crops it to `size`."""
    low = hidden.shape[1:-1]
    blocks = _conv(hidden.shape[1:], channels * 2 ** len(low), activation=activation, dtype=dtype)
    hidden = blocks(hidden)
    if len(low) == 1:
        hidden = keras.layers.Reshape((2 * low[0], channels), dtype=dtype)(hidden)
        crop, excess = keras.layers.Cropping1D, (0, 2 * low[0] - size[0])
    else:
        height, width = low
        hidden = keras.layers.Reshape((height, width, 2, 2 * channels), dtype=dtype)(hidden)
        hidden = keras.layers.Permute((1, 3, 2, 4), dtype=dtype)(hidden)
        hidden = keras.layers.Reshape((2 * height, 2 * width, channels), dtype=dtype)(hidden)
        crop, excess = keras.layers.Cropping2D, tuple(
            (0, 2 * now - wanted) for now, wanted in zip(low, size, strict=True)
        )
    return crop(excess, dtype=dtype)(hidden)
