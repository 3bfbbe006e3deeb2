"""What each term of the ELBO is for: three models of two latents, side by side."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_vae import metrics
from keras_vae.networks import dense_decoder, dense_encoder
from keras_vae.objectives import ELBO
from keras_vae.plots.canvas import TITLE_SIZE, blank, label_axes, legend
from keras_vae.plots.codes import LABEL_SCALE, check_labels, scatter
from keras_vae.vae import VAE

_CIRCLES = (1, 2, 3)  # standard deviations of the prior
_LESSONS = {"reconstruction only": 0.0, "KL divergence only": 1e4, "both": 1.0}
_BATCH_SIZE = 64


def lesson_models(x: np.ndarray, *, epochs: int = 40, seed: int = 0) -> dict[str, VAE]:
    """Trains a model of two latents three times: on one term of the ELBO, the other, and both.

    The loss is reconstruction + beta * KL, with beta = 0, so large that only the KL term counts,
    and 1. On the 8x8 digits of scikit-learn it takes some seconds each.

    Args:
        x: Data in [0, 1]. Shape (num_examples, *event_shape).
        epochs: Passes over the data.
        seed: Of weights, order and noise; it becomes Keras' global seed.

    Returns:
        A model by the name of its lesson, for `three_lessons`.
    """
    return {name: _train(x, ELBO(beta=beta), epochs, seed) for name, beta in _LESSONS.items()}


def _train(x, objective, epochs, seed):
    keras.utils.set_random_seed(seed)
    shape, sizes = x.shape[1:], {"hidden_units": (128, 64)}
    encoder, decoder = dense_encoder(shape, 2, **sizes), dense_decoder(2, shape, **sizes)
    vae = VAE(encoder, decoder, objective=objective)
    steps = -(-len(x) // _BATCH_SIZE)
    vae.compile(keras.optimizers.Adam(2e-3), steps_per_execution=steps)
    vae.fit(x, batch_size=_BATCH_SIZE, epochs=epochs, verbose=0)
    return vae


def three_lessons(models: Mapping[str, VAE], x: np.ndarray, labels: np.ndarray):
    r"""Shows where models of two latents encode held-out data, side by side.

    With the reconstruction term only, codes go as far apart as they like, with gaps that decode to
    nothing. With the KL term only, all codes are one. With both, they fill the prior without gaps,
    and like lies by like. The circles hold 39%, 86% and 99% of the prior.

    Args:
        models: VAEs of two latents by their titles, such as `lesson_models` trains.
        x: Held-out data. Shape (batch, *event_shape).
        labels: What to colour by. Shape (batch,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If a model has not two latents, or there are not as many labels as examples.

    Example:

    >>> from keras_vae.models import DenseVAE
    >>> x, labels = np.eye(4, dtype="float32"), np.arange(4)
    >>> figure = three_lessons({"untrained": DenseVAE((4,), 2)}, x, labels)
    >>> figure.axes[0].get_title()
    'untrained\nreconstruction ... nats, KL ... nats'
    """
    if not models:
        raise ValueError("`models` should hold at least one model. Received: none.")
    for name, model in models.items():
        if model.latent_dim != 2:
            raise ValueError(
                "`models` should have two latents each. "
                f"Received: latent_dim={model.latent_dim} in {name!r}."
            )
    labels = check_labels(x, labels)
    figure = blank(3.2 * len(models) + 0.8, 3.6)
    panels = figure.subplots(1, len(models), squeeze=False).flat
    for axes, (name, model) in zip(panels, models.items(), strict=True):
        handles = scatter(axes, metrics.posterior_means(model, x), labels)
        _draw_circles(axes, model.prior.distribution())
        rate = metrics.kl_per_latent(model, x).sum(axis=1).mean()
        distortion = -np.mean(model.elbo(x, seed=0)) - rate
        nats = f"reconstruction {distortion:.1f} nats, KL {rate:.1f} nats"
        axes.set_title(f"{name}\n{nats}", fontsize=TITLE_SIZE - 1)
        label_axes(axes, "latent 0", "latent 1")
        axes.set_aspect("equal", adjustable="datalim")
    legend(figure, handles, "label", marker_scale=LABEL_SCALE)
    return figure


def _draw_circles(axes, prior):
    """Draws the prior's standard deviations, above the codes, and has the axes hold them."""
    from matplotlib.patches import Ellipse

    scale = prior.stddev().numpy()
    for radius in _CIRCLES:
        width, height = 2 * radius * scale
        circle = Ellipse(prior.mean().numpy(), width, height, fill=False, color="black")
        circle.set(linestyle="--", linewidth=0.8)
        axes.add_patch(circle)
