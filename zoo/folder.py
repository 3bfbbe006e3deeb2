"""Writes a model folder: recipe, weights, numbers, golden outputs, a picture and the card."""

import json
from pathlib import Path

import keras
import numpy as np

from keras_vae.files import atomic_directory
from keras_vae.zoo import store
from keras_vae.zoo.card import write_card
from keras_vae.zoo.pictures import write_pictures
from keras_vae.zoo.recipe import Recipe

_NUM_GOLDEN = 4


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
        examples: A dozen examples for the pictures; four of them for the golden outputs, which are
            made from the model's own samples if not given.
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
        # Whoever loads the model compiles it anew.
        optimizer = [model.optimizer] if model.compiled else []
        keras.saving.save_weights(model, draft / store.WEIGHTS, objects_to_skip=optimizer)
        golden = golden_outputs(model, None if examples is None else examples[:_NUM_GOLDEN])
        np.savez_compressed(draft / "golden.npz", **golden)
        write_pictures(draft, model, examples)
        files = {path.name: store.sha256(path) for path in sorted(draft.iterdir())}
        results = {**results, "parameters": model.count_params(), "files": files}
        text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
        (draft / "results.json").write_text(text, encoding="utf-8")
        write_card(draft, store.address(Path(folder).resolve()))
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
