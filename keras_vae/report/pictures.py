"""The pictures of a report, drawn one after the other, each with what to see in it."""

import base64
import io
import logging
from typing import NamedTuple

import numpy as np

from keras_vae import anomaly, plots
from keras_vae.distributions import Bernoulli
from keras_vae.report.diagnosis import Detection
from keras_vae.report.study import Study

_logger = logging.getLogger(__name__)

_COLUMNS = 12
_NUM_PAIRS, _NUM_POSTERIORS = 4, 5
_NUM_ENCODED = 10_000
_NUM_FLIPPED = 1000
_MOST_LABELS = 20  # that colours and markers tell apart
_FALSE_POSITIVES = 0.01
_DPI = 110


class Picture(NamedTuple):
    """One picture.

    Attributes:
        title: In a few words.
        caption: What it shows, and what to look for.
        alt: The same for who cannot see it.
        has_text: Whether there is small text in it, which must not shrink on narrow screens.
        source: A PNG as a `data:` address.
        width: Pixels.
        height: Pixels.
    """

    title: str
    caption: str
    alt: str
    has_text: bool
    source: str
    width: int
    height: int


def draw(study: Study, *, progress=None) -> tuple[list[Picture], Detection]:
    """Draws every picture that suits the model.

    Args:
        study: The model and what was measured.
        progress: Called with the fraction done, now and then.

    Returns:
        The pictures, and how well anomalies were told apart on the way.
    """
    scores = {
        "test images": study.scores,
        "samples of the model": _score(study, _samples(study)),
        "test images upside down": _score(study, study.images[:_NUM_FLIPPED, ::-1]),
    }
    detection = _detection(scores)
    jobs = _jobs(study, scores, detection)
    pictures = []
    for done, (title, caption, alt, has_text, figure) in enumerate(jobs):
        try:
            pictures.append(Picture(title, caption, alt, has_text, *_png(figure())))
        except ValueError as error:  # such as images of two channels
            _logger.warning("The report leaves out %r: %s", title, error)
        if progress:
            progress((done + 1) / len(jobs))
    return pictures, detection


def _jobs(study, scores, detection):
    """Returns what a `Picture` needs, with a function that draws, for each picture."""
    model, images = study.model, study.images
    strange = np.argsort(-study.scores, kind="stable")[:_COLUMNS]
    first, second = images[:_NUM_PAIRS], images[_NUM_PAIRS:][:_NUM_PAIRS]
    pairs = min(len(first), len(second))
    jobs = [
        (
            "Reconstructions",
            "Test images, and below each what is left of it after encoding and decoding.",
            "A row of test images above a row of their reconstructions.",
            False,
            lambda: plots.reconstructions(model, images[:_COLUMNS]),
        ),
        (
            "The strangest test images",
            "The test images with the lowest ELBO, the strangest at the left: what the model knows "
            "least about, mislabelled or damaged images among it.",
            "A row of the test images of lowest ELBO above a row of their reconstructions.",
            False,
            lambda: plots.reconstructions(model, images[strange]),
        ),
        (
            "Samples",
            "Codes drawn from the prior and decoded; none picked.",
            "A grid of images decoded from random codes.",
            False,
            lambda: plots.samples(model, seed=0),
        ),
        (
            "What each latent holds",
            "The KL divergence from the prior that each latent carries on the mean. A latent "
            "without nats says nothing about the image.",
            f"Bars of nats, a bar for each latent: {int(study.is_active.sum())} of "
            f"{len(study.is_active)} are active.",
            True,
            lambda: plots.latent_nats(study.kl_per_latent, is_active=study.is_active),
        ),
        (
            "What each latent changes",
            "One latent at a time goes from -3 to 3 standard deviations of the prior, the others "
            "stay. Rows are ordered by nats; in rows without nats nothing changes.",
            "Rows of images; along each row one latent changes.",
            True,
            lambda: plots.traversal(model, images),
        ),
        (
            "Interpolations",
            "From the left test image to the right one, along the straight line between their "
            "codes. What lies between should look like data too.",
            "Rows of images that change from the left one into the right one.",
            False,
            lambda: plots.interpolation(model, first[:pairs], second[:pairs]),
        ),
        (
            "Posteriors of single images",
            "Where the code of each of a few test images may lie, against the prior, for the "
            "latents with most nats. Narrow and apart: much is known. On the prior: nothing.",
            "Densities of a few posteriors and of the prior, a panel for each latent.",
            True,
            lambda: plots.posteriors(model, images[:_NUM_POSTERIORS]),
        ),
        (
            "How strange images are",
            "The score that finds anomalies, higher for what is less like the data. The threshold "
            "calls at most one test image in a hundred an anomaly. Samples of a good model score "
            f"as test images do. Upside down are {detection.num_flipped:,} of them, mirrored top "
            "to bottom.",
            f"Outlines of the scores of {', '.join(scores)}.",
            True,
            lambda: plots.score_histogram(
                scores, x_label="-ELBO (nats)", threshold=detection.threshold
            ),
        ),
    ]
    if study.model.latent_dim > 1:
        jobs.insert(3, _map_of_codes(study))
    if study.model.latent_dim == 2:
        jobs.insert(
            3,
            (
                "The plane of the two latents",
                "Images decoded on a grid over both latents, spaced by quantiles of the prior.",
                "A grid of decoded images that change across and upwards.",
                False,
                lambda: plots.latent_grid(model, images, size=15),
            ),
        )
    return jobs


def _map_of_codes(study):
    images = study.images[:_NUM_ENCODED]
    labels = np.full(len(images), "no label")
    colored = "which have no labels"
    if study.labels is not None:
        number = len(np.unique(study.labels[: len(images)]))
        colored = f"whose {number:,} labels are too many to be coloured"
        if number <= _MOST_LABELS:
            labels, colored = study.labels[: len(images)], "coloured by label"
    return (
        "The map of codes",
        f"The mean code of {len(images):,} test images, {colored}. More than two latents are "
        "projected onto their two principal components; groups that overlap here may lie apart in "
        "the others.",
        f"A scatter plot of codes in two dimensions, {colored}.",
        True,
        lambda: plots.encoded(study.model, images, labels),
    )


def _samples(study):
    """Returns samples with noise as data have it, but means where a Bernoulli has grey data."""
    number = min(1000, len(study.images))
    is_binary = np.isin(study.images[:100], (0.0, 1.0)).all()
    if isinstance(study.model.likelihood, Bernoulli) and not is_binary:
        return study.model.sample(number, seed=1).numpy()
    z = study.model.prior.distribution().sample(number, seed=(1, 0))
    return study.model.decode(z).sample(seed=(1, 1)).numpy()


def _score(study, images):
    return -np.asarray(study.model.elbo(images, seed=study.recipe.evaluation.seed), np.float64)


def _detection(scores):
    clean, flipped = scores["test images"], scores["test images upside down"]
    threshold = anomaly.threshold(clean, _FALSE_POSITIVES)
    auroc = anomaly.detection_metrics(clean, flipped)["auroc"]
    return Detection(threshold, float((flipped > threshold).mean()), auroc, len(flipped))


def _png(figure) -> tuple[str, int, int]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    width, height = (round(inches * _DPI) for inches in figure.get_size_inches())
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/png;base64,{encoded}", width, height
