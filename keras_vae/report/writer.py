"""From a model's name to the page: loads, measures, draws, explains, and writes one file."""

import time
from collections.abc import Callable
from pathlib import Path

from keras_vae import zoo
from keras_vae.files import atomic_file, local_path
from keras_vae.report.diagnosis import diagnose
from keras_vae.report.page import check_libraries, render
from keras_vae.report.pictures import draw
from keras_vae.report.study import study

FILE_NAME = "index.html"

# What the parts take of the whole time, about: likelihoods take nearly all of it.
_LOADED, _MEASURED = 0.02, 0.9


def write_report(
    name: str | Path,
    folder: str | Path,
    *,
    data: str | None = None,
    num_samples: int | None = None,
    dtype: str | None = None,
    limit: int | None = None,
    anew: bool = False,
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Writes a page about a model on a test set: numbers, pictures, a diagnosis, and its card.

    It is one HTML file that holds everything, pictures included, and asks the network for nothing.
    Nearly all of the time would go into the log-likelihood, images x samples decodes. Where the
    model's results hold it by the same protocol (data, images, samples and seeds), it is taken from
    there, a slice of it is measured again, and the page says so. All else is measured anew.

    Args:
        name: Name of a shipped model, path of a model folder, or address on the Hugging Face Hub.
        folder: Where `index.html` is written; created if need be.
        data: Name of the data set, as for `keras_vae.data.load`; the recipe's if not given.
        num_samples: Importance samples per image; the recipe's number if not given.
        dtype: Keras dtype policy of the networks for these, such as "mixed_bfloat16"; the recipe's
            if not given.
        limit: Number of test images, at least 2; all if not given.
        anew: Whether to measure the log-likelihood even if the model's results hold it.
        overwrite: Whether an `index.html` that is there may be replaced.
        progress: Called with the fraction done and what is being done, now and then.

    Returns:
        The path of the page.

    Raises:
        ImportError: If the `report` extra is not installed.
        ValueError: If there is no such model or data set, they do not fit each other, or `folder`
            is the address of a bucket.
        FileExistsError: If the page exists and `overwrite` is not set.
    """
    check_libraries()
    path = local_path(folder) / FILE_NAME
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already. Choose another folder, or allow it to be overwritten."
        )
    report_progress = progress or (lambda fraction, label: None)
    start = time.monotonic()
    report_progress(0.0, "Loading")
    info = zoo.info(name)  # of one commit, if it is on the hub

    def measuring(fraction):
        report_progress(_LOADED + fraction * (_MEASURED - _LOADED), "Measuring")

    options = {"num_samples": num_samples, "dtype": dtype, "limit": limit, "anew": anew}

    def drawing(fraction):
        report_progress(_MEASURED + fraction * (1.0 - _MEASURED), "Drawing")

    with atomic_file(path) as draft:  # which sees to it that there is a place to write to
        found = study(info.folder, data_name=data, progress=measuring, **options)
        drawn_from = time.monotonic()
        pictures, detection = draw(found, progress=drawing)
        seconds = {**found.seconds, "pictures": time.monotonic() - drawn_from}
        seconds["in all"] = time.monotonic() - start
        html = render(found, diagnose(found, detection), pictures, info, seconds=seconds)
        draft.write_text(html, encoding="utf-8")
    report_progress(1.0, "Done")
    return path
