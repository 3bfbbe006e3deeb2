"""Figures of training: the nats of each latent over epochs, and rate against distortion."""

from collections.abc import Sequence

import numpy as np

from keras_vae.plots.canvas import (
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    blank,
    label_axes,
    legend,
    line_styles,
)

_MOST_LINES = 10
_MOST_TICKS = 60


def kl_over_training(kl_per_latent: Sequence[np.ndarray]):
    """Shows how many nats each latent carries after each epoch: which ones woke, and which died.

    Up to ten latents are lines; more of them are rows of a heat map. Both are ordered by the nats
    after the last epoch, most at the top. The title gives their sum.

    Args:
        kl_per_latent: Mean KL divergence of each latent, nats, for each epoch, as
            `callbacks.LatentMonitor` gathers it. Shape (epochs, latent_dim).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shape is another one, or a value is not finite.
    """
    nats = np.asarray(kl_per_latent, np.float64)
    if nats.ndim != 2 or nats.size == 0:
        raise ValueError(
            f"`kl_per_latent` should have shape (epochs, latent_dim). Received: shape={nats.shape}."
        )
    if not np.isfinite(nats).all():
        raise ValueError("`kl_per_latent` should be finite. Received: NaN or infinite values.")
    latents = np.argsort(-nats[-1], kind="stable")
    draw = _draw_lines if len(latents) <= _MOST_LINES else _draw_heat_map
    figure, axes = draw(nats, latents)
    total, epochs = nats[-1].sum(), len(nats)
    axes.set_title(f"{total:.2f} nats in all latents after epoch {epochs}", fontsize=TITLE_SIZE)
    axes.set_xlim(0.5, len(nats) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure


def _draw_lines(nats, latents):
    figure = blank(5.6, 3.6)
    axes = figure.subplots()
    epochs = np.arange(1, len(nats) + 1)
    handles = []
    for latent, style in zip(latents, line_styles(len(latents)), strict=True):
        every = max(1, len(nats) // 10)
        name = f"latent {latent}"
        handles += axes.plot(epochs, nats[:, latent], label=name, markevery=every, **style)
    label_axes(axes, "epoch", "KL divergence from the prior (nats)")
    axes.set_ylim(bottom=0.0)
    legend(figure, handles)
    return figure, axes


def _draw_heat_map(nats, latents):
    figure = blank(5.6, np.clip(0.12 * len(latents) + 1.0, 3.0, 8.0))
    axes = figure.subplots()
    rows, num_epochs = nats[:, latents].T, len(nats)
    image = axes.imshow(
        rows,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0.0,
        extent=(0.5, num_epochs + 0.5, len(latents) - 0.5, -0.5),
    )
    label_axes(axes, "epoch", "latent, by nats after the last epoch")
    step = -(-len(latents) // _MOST_TICKS)
    axes.set_yticks(range(0, len(latents), step), latents[::step], fontsize=SMALL_SIZE - 1)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("KL divergence from the prior (nats)", fontsize=TEXT_SIZE)
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    return figure, axes


def rate_distortion(rates: Sequence[float], distortions: Sequence[float], betas: Sequence[float]):
    """Shows what each beta pays in rate for what distortion, and who has the best ELBO.

        ELBO = -(rate + distortion)

    On the dashed line through the best model the ELBO is as good as its; above it, it is worse.
    Models with the same ELBO can differ much in what their code says of the data.

    Args:
        rates: Mean KL divergence from the prior, nats per example, one for each model.
        distortions: Mean reconstruction error -E[log p(x given z)], nats per example.
        betas: Weight of the KL term in training.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the three do not have the same length, or are empty.

    References:
        Alemi et al. 2018, "Fixing a Broken ELBO".
    """
    sizes = {len(rates), len(distortions), len(betas)}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(
            "`rates`, `distortions` and `betas` should have one value for each model. Received: "
            f"{len(rates)} rates, {len(distortions)} distortions, {len(betas)} betas."
        )
    order = np.argsort(betas, kind="stable")
    rates, distortions, betas = (
        np.asarray(values, np.float64)[order] for values in (rates, distortions, betas)
    )
    best = np.argmin(rates + distortions)
    elbo = -(rates[best] + distortions[best])
    figure = blank(5.2, 4.0)
    axes = figure.subplots()
    axes.plot(rates, distortions, "o-", color="black", linewidth=1.0, markersize=5, label="models")
    axes.axline(
        (rates[best], distortions[best]),
        slope=-1.0,
        color="0.5",
        linestyle="--",
        linewidth=1.0,
        label=f"ELBO = {elbo:.1f} nats",
    )
    for rate, distortion, beta in zip(rates, distortions, betas, strict=True):
        axes.annotate(
            rf"$\beta$ = {beta:g}",
            (rate, distortion),
            (5, 5),
            textcoords="offset points",
            fontsize=SMALL_SIZE,
        )
    axes.margins(0.15)
    label_axes(axes, "rate: KL divergence from the prior (nats)", "distortion (nats)")
    axes.legend(fontsize=SMALL_SIZE, loc="upper right", frameon=False)
    axes.set_title("rate and distortion", fontsize=TITLE_SIZE)
    return figure
