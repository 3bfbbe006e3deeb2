"""The models already trained: list them, read about them, load them, save your own beside them."""

import logging
from pathlib import Path
from typing import NamedTuple

from keras_vae.files import local_path
from keras_vae.zoo import store
from keras_vae.zoo.recipe import Recipe, read_recipe

__all__ = ["Info", "evaluate", "info", "list_models", "load", "push", "reproduce", "save", "train"]

_logger = logging.getLogger(__name__)


class Info(NamedTuple):
    """What a model folder says about itself.

    Attributes:
        folder: Where it lies.
        recipe: How the model is built, trained and evaluated.
        results: Measured numbers with their protocol, and the files' sha256.
        card: The model card, in Markdown.
    """

    folder: Path
    recipe: Recipe
    results: dict
    card: str


def list_models() -> list[str]:
    """Returns the names of the shipped models, sorted.

    Example:

    >>> "conv_mnist" in list_models()
    True
    """
    return store.shipped_names()


def info(name: str | Path) -> Info:
    """Returns what a model's folder says about it, without loading TensorFlow.

    Args:
        name: Name of a shipped model, or path of a model folder.

    Raises:
        ValueError: If there is no such model, or its folder is damaged.
    """
    folder = store.find(name)
    card = folder / "README.md"
    return Info(
        folder,
        read_recipe(folder / "recipe.toml"),
        store.read_results(folder),
        card.read_text(encoding="utf-8") if card.exists() else "",
    )


def load(name: str | Path, *, weights: bool = True, compile: bool = True, **overrides):
    """Loads a model: `keras_vae.zoo.load("conv_mnist")`.

    Nothing in the folder is run: it holds a recipe, weights and numbers, and each file is checked
    against its sha256 before it is used.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the Hugging Face Hub,
            `hf://org/name@revision`.
        weights: Whether to load the trained weights; otherwise the model starts afresh.
        compile: Whether to compile it, with Adam at the recipe's learning rate.
        **overrides: Constructor arguments to use instead of the recipe's, such as `latent_dim`,
            `event_shape` or `likelihood`. Every layer that still fits gets the trained weights; a
            warning is logged that names those that do not.

    Returns:
        A `keras_vae.VAE`.

    Raises:
        ImportError: If it is on the hub, and the hub extra is not installed.
        ValueError: If there is no such model or argument, or its folder is damaged; the message
            names the file and the reason.

    Example:

    >>> vae = load("dense_digits", weights=False, latent_dim=3)
    >>> vae.sample(2).shape
    TensorShape([2, 8, 8, 1])
    """
    folder = store.find(name)
    store.check_files(folder, store.LOADED_FILES if weights else ("recipe.toml",))
    recipe = read_recipe(folder / "recipe.toml")
    recipe.check_overrides(overrides)
    if weights:
        from keras_vae.zoo import undrawn

        model = undrawn.build(recipe)
        store.load_weights(model, folder)
        if overrides:
            model = _changed(recipe, overrides, model)
    else:
        model = recipe.build(**overrides)
    if compile:
        recipe.compile(model)
    return model


def _changed(recipe, overrides, trained):
    """Returns the model that the overrides ask for, with every trained weight that fits."""
    model = recipe.build(**overrides)
    if fresh := store.adopt_weights(model, trained):
        _logger.warning(
            "%s with %s: fresh weights in %s; all others are the trained ones.",
            recipe.name,
            ", ".join(f"{key}={value!r}" for key, value in overrides.items()),
            ", ".join(fresh),
        )
    return model


def save(
    model,
    folder: str | Path,
    *,
    name: str | None = None,
    summary: str = "",
    examples=None,
    overwrite: bool = False,
) -> Path:
    """Saves a model as a folder that `load` reads, in this process or any other.

    The folder appears whole or not at all, and an existing one survives until then.

    Args:
        model: A `DenseVAE`, `ConvVAE`, `BetaVAE` or other variant; a `VAE` of your own networks
            goes into a `.keras` file by `model.save`.
        folder: Where to write it.
        name: Name of the model; the folder's if not given.
        summary: One line for the model's card.
        examples: Images for the golden outputs; the model's own samples if not given.
        overwrite: Whether to replace an existing folder.

    Returns:
        The folder.

    Raises:
        ValueError: If the model is not a variant, its weights are not finite, or `folder` is the
            address of a bucket.
        FileExistsError: If the folder exists and `overwrite` is not set.
    """
    from keras_vae.zoo.folder import write_folder

    folder = local_path(folder)
    recipe = Recipe.of(model, name=name or folder.name, summary=summary)
    return write_folder(folder, model, recipe, {}, examples=examples, overwrite=overwrite)


def __getattr__(name):
    # These need more than loading does.
    if name == "train":
        from keras_vae.zoo.training import train as function
    elif name == "evaluate":
        from keras_vae.zoo.evaluation import evaluate as function
    elif name == "reproduce":
        from keras_vae.zoo.reproduction import reproduce as function
    elif name == "push":
        from keras_vae.zoo.hub import push as function
    else:
        raise AttributeError(f"module 'keras_vae.zoo' has no attribute {name!r}")
    return function
