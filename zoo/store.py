"""Where model folders lie, and whether they are whole."""

import difflib
import hashlib
import json
import warnings
from collections.abc import Iterable
from pathlib import Path

WEIGHTS = "model.weights.h5"
LOADED_FILES = ("recipe.toml", WEIGHTS)

_SHIPPED = Path(__file__).parent / "models"
_RECIPES = Path(__file__).parent / "recipes"


def shipped_names() -> list[str]:
    """Returns the names of the models that come with the package, sorted."""
    return sorted(path.parent.name for path in _SHIPPED.glob("*/results.json"))


def find(name: str | Path) -> Path:
    """Returns the folder of a model.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the Hugging Face Hub. A
            `Path` is never a name.

    Raises:
        ValueError: If there is no such model; the message names the near ones. Or if a name is that
            of a shipped model and of a folder here.
    """
    if str(name).startswith("hf://"):
        from keras_vae.zoo import hub

        return hub.fetch(str(name))
    path = Path(name)
    if isinstance(name, str) and name in shipped_names():
        if (path / "recipe.toml").is_file() and path.resolve() != (_SHIPPED / name).resolve():
            raise ValueError(
                f"{name!r} is a shipped model, and there is a model folder of that name here: "
                f"write './{name}' for the folder, or rename it."
            )
        return _SHIPPED / name
    if (path / "recipe.toml").is_file():
        return path
    if path.is_dir():
        raise ValueError(f"{path} is no model folder: it holds no recipe.toml.")
    if str(name) in shipped_names():
        raise ValueError(
            f"There is no model folder {str(name)!r} here. A Path is never the name of a shipped "
            f"model: give the string, {str(name)!r}."
        )
    near = difflib.get_close_matches(str(name), shipped_names())
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(
        f"There is no model or model folder {str(name)!r}.{hint} "
        "`keras_vae.zoo.list_models()` and `keras-vae list` name all that are shipped."
    )


def address(folder: Path) -> str:
    """Returns what a card tells to give to `load`: a shipped model's name, or a path like its own.

    Example:

    >>> address(Path("/home/me/models/tiny"))
    'path/to/tiny'
    """
    return folder.name if folder.parent == _SHIPPED else f"path/to/{folder.name}"


def find_recipe(name: str | Path) -> Path:
    """Returns the recipe.toml of a model, or a recipe that comes without one.

    Args:
        name: Path of a recipe, name of one in `zoo/recipes`, or any name that `find` knows. A
            `Path` is never a name, nor is what has a separator in it.

    Raises:
        ValueError: If there is neither such a model nor such a recipe, or a name is that of a
            recipe and of a model folder here.
    """
    if str(name).endswith(".toml"):
        return Path(name)
    if isinstance(name, str) and name in (path.stem for path in _RECIPES.glob("*.toml")):
        if Path(name, "recipe.toml").is_file():
            raise ValueError(
                f"{name!r} is a recipe that comes with keras_vae, and there is a model folder of "
                f"that name here: write './{name}' for the folder, or rename it."
            )
        return _RECIPES / f"{name}.toml"
    return find(name) / "recipe.toml"


def read_results(folder: Path) -> dict:
    """Returns what results.json says.

    Raises:
        ValueError: If the file is missing, no JSON, or does not list the files.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    if not isinstance(results, dict) or not isinstance(results.get("files"), dict):
        raise ValueError(f"{path} should be a table with the sha256 of each of the `files`.")
    return results


def sha256(path: Path) -> str:
    """Returns the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Compares files with the sha256 that results.json has for them.

    Raises:
        ValueError: If a file is missing, not listed, or not what it was when it was written.
    """
    expected = read_results(folder)["files"]
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing.")
        if name not in expected:
            raise ValueError(f"{folder / 'results.json'} has no sha256 for {name}.")
        if sha256(path) != expected[name]:
            raise ValueError(
                f"{path} is corrupt, truncated or edited: its sha256 is not the one in "
                "results.json. Get the folder anew, or train it again."
            )


def load_weights(model, folder: Path) -> None:
    """Loads the weights of a folder into a model built from its recipe.

    Raises:
        ValueError: If they cannot be read, or do not fit the recipe.
    """
    path = folder / WEIGHTS
    # Keras looks through every attribute of a layer for further layers, which takes 1 ms for each.
    layers = [*model.encoder.layers, *model.decoder.layers]
    weightless = [layer for layer in layers if not layer.weights]
    try:
        with warnings.catch_warnings():
            # Keras only warns of weights that the file lacks, and leaves them as they were.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path, objects_to_skip=weightless)
    except (OSError, KeyError, ValueError, UserWarning) as error:
        raise ValueError(f"{path} does not hold the weights of its recipe: {error}") from error


def adopt_weights(model, source) -> list[str]:
    """Copies every weight of another model that fits, and returns what it could not copy.

    A layer fits if it has the kind and the shapes of one in the source's network of the same name,
    and all layers that are copied stand in the same order in both. The step counter is copied if
    everything else was.

    Args:
        model: The model to fill.
        source: The model that has been trained.

    Returns:
        The paths of the layers and parts of `model` that keep their fresh weights.
    """
    fresh = []
    for name in ("encoder", "decoder"):
        ours, theirs = (_layers_with_weights(getattr(vae, name)) for vae in (model, source))
        kinds = [[_kind(layer) for layer in layers] for layers in (ours, theirs)]
        matched = difflib.SequenceMatcher(None, *kinds, autojunk=False).get_matching_blocks()
        copied = set()
        for first, second, size in matched:
            for offset in range(size):
                ours[first + offset].set_weights(theirs[second + offset].get_weights())
                copied.add(first + offset)
        fresh += [f"{name}/{layer.name}" for i, layer in enumerate(ours) if i not in copied]
    for name in ("prior", "posterior", "likelihood"):
        ours, theirs = getattr(model, name), getattr(source, name)
        if _kind(ours) == _kind(theirs):
            ours.set_weights(theirs.get_weights())
        elif ours.weights:
            fresh.append(name)
    if not fresh:
        model.step.assign(source.step)
    return fresh


def _layers_with_weights(network):
    return [layer for layer in network._flatten_layers(include_self=False) if layer.weights]


def _kind(layer):
    return type(layer), tuple(tuple(weight.shape) for weight in layer.weights)
