"""Trains a model anew from its recipe, and holds the numbers against those it is shipped with."""

from pathlib import Path
from typing import NamedTuple

from keras_vae.zoo import store
from keras_vae.zoo.training import train

_QUANTITIES = ("elbo", "log_likelihood", "reconstruction", "kl")


class Reproduction(NamedTuple):
    """A number that was measured twice, nats per test image.

    Attributes:
        quantity: "elbo", "log_likelihood", "reconstruction" or "kl".
        stored: What results.json says.
        reproduced: What the model that was trained anew gives.
        agrees: Whether the two are within the tolerance.
    """

    quantity: str
    stored: float
    reproduced: float
    agrees: bool


def reproduce(
    name: str | Path,
    folder: str | Path,
    *,
    tolerance: float = 0.5,
    verbose: int | str = "auto",
    progress=None,
    overwrite: bool = False,
) -> list[Reproduction]:
    """Trains a model from its recipe, measures it, and compares the numbers with the stored ones.

    On one kind of processor, seeds make a training repeatable; on another, sums are added in
    another order, and two trainings drift apart as two seeds would.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the hub.
        folder: Where the model that is trained anew goes; it goes on from an interruption.
        tolerance: Largest difference that passes, in nats per image.
        verbose: As for `keras.Model.fit`.
        progress: Called with the fraction of the final measurement that is done.
        overwrite: Whether to replace an existing folder.

    Returns:
        One comparison for each number.

    Raises:
        ValueError: If the stored results hold no numbers, or the recipe cannot be trained.
        FileExistsError: If the folder exists and `overwrite` is not set.
    """
    stored = store.read_results(store.find(name))
    if "test" not in stored:
        raise ValueError(f"The results of {str(name)!r} hold no numbers to compare with.")
    trained = train(name, folder, verbose=verbose, progress=progress, overwrite=overwrite)
    reproduced = store.read_results(trained)
    pairs = [
        (key, stored["test"][key]["mean"], reproduced["test"][key]["mean"]) for key in _QUANTITIES
    ]
    return [Reproduction(*pair, abs(pair[1] - pair[2]) <= tolerance) for pair in pairs]
