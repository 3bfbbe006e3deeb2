"""What a report is about: a model, test images with labels, and what was measured on them."""

import dataclasses
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vae import metrics, zoo
from keras_vae.distributions import Bernoulli
from keras_vae.zoo.evaluation import (
    held_out,
    in_precision,
    load_splits,
    measure,
    measure_slice,
    protocol,
    with_evaluation,
)
from keras_vae.zoo.recipe import DataRecipe, Recipe

_logger = logging.getLogger(__name__)

_TOLERANCE = 0.05  # nats, between two processors


class Study(NamedTuple):
    """A model and what was found out about it.

    Attributes:
        model: The model.
        recipe: What it is; its data are those of the report.
        is_foreign: Whether these are other data than those it was trained on.
        images: Test images. Shape (num_images, height, width, channels).
        labels: Shape (num_images,), or `None` where the data have none.
        results: As `zoo.evaluation.measure` returns them.
        kl_per_latent: Nats. Shape (num_images, latent_dim).
        is_active: Whether each latent says something of the image. Shape (latent_dim,).
        scores: -ELBO of each image, nats. Shape (num_images,).
        stored_difference: Nats by which the log-likelihood of a slice differs from the one in the
            model's results, if the log-likelihood is theirs; `None` if it was measured anew.
        seconds: What each part took, by name.
    """

    model: object
    recipe: Recipe
    is_foreign: bool
    images: np.ndarray
    labels: np.ndarray | None
    results: dict
    kl_per_latent: np.ndarray
    is_active: np.ndarray
    scores: np.ndarray
    stored_difference: float | None
    seconds: dict[str, float]


def study(
    name: str | Path,
    *,
    data_name: str | None = None,
    num_samples: int | None = None,
    dtype: str | None = None,
    limit: int | None = None,
    anew: bool = False,
    progress=None,
) -> Study:
    """Loads a model and test images, and measures one on the other; see `write_report`."""
    start = time.monotonic()
    folder, stored, stored_results, _ = zoo.info(name)
    model = in_precision(zoo.load(folder, compile=False), stored, "float32")
    recipe = dataclasses.replace(stored, data=_data_recipe(stored, model, data_name))
    recipe = with_evaluation(recipe, num_samples=num_samples, dtype=dtype)
    images, labels = _test_images(recipe, model, limit)
    loaded = time.monotonic()
    results, difference = None, None
    if not anew and stored_results.get("protocol") == protocol(recipe, len(images)):
        results, difference = _measure_beside(stored_results, model, recipe, images)
    if results is None:
        results = measure(model, recipe, images, progress=progress)
    measured = time.monotonic()
    means = metrics.posterior_means(model, images)
    kl_per_latent = metrics.kl_per_latent(model, images)
    scores = -np.asarray(model.elbo(images, seed=recipe.evaluation.seed), np.float64)
    seconds = {"loading": loaded - start, "numbers": measured - loaded}
    return Study(
        model,
        recipe,
        stored.data is not None and recipe.data.name != stored.data.name,
        images,
        labels,
        results,
        kl_per_latent,
        means.var(axis=0) > metrics.ACTIVE_VARIANCE,
        scores,
        difference,
        seconds,
    )


def _measure_beside(stored, model, recipe, images):
    """Measures all but the log-likelihood, which is taken from the model's results.

    Returns:
        The results, and by how much the log-likelihood of a slice differs from theirs; `None` for
        both if it is too much.
    """
    known = stored["test"]["log_likelihood"]
    results = measure(model, recipe, images, log_likelihood=known)
    again = measure_slice(model, images, slice=stored["slice"])
    difference = abs(again["log_likelihood"] - stored["slice"]["log_likelihood"])
    if difference > _TOLERANCE:
        _logger.warning(
            "The stored log-likelihood is measured anew: a slice of it differs by %.3f nats.",
            difference,
        )
        return None, None
    return results, difference


def _data_recipe(recipe, model, data_name):
    if data_name is None and recipe.data is None:
        raise ValueError(
            f"The recipe of {recipe.name!r} names no data: name a data set with `data`, "
            "or `--data` on the command line. Received: data=None."
        )
    if recipe.data is not None and data_name in (None, recipe.data.name):
        return recipe.data
    image_size = list(model.event_shape[:2])
    if recipe.data is not None:
        return dataclasses.replace(recipe.data, name=data_name, image_size=image_size)
    binarization = "dynamic" if isinstance(model.likelihood, Bernoulli) else "none"
    return DataRecipe(data_name, binarization=binarization, image_size=image_size)


def _test_images(recipe, model, limit):
    if limit is not None and limit < 2:
        raise ValueError(f"`limit` should be at least 2. Received: limit={limit}.")
    splits = load_splits(recipe)
    images = held_out(recipe, splits)[1][:limit]
    if images.shape[1:] != model.event_shape:
        raise ValueError(
            f"The images of {recipe.data.name!r} should be of shape {model.event_shape}, which "
            f"{recipe.name!r} was made for. Received: images of shape {images.shape[1:]}."
        )
    labels = splits.test.labels
    return images, None if labels is None else labels[:limit]
