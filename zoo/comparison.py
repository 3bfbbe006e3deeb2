"""Puts the numbers of a twin, trained by nearly the same recipe, into a model's results."""

import dataclasses
import json
import sys
from pathlib import Path

from keras_vae.files import atomic_file
from keras_vae.zoo import store
from keras_vae.zoo.card import write_card
from keras_vae.zoo.recipe import Recipe, read_recipe

_NOT_COMPARED = ("name", "summary", "licence")


def add_comparison(folder: str | Path, twin: str | Path) -> dict:
    """Adds a twin's numbers to a model's results.json, and writes the model's card anew.

    A number means little without one beside it: a twin differs from the model in a setting or two,
    and what these are is read off the recipes. A twin of the same name replaces an older one.

    Args:
        folder: A model folder.
        twin: The folder of the twin, as `train` writes it.

    Returns:
        What was added: `name`, `differs` (the twin's value for each setting that is not the
        model's), `training` and `test`.

    Raises:
        ValueError: If one of them is no model folder or holds no numbers, or both have one recipe.
    """
    folder, twin = store.find(folder), store.find(twin)
    recipe, other = (read_recipe(path / "recipe.toml") for path in (folder, twin))
    results, numbers = store.read_results(folder), store.read_results(twin)
    if "test" not in results or "test" not in numbers:
        raise ValueError(f"Both {folder} and {twin} should have been measured.")
    differs = differences(recipe, other)
    if not differs:
        raise ValueError(f"{folder} and {twin} were trained by one recipe: there is no difference.")
    added = {
        "name": other.name,
        "differs": differs,
        "training": numbers["training"],
        "test": numbers["test"],
        "protocol": numbers["protocol"],
    }
    kept = [entry for entry in results.get("comparisons", []) if entry["name"] != other.name]
    with atomic_file(folder / "results.json") as draft:
        text = json.dumps({**results, "comparisons": [*kept, added]}, indent=2, ensure_ascii=False)
        draft.write_text(text + "\n", encoding="utf-8")
    write_card(folder, store.address(folder.resolve()))
    return added


def differences(recipe: Recipe, other: Recipe) -> dict[str, object]:
    """Returns the other recipe's value for each setting in which the two differ, by dotted name."""
    ours, theirs = (_flat(dataclasses.asdict(one)) for one in (recipe, other))
    names = [name for name in {**ours, **theirs} if name not in _NOT_COMPARED]
    return {name: theirs.get(name) for name in names if ours.get(name) != theirs.get(name)}


def _flat(table, prefix=""):
    flat = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


if __name__ == "__main__":
    add_comparison(*sys.argv[1:3])
