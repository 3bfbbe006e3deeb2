"""Measures a trained model on held-out data, by a protocol that the numbers carry with them."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vae import data, metrics
from keras_vae.files import atomic_file
from keras_vae.zoo import store
from keras_vae.zoo.recipe import EvaluationRecipe, Recipe, read_recipe

# The slice that a test measures again: small enough to be cheap.
_SLICE = {"num_images": 200, "num_samples": 20, "importance_samples": 100, "seed": 0}

NUM_IMAGES_FOR_SAMPLE_SIZE = 50

LOG_LIKELIHOOD = "log_likelihood.npy"  # in the folder of the work under way: those so far


def evaluate(
    name: str | Path,
    *,
    num_samples: int | None = None,
    dtype: str | None = None,
    limit: int | None = None,
    progress=None,
) -> dict:
    """Measures a model from a folder on the test images of its recipe.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the Hugging Face Hub.
        num_samples: Importance samples per image; the recipe's number if not given.
        dtype: Keras dtype policy of the networks for these, such as "mixed_bfloat16"; the recipe's
            if not given.
        limit: Number of test images; all if not given.
        progress: Called with the fraction done, now and then.

    Returns:
        The numbers and their protocol, as `measure` gives them.

    Raises:
        ValueError: If the model is not there, or its recipe names no data.
    """
    from keras_vae import zoo

    folder = store.find(name)
    recipe = read_recipe(folder / "recipe.toml")
    if recipe.data is None:
        raise ValueError(
            f"The recipe of {recipe.name!r} names no data to evaluate on. Use "
            "`model.evaluate(images)` and `model.log_likelihood(images)` on your own."
        )
    recipe = with_evaluation(recipe, num_samples=num_samples, dtype=dtype)
    model = zoo.load(folder, compile=False)
    return measure(model, recipe, held_out(recipe)[1][:limit], progress=progress)


def with_evaluation(recipe: Recipe, **changes) -> Recipe:
    """Returns a recipe that measures otherwise; what is `None` stays as it is."""
    given = {name: value for name, value in changes.items() if value is not None}
    evaluation = dataclasses.replace(recipe.evaluation or EvaluationRecipe(), **given)
    return dataclasses.replace(recipe, evaluation=evaluation)


def held_out(recipe: Recipe, splits: data.Splits | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns validation and test images, float32 in [0, 1], binarized once if training binarizes.

    Args:
        recipe: Names the data, and how it is binarized.
        splits: The data, if it is loaded already.

    Raises:
        RuntimeError: If the data is not there and cannot be downloaded.

    References:
        Tomczak and Welling 2018, "VAE with a VampPrior", section 5.1.
    """
    splits = splits or load_splits(recipe)
    held = [_in_memory(split.images) for split in (splits.validation, splits.test)]
    if recipe.data.binarization == "none":
        return tuple(np.concatenate(list(data.batches(images, 500))) for images in held)
    # One stream of random numbers for both, validation first, as in the VampPrior's code.
    binary = data.binarize(np.concatenate(held), seed=recipe.data.evaluation_seed)
    return tuple(np.split(binary, [len(held[0])]))


def _in_memory(images):
    return images if isinstance(images, np.ndarray) else np.stack(list(images.as_numpy_iterator()))


def load_splits(
    recipe: Recipe, input_context: tf.distribute.InputContext | None = None
) -> data.Splits:
    """Returns the data set that a recipe names, cut as it says, or one worker's share of it."""
    wanted = recipe.data
    return data.load(
        wanted.name,
        split_seed=wanted.split_seed,
        image_size=wanted.image_size,
        repeatable=True,
        input_context=input_context,
    )


def num_images(images: np.ndarray | tf.data.Dataset) -> int:
    """Returns the number of images in memory or in a stream."""
    return len(images) if isinstance(images, np.ndarray) else int(images.cardinality())


def measure(
    model,
    recipe: Recipe,
    images: np.ndarray,
    *,
    log_likelihood: dict | None = None,
    progress=None,
    work: Path | None = None,
) -> dict:
    """Measures a model on test images.

    Args:
        model: The model. It is measured in float32, whatever it was built in, but for the
            log-likelihoods, whose precision is the recipe's for the evaluation.
        recipe: What it is, and how it is measured.
        images: Test images.
        log_likelihood: Its mean and standard error, if they are known by the same protocol; they
            take nearly all of the time.
        progress: Called with the fraction done, now and then.
        work: A folder that keeps the log-likelihoods so far, so that a measurement of an hour that
            is broken off goes on where it was.

    Returns:
        A dict with `test` (means with standard errors, nats per image; both parts of the KL
        divergence, of which the mutual information is at most the logarithm of the number of
        images; the importance sampler's effective sample size, mean and smallest of 50 images),
        `slice` (the same ELBO on a cheap slice, for a test to measure again), `protocol` and
        `seconds`.
    """
    evaluation = recipe.evaluation or EvaluationRecipe()
    start = time.monotonic()
    model = in_precision(model, recipe, "float32")
    elbo = np.asarray(model.elbo(images, num_samples=1, seed=evaluation.seed))
    latents = metrics.latent_summary(model, images, seed=evaluation.seed)
    if log_likelihood is None:
        sampler = in_precision(model, recipe, evaluation.dtype)
        nats = _log_likelihood(sampler, images, evaluation, progress, work)
        log_likelihood = metrics.mean_with_standard_error(nats)
    mean_nats = np.array([log_likelihood["mean"]])
    total_kl = latents.kl_per_latent.sum(axis=-1)
    sample_sizes = metrics.effective_sample_size(
        model, images[:NUM_IMAGES_FOR_SAMPLE_SIZE], evaluation.num_samples, seed=evaluation.seed
    )
    test = {
        "elbo": metrics.mean_with_standard_error(elbo),
        "reconstruction": metrics.mean_with_standard_error(-elbo - total_kl),
        "kl": metrics.mean_with_standard_error(total_kl),
        "log_likelihood": log_likelihood,
        "bits_per_dimension": metrics.bits_per_dimension(mean_nats, model.event_shape),
        "active_units": latents.active_units,
        "mutual_information": latents.information["mutual_information"],
        "marginal_kl": latents.information["marginal_kl"],
        "effective_sample_size": round(float(sample_sizes.mean()), 1),
        "smallest_effective_sample_size": round(float(sample_sizes.min()), 1),
    }
    return {
        "test": test,
        "slice": measure_slice(model, images),
        "protocol": protocol(recipe, len(images)),
        "seconds": round(time.monotonic() - start, 1),
    }


def measure_slice(model, images: np.ndarray, *, slice: dict | None = None) -> dict:
    """Measures ELBO and log-likelihood on a few test images, cheap enough for a test to repeat.

    Args:
        model: A VAE.
        images: Test images.
        slice: How many images and samples, and the seed; those of new results if not given.

    Returns:
        The same, with `elbo` and `log_likelihood`, means in nats per image.
    """
    chosen = {key: (slice or _SLICE)[key] for key in _SLICE}
    part = images[: chosen["num_images"]]
    chosen["num_images"] = len(part)
    elbo = model.elbo(part, num_samples=chosen["num_samples"], seed=chosen["seed"])
    nats = model.log_likelihood(part, chosen["importance_samples"], seed=chosen["seed"])
    return {**chosen, "elbo": float(np.mean(elbo)), "log_likelihood": float(np.mean(nats))}


def in_precision(model, recipe: Recipe, dtype: str):
    """Returns a model with the same weights that computes in a precision, or itself if it does.

    Args:
        model: The model.
        recipe: What it is.
        dtype: Keras dtype policy, such as "mixed_bfloat16".
    """
    is_so = model.dtype_policy.name == dtype
    return model if is_so else rebuilt(model, recipe, dtype=dtype)


def rebuilt(model, recipe: Recipe, **overrides):
    """Returns a model that the recipe builds, with the weights of another."""
    other = recipe.build(**overrides)
    other.set_weights(model.get_weights())
    return other


def _log_likelihood(model, images, evaluation, progress, work):
    path = None if work is None else work / LOG_LIKELIHOOD
    done = np.load(path) if path is not None and path.exists() else np.zeros(0, np.float32)
    while len(done) < len(images):
        batch = images[len(done) : len(done) + 256]
        seed = evaluation.seed + len(done)
        nats = model.log_likelihood(batch, evaluation.num_samples, seed=seed)
        done = np.concatenate([done, nats])
        if path is not None:
            with atomic_file(path) as draft, draft.open("wb") as file:
                np.save(file, done)
        if progress:
            progress(len(done) / len(images))
    return done


def protocol(recipe: Recipe, num_images: int) -> dict:
    """Returns what has to be the same for two measurements to be comparable.

    Args:
        recipe: Names the data, and how the model is measured.
        num_images: Number of test images.
    """
    evaluation = recipe.evaluation or EvaluationRecipe()
    precision = {} if evaluation.dtype == "float32" else {"precision": evaluation.dtype}
    return {
        "data": recipe.data.name,
        "split_seed": recipe.data.split_seed,
        "training_binarization": recipe.data.binarization,
        "test_binarization": "none"
        if recipe.data.binarization == "none"
        else f"Bernoulli, once, numpy seed {recipe.data.evaluation_seed}, validation first",
        "num_test_images": num_images,
        "importance_samples": evaluation.num_samples,
        "elbo_samples": 1,
        "seed": evaluation.seed,
        **precision,
        "units": "nats per image",
    }
