"""Figures of walks through the latents: images decoded between, along and beyond examples."""

import numpy as np
import tensorflow as tf

from keras_vae import metrics
from keras_vae.plots.canvas import (
    SMALL_SIZE,
    TEXT_SIZE,
    blank_sheet,
    centres,
    draw_sheet,
)

_COLUMNS = 12
_REACH = 3.0  # standard deviations of the prior
_SMALLEST_SINE = 1e-6


def interpolation(model, x_start: np.ndarray, x_end: np.ndarray, *, spherical: bool = False):
    """Shows the way from one example to another, a row for each pair.

    The way leads from posterior mean to posterior mean, in a straight line or, `spherical`, on the
    arc about the origin between them, with t from 0 to 1 and the angle a between the two:

        slerp(start, end, t) = (sin((1 - t) a) start + sin(t a) end) / sin(a)

    Samples of a normal prior in many latents lie near a sphere. A straight line cuts through its
    inside, where samples are rare; the arc stays outside. Parallel means get the straight line.

    Args:
        model: A VAE of images.
        x_start: Shape (batch, height, width, channels).
        x_end: Shape (batch, height, width, channels).
        spherical: Whether to take the arc.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are not as many ends as starts, or the images have neither one nor
            three channels.

    References:
        White 2016, "Sampling Generative Networks" (spherical interpolation).
    """
    if len(x_start) != len(x_end):
        raise ValueError(
            "`x_start` and `x_end` should hold as many examples. "
            f"Received: len(x_start)={len(x_start)}, len(x_end)={len(x_end)}."
        )
    figure = blank_sheet(model, _COLUMNS, len(x_start))
    title = "from the left input to the right one"
    if spherical:
        title += ", on an arc"
        start, end = (model.encode(x).mean().numpy() for x in (x_start, x_end))
        weights = np.linspace(0.0, 1.0, _COLUMNS)
        z = slerp(start[:, np.newaxis], end[:, np.newaxis], weights[:, np.newaxis])
        rows = model.decode(z).mean()
    else:
        rows = model.interpolate(x_start, x_end, _COLUMNS)
    draw_sheet(figure.subplots(), rows, title)
    return figure


def slerp(start: np.ndarray, end: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Returns points on the arc about the origin from `start` to `end`, see `interpolation`.

    Args:
        start: Shape (..., latent_dim).
        end: Shape (..., latent_dim).
        weight: Of the end, from 0 to 1. Shape (..., 1).

    Example:

    >>> slerp(np.array([2.0, 0.0]), np.array([0.0, 2.0]), np.array([0.5])).round(3)
    array([1.414, 1.414])
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    cosine = np.sum(start * end, axis=-1) / np.where(norms > 0, norms, 1.0)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))[..., np.newaxis]
    sine = np.sin(angle)
    is_parallel = (norms[..., np.newaxis] == 0) | (sine < _SMALLEST_SINE)
    sine = np.where(is_parallel, 1.0, sine)
    of_start = np.where(is_parallel, 1.0 - weight, np.sin((1.0 - weight) * angle) / sine)
    of_end = np.where(is_parallel, weight, np.sin(weight * angle) / sine)
    return of_start * start + of_end * end


def latent_grid(model, x: np.ndarray, *, size: int = 10):
    """Shows images decoded on a grid over two latents, spaced by quantiles of the prior.

    With more than two latents, the two that carry most nats on `x` vary and the others stay at 0.
    A single one goes along the rows, one behind the other.

    Args:
        model: A VAE of images with a standard normal prior.
        x: Data that says which latents matter. Shape (batch, height, width, channels).
        size: Points along each latent.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the images have neither one nor three channels.
    """
    figure = blank_sheet(model, size, size, margin=(0.3, 0.52))
    rows, (first, second) = decoded_grid(model, x, size, size)
    axes = figure.subplots()
    draw_sheet(axes, rows, "decoded grid, 5% to 95% of the prior")
    if second is None:
        axes.set_xlabel(f"latent {first}, row by row", fontsize=TEXT_SIZE)
    else:
        axes.set_xlabel(f"latent {first}", fontsize=TEXT_SIZE)
        axes.set_ylabel(f"latent {second}", fontsize=TEXT_SIZE)
    return figure


def decoded_grid(model, x: np.ndarray, rows: int, columns: int):
    """Returns images, (rows, columns, *event_shape), and the latents that vary across and upwards.

    A single latent goes along the rows, one behind the other; `None` varies upwards.
    """
    prior = model.prior.distribution()
    z = np.zeros((rows, columns, model.latent_dim), np.float32)
    if model.latent_dim == 1:
        first, second = 0, None
        z[..., first] = np.reshape(_quantiles(rows * columns), (rows, columns))
    else:
        nats = metrics.kl_per_latent(model, x).mean(axis=0)
        first, second = map(int, np.argsort(-nats, kind="stable")[:2])
        z[..., first] = _quantiles(columns)
        z[..., second] = _quantiles(rows)[::-1, np.newaxis]
    z = prior.mean() + prior.stddev() * z
    return model.decode(z).mean().numpy(), (first, second)


def traversal(
    model, x: np.ndarray, *, num_latents: int = 10, num_steps: int = 11, example: int = 0
):
    """Shows what each latent changes: a row for each, the one with most nats on `x` at the top.

    Along a row, one latent goes from -3 to 3 standard deviations of the prior about the prior's
    mean. All others stay where the posterior mean of one example has them.

    Args:
        model: A VAE of images with a normal posterior and a diagonal normal prior.
        x: Data that says which latents matter. Shape (batch, height, width, channels).
        num_latents: Rows, at least 1; there are no more of them than latents.
        num_steps: Images in a row, at least 2.
        example: Position in `x` of the example.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a number is too small, or the images have neither one nor three channels.

    References:
        Higgins et al. 2017, "beta-VAE" (latent traversals).
    """
    if num_latents < 1:
        raise ValueError(
            f"`num_latents` should be at least 1. Received: num_latents={num_latents}."
        )
    if num_steps < 2:
        raise ValueError(f"`num_steps` should be at least 2. Received: num_steps={num_steps}.")
    num_latents = min(num_latents, model.latent_dim)
    # Inches to the left for the rows' labels; above and below for the title, ticks and axis label.
    figure = blank_sheet(model, num_steps, num_latents, margin=(1.2, 0.7))
    nats = metrics.kl_per_latent(model, x).mean(axis=0)
    latents = np.argsort(-nats, kind="stable")[:num_latents]
    prior = model.prior.distribution()
    loc, scale = prior.mean().numpy(), prior.stddev().numpy()
    steps = np.linspace(-_REACH, _REACH, num_steps)
    z = np.tile(model.encode(x[example : example + 1]).mean(), (num_latents, num_steps, 1))
    for row, latent in enumerate(latents):
        z[row, :, latent] = loc[latent] + steps * scale[latent]
    axes = figure.subplots()
    draw_sheet(axes, model.decode(z).mean(), f"one latent at a time, from example {example}")
    height, width, _ = model.event_shape
    axes.set_yticks(
        centres(num_latents, height),
        [f"latent {latent}: {nats[latent]:.2f} nats" for latent in latents],
    )
    axes.set_xticks(centres(num_steps, width), [f"{step:.1f}" for step in steps])
    axes.set_xlabel("latent (standard deviations of the prior)", fontsize=TEXT_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE, length=0)
    return figure


def arithmetic(model, a: np.ndarray, b: np.ndarray, c: np.ndarray):
    """Shows what adding and subtracting codes gives: a - b + c.

    Each of the three is the mean of the posterior means of its examples: several examples that
    share one thing, such as a smile, average out what else they have. The mean of the examples
    stands above what the decoder makes of their code.

    Args:
        model: A VAE of images.
        a: Examples. Shape (batch, height, width, channels).
        b: Examples whose code is taken away. Shape (batch, height, width, channels).
        c: Examples whose code is added. Shape (batch, height, width, channels).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the images have neither one nor three channels.

    References:
        White 2016, "Sampling Generative Networks" (analogies).
    """
    operands = {"a": a, "b": b, "c": c}
    figure = blank_sheet(model, 10, 4, margin=(0.5, 0.5))
    axes = figure.subplot_mosaic(
        [["a", "b", "c", "result", "result"], ["code a", "code b", "code c", "result", "result"]]
    )
    codes = {name: np.mean(model.encode(x).mean(), axis=0) for name, x in operands.items()}
    codes["result"] = codes["a"] - codes["b"] + codes["c"]
    decoded = model.decode(np.stack(list(codes.values()))).mean().numpy()
    result = decoded[-1]
    for (name, x), sign, image in zip(
        operands.items(), ("", "$-$ ", "$+$ "), decoded, strict=False
    ):
        title = f"{sign}{name}" + (f"\nmean of {len(x)}" if len(x) > 1 else "")
        _draw_image(axes[name], np.mean(x, axis=0), title)
        _draw_image(axes[f"code {name}"], image)
    _draw_image(axes["result"], result, "$=$ result")
    axes["a"].set_ylabel("examples", fontsize=SMALL_SIZE)
    axes["code a"].set_ylabel("decoded", fontsize=SMALL_SIZE)
    return figure


def _draw_image(axes, image, title=""):
    draw_sheet(axes, np.asarray(image)[np.newaxis, np.newaxis], title)


def _quantiles(size):
    probabilities = tf.linspace(0.05, 0.95, size)
    return tf.math.ndtri(probabilities).numpy()
