"""Dense encoders and decoders, plain or gated."""

import math
from collections.abc import Sequence

import keras

from keras_vae.distributions import Bernoulli, DiagonalNormal, Likelihood, Posterior
from keras_vae.networks.checks import check_event_shape, check_part, check_size, check_sizes


def dense_encoder(
    event_shape: Sequence[int],
    latent_dim: int,
    *,
    hidden_units: Sequence[int] = (512, 512),
    gated: bool = False,
    posterior: Posterior | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Returns a dense encoder for data of any shape.

    Args:
        event_shape: Shape of one example, such as (28, 28, 1) or (20,).
        latent_dim: Number of latents, at least 1.
        hidden_units: Width of each hidden layer, from the data on.
        gated: Whether hidden layers are `(W h + b) * sigmoid(V h + c)` instead of ReLU.
        posterior: Decides the width of the last layer; a `DiagonalNormal` if not given.
        dtype: Keras dtype policy of the hidden layers; the last layer is always float32.

    Shapes:
        Input (batch, *event_shape); output (batch, posterior.params_size(latent_dim)).

    Raises:
        ValueError: If a size is not an integer of at least 1, or the part not of its class.

    Example:

    >>> dense_encoder((28, 28, 1), 16).output_shape
    (None, 32)

    References:
        Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks", equation 1.
    """
    event_shape = check_event_shape(event_shape)
    check_size("latent_dim", latent_dim)
    check_sizes("hidden_units", hidden_units)
    posterior = posterior or DiagonalNormal()
    check_part("posterior", posterior, Posterior)
    inputs = keras.Input(event_shape, name="x")
    hidden = keras.layers.Flatten(dtype=dtype)(inputs)
    hidden = _hidden_layers(hidden, hidden_units, gated, dtype)
    params = keras.layers.Dense(posterior.params_size(latent_dim), dtype="float32", name="params")
    return keras.Model(inputs, params(hidden), name="encoder")


def dense_decoder(
    latent_dim: int,
    event_shape: Sequence[int],
    *,
    hidden_units: Sequence[int] = (512, 512),
    gated: bool = False,
    likelihood: Likelihood | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Returns a dense decoder for data of any shape, the mirror image of `dense_encoder`.

    Args:
        latent_dim: Number of latents, at least 1.
        event_shape: Shape of one example, such as (28, 28, 1) or (20,).
        hidden_units: Width of each hidden layer, as given to the encoder: from the data on.
        gated: Whether hidden layers are `(W h + b) * sigmoid(V h + c)` instead of ReLU.
        likelihood: Decides how many parameters each value gets; a `Bernoulli` if not given.
        dtype: Keras dtype policy of the layers, but for the last one if the likelihood does not
            bear its rounding. The output is always float32.

    Shapes:
        Input (batch, latent_dim);
        output (batch, *event_shape[:-1], event_shape[-1] * likelihood.params_size()).

    Raises:
        ValueError: If a size is not an integer of at least 1, or the part not of its class.

    Example:

    >>> dense_decoder(16, (28, 28, 1)).output_shape
    (None, 28, 28, 1)
    """
    event_shape = check_event_shape(event_shape)
    check_size("latent_dim", latent_dim)
    check_sizes("hidden_units", hidden_units)
    likelihood = likelihood or Bernoulli()
    check_part("likelihood", likelihood, Likelihood)
    params_shape = (*event_shape[:-1], event_shape[-1] * likelihood.params_size())
    inputs = keras.Input((latent_dim,), name="z")
    hidden = _hidden_layers(inputs, hidden_units[::-1], gated, dtype)
    last = dtype if likelihood.bears_rounding else "float32"
    params = keras.layers.Dense(math.prod(params_shape), dtype=last, name="params")(hidden)
    outputs = keras.layers.Reshape(params_shape, dtype="float32")(params)
    return keras.Model(inputs, outputs, name="decoder")


def _hidden_layers(hidden, hidden_units, gated, dtype):
    for units in hidden_units:
        if gated:
            # One matrix product for value and gate together.
            both = keras.layers.Dense(2 * units, dtype=dtype)(hidden)
            value, gate = keras.ops.split(both, 2, axis=-1)
            gate = keras.layers.Activation("sigmoid", dtype=dtype)(gate)
            hidden = keras.layers.Multiply(dtype=dtype)([value, gate])
        else:
            hidden = keras.layers.Dense(units, activation="relu", dtype=dtype)(hidden)
    return hidden
