"""Figures of numbers: the nats in each latent, and the scores of sets of data."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vae.plots.canvas import (
    LINE_STYLES,
    MARKERS,
    SMALL_SIZE,
    TITLE_SIZE,
    blank,
    colors,
    label_axes,
)

_MOST_BINS = 60
_MOST_TICKS = 40
_OUTLIERS = 0.001  # share of the scores on either side that the axis leaves out


def latent_nats(kl_per_latent: np.ndarray, *, is_active: Sequence[bool] | None = None):
    """Shows how many nats each latent carries, a bar for each, most at the left.

    Args:
        kl_per_latent: Nats, as `metrics.kl_per_latent` returns them.
            Shape (num_examples, latent_dim).
        is_active: Whether each latent is active; bars of those that are not are hollow. All are
            filled if not given. Shape (latent_dim,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a shape is another one.
    """
    nats = np.asarray(kl_per_latent, np.float64)
    if nats.ndim != 2 or nats.size == 0:
        raise ValueError(
            "`kl_per_latent` should have shape (num_examples, latent_dim). "
            f"Received: shape={nats.shape}."
        )
    is_active = np.ones(nats.shape[1], bool) if is_active is None else np.asarray(is_active)
    if is_active.shape != nats.shape[1:]:
        raise ValueError(
            f"`is_active` should have shape {nats.shape[1:]}. Received: shape={is_active.shape}."
        )
    nats = nats.mean(axis=0)
    latents = np.argsort(-nats, kind="stable")
    figure = blank(5.6, 3.0)
    axes = figure.subplots()
    fills = np.where(is_active[latents], "0.35", "white")
    positions = np.arange(len(latents))
    axes.bar(positions, nats[latents], color=fills, edgecolor="0.35", linewidth=0.8)
    step = -(-len(latents) // _MOST_TICKS)
    axes.set_xticks(positions[::step], latents[::step], rotation=90 if len(latents) > 12 else 0)
    label_axes(axes, "latent, by nats", "KL divergence (nats)")
    title = f"{nats.sum():.2f} nats in {len(nats)} latents"
    if not is_active.all():
        title += f"; hollow: the {np.sum(~is_active)} that are not active"
    axes.set_title(title, fontsize=TITLE_SIZE)
    return figure


def score_histogram(
    scores: Mapping[str, np.ndarray], *, x_label: str, threshold: float | None = None
):
    """Shows how scores of several sets of data are distributed, an outline for each.

    The axis leaves out the most extreme thousandth on either side; densities count all.

    Args:
        scores: A name and scores, (num_examples,), for each set of data.
        x_label: What the score is, with its unit.
        threshold: Where a vertical line stands; none if not given.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are no scores, too many sets to tell apart, or a value is not finite.
    """
    scores = {name: np.asarray(values, np.float64) for name, values in scores.items()}
    if not 1 <= len(scores) <= len(LINE_STYLES):
        raise ValueError(
            f"`scores` should name one to {len(LINE_STYLES)} sets. Received: {len(scores)}."
        )
    for name, values in scores.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"Scores should be vectors of finite numbers. Received: {name!r} of shape "
                f"{values.shape}, with {values.size - np.isfinite(values).sum()} not finite."
            )
    everything = np.concatenate(list(scores.values()))
    low, high = np.quantile(everything, [_OUTLIERS, 1.0 - _OUTLIERS])
    smallest = min(len(values) for values in scores.values())
    num_bins = min(_MOST_BINS, math.ceil(math.sqrt(smallest)) + 1)
    edges = np.linspace(low, high if high > low else low + 1.0, num_bins + 1)
    figure = blank(5.6, 3.0)
    axes = figure.subplots()
    styles = zip(colors(len(scores)), LINE_STYLES, MARKERS, strict=False)
    for (name, values), (color, line, marker) in zip(scores.items(), styles, strict=False):
        counts, _ = np.histogram(values, edges)
        density = counts / len(values) / np.diff(edges)
        centres = (edges[:-1] + edges[1:]) / 2
        style = {
            "color": color,
            "linestyle": line,
            "marker": marker,
            "markevery": max(1, num_bins // 10),
        }
        axes.plot(centres, density, label=name, linewidth=1.4, markersize=4, **style)
    if threshold is not None:
        axes.axvline(threshold, color="black", linewidth=1.0, linestyle=(0, (1, 1)))
        axes.annotate(
            "threshold", (threshold, 1.0), (3, -9), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=SMALL_SIZE,
        )  # fmt: skip
    axes.set_ylim(bottom=0.0)
    label_axes(axes, x_label, "density")
    figure.legend(loc="outside upper center", ncols=2, fontsize=SMALL_SIZE, frameon=False)
    return figure
