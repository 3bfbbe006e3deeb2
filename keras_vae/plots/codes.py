"""Figures of codes: the posteriors of single examples, and where a data set is encoded."""

from collections.abc import Sequence

import numpy as np

from keras_vae import metrics
from keras_vae.extras import require
from keras_vae.plots.canvas import (
    MARKERS,
    TITLE_SIZE,
    blank,
    colors,
    label_axes,
    legend,
    line_styles,
)

LABEL_SCALE = 1.5  # of markers in the legend, where they need to be told apart

_NUM_LATENTS, _MOST_EXAMPLES = 6, 10
_SPAN = np.linspace(-4.0, 4.0, 201)  # standard deviations around a mean, which is the middle one


def posteriors(model, x: np.ndarray, *, latents: Sequence[int] | None = None):
    """Shows the densities of q(z_j given x_i) for single examples, and the prior's.

    A marker stands on each posterior's mean. The title says how many nats a latent carries on the
    mean over the examples: 0 where all posteriors lie on the prior. Where latents are correlated,
    the nats count what a latent says beyond those before it, which no density of it alone shows.

    Args:
        model: A VAE with a normal posterior and a diagonal normal prior.
        x: One to ten examples. Shape (batch, *event_shape).
        latents: Which ones to show; the six with most nats on `x` if not given.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there are too many examples to tell apart, or no such latents.
    """
    if not 1 <= len(x) <= _MOST_EXAMPLES:
        raise ValueError(
            f"Posteriors can be told apart for one to {_MOST_EXAMPLES} examples. "
            f"Received: {len(x)}."
        )
    nats = metrics.kl_per_latent(model, x).mean(axis=0)
    if latents is None:
        latents = np.argsort(-nats, kind="stable")[:_NUM_LATENTS]
    if len(latents) == 0 or not all(0 <= latent < model.latent_dim for latent in latents):
        raise ValueError(
            f"`latents` should name some from 0 to {model.latent_dim - 1}. "
            f"Received: latents={list(latents)}."
        )
    columns = min(3, len(latents))
    rows = -(-len(latents) // columns)
    figure = blank(2.4 * columns + 1.2, 1.9 * rows + 0.2)
    posterior, prior = model.encode(x), model.prior.distribution()
    means, scales = posterior.mean().numpy(), posterior.stddev().numpy()
    styles = line_styles(len(x))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for latent, axes in zip(latents, panels, strict=False):  # which leaves the others in `panels`
        z, density = _normal(prior.mean()[latent].numpy(), prior.stddev()[latent].numpy())
        handles = [axes.fill_between(z, density, color="0.8", label="prior", linewidth=0)]
        for index, style in enumerate(styles):
            z, density = _normal(means[index, latent], scales[index, latent])
            middle = [len(z) // 2]
            name = f"example {index}"
            handles += axes.plot(z, density, label=name, markevery=middle, **style)
        label_axes(axes, f"latent {latent}", "density")
        axes.set_title(f"latent {latent}: {nats[latent]:.2f} nats", fontsize=TITLE_SIZE)
        axes.set_ylim(bottom=0.0)
    for axes in panels:
        axes.set_axis_off()
    legend(figure, handles)
    return figure


def _normal(loc, scale):
    """Returns points around the mean of a normal, and its density there."""
    density = np.exp(-0.5 * _SPAN**2) / (scale * np.sqrt(2.0 * np.pi))
    return loc + scale * _SPAN, density


def encoded(model, x: np.ndarray, labels: np.ndarray, *, projection=None):
    """Shows the posterior means of examples, each label with a colour and a marker of its own.

    A model of two latents shows them as they are, unless there is a projection. More latents are
    projected onto two, by a principal component analysis if not said otherwise. Distances and
    sizes of groups mean something under PCA; under t-SNE and UMAP they may not.

    Args:
        model: A VAE of at least two latents.
        x: Data. Shape (batch, *event_shape).
        labels: What to colour by. Shape (batch,).
        projection: Anything whose `fit_transform` takes (batch, latent_dim) to (batch, 2), such as
            `sklearn.manifold.TSNE()` or `umap.UMAP()`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If PCA is needed and scikit-learn is missing.
        ValueError: If there is only one latent, if there are not as many labels as examples, or if
            the projection gives anything but two numbers for each.
    """
    if model.latent_dim == 1:
        raise ValueError("A map of codes needs at least two latents. Received: latent_dim=1.")
    labels = check_labels(x, labels)
    figure = blank(5.6, 4.4)
    codes = metrics.posterior_means(model, x)
    names = ["latent 0", "latent 1"]
    if projection is not None or model.latent_dim > 2:
        codes, names = _project(codes, projection if projection is not None else _pca())
    axes = figure.subplots()
    handles = scatter(axes, codes, labels)
    label_axes(axes, *names)
    axes.set_title("posterior means", fontsize=TITLE_SIZE)
    legend(figure, handles, "label", marker_scale=LABEL_SCALE)
    return figure


def check_labels(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the labels as an array, one for each example."""
    labels = np.asarray(labels)
    if labels.shape != (len(x),):
        raise ValueError(
            f"`labels` should have shape ({len(x)},), one for each example. "
            f"Received: shape={labels.shape}."
        )
    return labels


def scatter(axes, codes: np.ndarray, labels: np.ndarray) -> list:
    """Draws codes of shape (batch, 2); returns one handle for each label, for the legend."""
    classes = np.unique(labels)
    size = np.clip(5000 / len(codes), 4, 20)  # points squared: a few large ones, or many small
    return [
        axes.scatter(
            *codes[labels == label].T,
            s=size,
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            alpha=0.7,
            linewidths=0,
            label=str(label),
        )
        for index, (label, color) in enumerate(zip(classes, colors(len(classes)), strict=True))
    ]


def _project(codes, projection):
    projected = np.asarray(projection.fit_transform(codes))
    if projected.shape != (len(codes), 2):
        raise ValueError(
            f"`projection` should give shape ({len(codes)}, 2). Received: shape={projected.shape}."
        )
    kind = type(projection).__name__
    shares = getattr(projection, "explained_variance_ratio_", None)
    if shares is None:
        return projected, [f"{kind} {axis}" for axis in (1, 2)]
    return projected, [
        f"{kind} {axis} ({share:.1%} of the variance)" for axis, share in enumerate(shares, 1)
    ]


def _pca():
    decomposition = require("sklearn.decomposition", "data", "More than two latents need")
    return decomposition.PCA(n_components=2, svd_solver="full")
