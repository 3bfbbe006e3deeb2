"""Numbers in plain words: what is well, what is worth knowing, and what to do about the rest."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae import metrics
from keras_vae.distributions import Bernoulli
from keras_vae.objectives import ELBO, IWAE
from keras_vae.report.study import Study
from keras_vae.schedules import as_schedule
from keras_vae.zoo.evaluation import NUM_IMAGES_FOR_SAMPLE_SIZE

GOOD, NOTE, WARNING = "good", "note", "warning"

_COLLAPSED_NATS = 0.1  # of mutual information
_SATURATED = 0.85  # of the largest mutual information that so many images can show
_TRUSTED_SIZE, _POOR_SIZE = 10.0, 2.0  # effective samples
_WIDE_GAP = 0.2  # between ELBO and log-likelihood, as a share of the KL
_MOST_OF_THE_NATS = 0.9
_DETECTED = 0.9  # AUROC


class Finding(NamedTuple):
    """One thing to know about a model.

    Attributes:
        level: `GOOD`, `NOTE` or `WARNING`.
        title: In a few words.
        text: The evidence with its numbers, and what can be done.
    """

    level: str
    title: str
    text: str


class Detection(NamedTuple):
    """How well the score tells images that are upside down from those that are not.

    Attributes:
        threshold: -ELBO, nats, above which at most one test image in a hundred lies.
        share_found: Share of the images upside down above it.
        auroc: Area under the ROC curve.
        num_flipped: How many images were turned.
    """

    threshold: float
    share_found: float
    auroc: float
    num_flipped: int


def diagnose(study: Study, detection: Detection | None = None) -> list[Finding]:
    """Returns what the numbers of a study say, in plain words.

    Args:
        study: The model and what was measured.
        detection: How anomalies were told apart, if that was tried.
    """
    findings = [
        *_data(study),
        _latents(study),
        _information(study),
        _sampler(study),
        _gap(study),
    ]
    if detection is not None:
        findings.append(_anomalies(detection))
    return findings


def _data(study):
    name = study.recipe.data.name
    if study.is_foreign:
        yield Finding(
            NOTE,
            "These are other data than it was trained on",
            f"All numbers below are about how the model takes images of {name}. Low ones are no "
            "fault of its training.",
        )
    is_binary = bool(np.isin(study.images[:100], (0.0, 1.0)).all())
    if isinstance(study.model.likelihood, Bernoulli) and not is_binary:
        yield Finding(
            WARNING,
            "The nats are no log-likelihoods",
            "A Bernoulli likelihood was given grey values: it is a cross-entropy then, and does "
            "not compare with what binary images give. Binarize the images, or take a "
            "ContinuousBernoulli.",
        )


def _latents(study):
    test, latent_dim = study.results["test"], len(study.is_active)
    active, mutual = test["active_units"], test["mutual_information"]
    evidence = (
        f"{active} of {latent_dim} latents carry information about the image (the variance of "
        f"their posterior mean over the images is above {metrics.ACTIVE_VARIANCE:g})."
    )
    if (active == 0 or mutual < _COLLAPSED_NATS) and study.is_foreign:
        text = f"{evidence} Together they tell {mutual:.2f} nats about one of these."
        return Finding(NOTE, "The latents say next to nothing of these data", text)
    if active == 0 or mutual < _COLLAPSED_NATS:
        return Finding(
            WARNING,
            "The latents have collapsed onto the prior",
            f"{evidence} Together they tell {mutual:.2f} nats about an image, so the decoder does "
            "without them. What helps: warm up the KL term (`ELBO(beta=Linear(num_steps=...))`), "
            "give each latent some nats for free (`ELBO(free_bits=0.1)`), lower beta, or take a "
            "smaller decoder.",
        )
    nats = np.sort(study.kl_per_latent.mean(axis=0))[::-1]
    most = int(np.searchsorted(nats.cumsum() / nats.sum(), _MOST_OF_THE_NATS)) + 1
    text = f"{evidence} {most} of them hold 90% of the nats."
    if study.is_foreign:
        return Finding(NOTE, f"{active} of {latent_dim} latents are used", text)
    if active == latent_dim:
        return Finding(
            GOOD,
            f"All {latent_dim} latents are used",
            f"{text} More latents may find more to say: try a larger `latent_dim`.",
        )
    text += (
        f" The other {latent_dim - active} lie on the prior. They cost next to nothing, and show "
        f"that a `latent_dim` of {active} would do."
    )
    return Finding(GOOD, f"{active} of {latent_dim} latents are used", text)


def _information(study):
    test, bound = study.results["test"], math.log(len(study.images))
    kl, mutual, marginal = test["kl"]["mean"], test["mutual_information"], test["marginal_kl"]
    if mutual > _SATURATED * bound:
        return Finding(
            NOTE,
            "A code all but names its image",
            f"The code tells {mutual:.2f} nats about which image it came from, of at most "
            f"log({len(study.images):,}) = {bound:.2f} that so many images can show. The true "
            f"number may be anything up to the KL of {kl:.2f} nats, so the rest, {marginal:.2f}, "
            "is no more than an upper bound of the distance between all codes and the prior.",
        )
    text = (
        f"Of the KL of {kl:.2f} nats, {mutual:.2f} tell images apart (mutual information), and "
        f"{marginal:.2f} are the distance of all codes together from the prior, which samples from "
        "the prior suffer from."
    )
    if marginal > mutual and study.is_foreign:
        return Finding(NOTE, "Foreign images are coded where the prior expects none", text)
    if marginal > mutual:
        title = "Samples from the prior are not where the codes are"
        return Finding(WARNING, title, f"{text} A richer prior would mend that.")
    return Finding(GOOD, "The codes lie about where the prior expects them", text)


def _sampler(study):
    test, num_samples = study.results["test"], study.results["protocol"]["importance_samples"]
    mean, smallest = test["effective_sample_size"], test["smallest_effective_sample_size"]
    num_images = min(NUM_IMAGES_FOR_SAMPLE_SIZE, len(study.images))
    evidence = (
        f"Of {num_samples:,} importance samples, {mean:.1f} count on the mean of {num_images} "
        f"images, and {smallest:.1f} on the worst (effective sample size)."
    )
    if mean < _POOR_SIZE:
        return Finding(
            WARNING,
            "Do not trust the log-likelihood yet",
            f"{evidence} Nearly every estimate hangs on a single sample, so the true "
            "log-likelihood may be well above. Take more samples.",
        )
    if mean < _TRUSTED_SIZE or smallest < _POOR_SIZE:
        return Finding(
            NOTE,
            "The log-likelihood is a cautious estimate",
            f"{evidence} Where few samples count, the estimate is too low: the true log-likelihood "
            "is higher, and the NLL lower, by an amount that only more samples show.",
        )
    return Finding(GOOD, "The log-likelihood can be trusted", evidence)


def _gap(study):
    test = study.results["test"]
    elbo, nats = test["elbo"]["mean"], test["log_likelihood"]["mean"]
    gap = nats - elbo
    text = (
        f"The ELBO, {elbo:.2f} nats, lies {gap:.2f} nats below the log-likelihood, {nats:.2f}. "
        "That is what the encoder's approximation of the posterior costs."
    )
    if gap <= _WIDE_GAP * test["kl"]["mean"]:
        return Finding(GOOD, "The bound is tight", text)
    if study.is_foreign:
        return Finding(NOTE, "The encoder was not made for these data", text)
    objective = study.model.objective
    if isinstance(objective, IWAE):
        return Finding(
            NOTE,
            "The ELBO is not what was trained",
            f"{text} Training raised the bound of {objective.num_samples} importance samples, "
            "which lets the encoder spread its codes and so gives up some of the ELBO: judge the "
            "model by its log-likelihood.",
        )
    if _is_weighted(objective, study.model.step):
        return Finding(
            NOTE,
            "The ELBO is not what was trained",
            f"{text} Training weighed the KL term otherwise than the ELBO does, and so asked for "
            "another posterior: judge the model by its log-likelihood.",
        )
    return Finding(
        NOTE,
        "The encoder leaves nats on the table",
        f"{text} A larger encoder or a richer posterior may win some of them back. Training on "
        "the IWAE objective raises the log-likelihood, and widens the gap.",
    )


def _is_weighted(objective, step):
    """Returns whether an objective weighs the KL term otherwise than the ELBO does."""
    if not isinstance(objective, ELBO):
        return True
    beta = as_schedule("beta", objective.beta)(tf.convert_to_tensor(step))
    return objective.free_bits > 0 or float(beta) != 1.0


def _anomalies(detection):
    text = (
        "With a threshold that calls at most one test image in a hundred an anomaly "
        f"(-ELBO above {detection.threshold:.1f} nats), {detection.share_found:.0%} of "
        f"{detection.num_flipped:,} mirrored top to bottom are called one; AUROC "
        f"{detection.auroc:.3f}. It is a hard test where things look alike both ways up."
    )
    if detection.auroc < _DETECTED:
        return Finding(NOTE, "It tells images that are upside down only in part", text)
    return Finding(GOOD, "It tells images that are upside down", text)
