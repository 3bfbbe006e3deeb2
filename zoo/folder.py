"""Writes a model folder: recipe, weights, numbers, golden outputs, a picture and the card."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vae.files import atomic_directory
from keras_vae.zoo import store
from keras_vae.zoo.card import write_card
from keras_vae.zoo.recipe import Recipe

_PICTURE_ROWS, _PICTURE_COLUMNS = 4, 12


def write_folder(
    folder: str | Path,
    model,
    recipe: Recipe,
    results: dict,
    *,
    examples=None,
    overwrite: bool = False,
) -> Path:
    """Writes a model folder, whole or not at all.

    Args:
        folder: Where.
        model: The model, as the recipe builds it.
        recipe: What it is.
        results: Measured numbers with their protocol; may be empty.
        examples: A few examples for the golden outputs; the model's own samples if not given.
        overwrite: Whether to replace an existing folder.

    Returns:
        The folder.

    Raises:
        ValueError: If a weight is not finite.
        FileExistsError: If the folder exists and `overwrite` is not set.
    """
    for weight in model.weights:
        if not np.all(np.isfinite(weight)):
            raise ValueError(
                f"The weight {weight.path!r} has values that are NaN or infinite; a model like "
                "that is not saved. Load its last good checkpoint."
            )
    with atomic_directory(Path(folder), overwrite=overwrite) as draft:
        (draft / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
        model.save_weights(draft / store.WEIGHTS)
        np.savez_compressed(draft / "golden.npz", **golden_outputs(model, examples))
        if len(model.event_shape) == 3 and model.event_shape[-1] in (1, 3):
            samples = model.sample(_PICTURE_ROWS * _PICTURE_COLUMNS, seed=0)
            (draft / "samples.png").write_bytes(_contact_sheet(samples))
        files = {path.name: store.sha256(path) for path in sorted(draft.iterdir())}
        results = {**results, "parameters": model.count_params(), "files": files}
        text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
        (draft / "results.json").write_text(text, encoding="utf-8")
        write_card(draft)
    return Path(folder)


def golden_outputs(model, examples=None) -> dict[str, np.ndarray]:
    """Returns inputs and what the model makes of them, to guard it against change.

    Args:
        model: The model.
        examples: Shape (batch, *event_shape); the model's own samples if not given.
    """
    x = np.asarray(model.sample(4, seed=0) if examples is None else examples, np.float32)
    posterior = model.encode(x)
    z = model.prior.distribution().sample(len(x), seed=(0, 0))
    golden = {
        "x": x,
        "loc": posterior.mean(),
        "scale": posterior.stddev(),
        "reconstruction": model.reconstruct(x),
        "z": z,
        "image": model.decode(z).mean(),
    }
    return {key: np.asarray(value) for key, value in golden.items()}


def _contact_sheet(images):
    """Returns images of shape (48, height, width, channels) as one PNG, with a thin gap between."""
    images = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    height, width, channels = images.shape[1:]
    grid = tf.reshape(images, (_PICTURE_ROWS, _PICTURE_COLUMNS, height, width, channels))
    sheet = tf.reshape(
        tf.transpose(grid, (0, 2, 1, 3, 4)),
        (_PICTURE_ROWS * height, _PICTURE_COLUMNS * width, channels),
    )
    pixels = tf.cast(tf.round(tf.clip_by_value(sheet, 0.0, 1.0) * 255), tf.uint8)
    # Twice the size, so that small images can be seen on a page.
    pixels = tf.repeat(tf.repeat(pixels, 2, axis=0), 2, axis=1)
    return tf.io.encode_png(pixels).numpy()
