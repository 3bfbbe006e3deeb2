"""SavedModel: what TF Serving loads."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from keras_vae.export import fresh_process
from keras_vae.export.carried import (
    Carried,
    describe,
    read_metadata_of_saved_model,
    write_into_saved_model,
)
from keras_vae.export.proof import TOLERANCES, Proof, check_trained
from keras_vae.export.signatures import Signature, offered_signatures
from keras_vae.export.verification import check, extra
from keras_vae.export.warm_up import write_warm_up
from keras_vae.files import atomic_directory, local_path
from keras_vae.vae import VAE

_logger = logging.getLogger(__name__)

# Of the proof that travels along. Other processors add in another order: float32 gets as much as in
# the other formats, and of bfloat16 one rounding is 4e-3.
_CARRIED_TOLERANCE = 1e-5
_CARRIED_TOLERANCE_OF_16_BITS = 2e-2


def to_saved_model(
    model: VAE,
    base_dir: str | os.PathLike,
    part: str = "decoder",
    *,
    version: int | None = None,
    uint8_images: bool = False,
    metadata: Mapping[str, str] | None = None,
    force: bool = False,
) -> Path:
    """Writes a part of the model as the next version that TF Serving will find in `base_dir`.

    What it offers is listed in `signatures.Signature`. The version is run in a fresh process, which
    has nothing of keras_vae, and compared with the model before it appears, and it appears whole;
    older versions are left alone. In its folder `assets.extra` are the first requests, with which
    the server warms it up, and the proof and metadata that `verify` reads. Here a difference of
    1e-6 is allowed. On other machines, which add in another order, the proof allows 1e-5, or 2e-2
    if a layer computes in 16 bits, as in mixed precision.

    Args:
        model: The model.
        base_dir: Folder of all versions; it is created if it is not there. A warning is logged if
            its newest version takes images of another dtype.
        part: "decoder", "encoder" or "vae".
        version: A number that is not taken yet; the next one above the existing ones if not given.
        uint8_images: Whether images come as uint8, from 0 to 255, and are scaled in the graph.
        metadata: What the export should say of itself besides, such as a licence.
        force: Whether to export a model that is untrained or gives NaN.

    Returns:
        The folder of the version, `base_dir/version`.

    Raises:
        ExportError: If what was written differs from the model or could not be served, or the model
            is untrained or gives NaN, unless forced.
        FileExistsError: If the version exists.
        ImportError: If the export extra is not installed.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`.
        ValueError: If there is no such part, `version` is not an integer of at least 0, or
            `base_dir` is the address of a bucket.

    Example:

    >>> import tempfile
    >>> import keras_vae
    >>> vae = keras_vae.zoo.load("dense_digits")
    >>> path = to_saved_model(vae, tempfile.mkdtemp())
    >>> path.name
    '1'
    >>> decode = tf.saved_model.load(path).signatures["decode"]
    >>> decode(z=tf.zeros((3, vae.latent_dim)))["image"].shape
    TensorShape([3, 8, 8, 1])
    """
    base_dir = local_path(base_dir)
    if version is None:
        options = {"uint8_images": uint8_images, "metadata": metadata, "force": force}
        return _to_next_version(model, base_dir, part, **options)
    offered = offered_signatures(model, part, "saved_model", uint8_images=uint8_images)
    if not isinstance(version, int) or version < 0:
        raise ValueError(f"`version` should be an integer >= 0. Received: version={version!r}.")
    check_trained(model, force=force)
    extra("tensorflow_serving.apis.prediction_log_pb2")
    about = describe(model, part, "serving_default", uint8_images=uint8_images, metadata=metadata)
    _warn_of_another_dtype(base_dir, about)
    path = base_dir / f"{version:d}"
    with atomic_directory(path) as folder:
        fresh_process.start()
        _write_with_gradients(offered, folder)
        proof = Proof.of(model, offered, None, TOLERANCES["saved_model"], force=force)
        carried = dataclasses.replace(proof, tolerance=_carried_tolerance(model))
        write_into_saved_model(folder, Carried(about, carried))
        write_warm_up(folder, path.parent.name, proof.cases)
        check("saved_model", folder, proof)
    return path


def write(offered: dict[str, Signature], folder: Path, *, gradients: bool = False) -> None:
    """Writes signatures by their names as a SavedModel, with nothing of the model that they lack.

    Args:
        offered: The signatures.
        folder: Where to.
        gradients: Whether to write the gradients, too, that are not TensorFlow's own.

    Raises:
        OSError: If it cannot be written.
        ValueError: If there is such a gradient that TensorFlow cannot write.
    """
    functions = {
        name: signature.compiled.get_concrete_function() for name, signature in offered.items()
    }
    # The module holds the variables that the functions use and nothing else of the model: no
    # optimizer, no metrics, no seeds.
    module = tf.Module()
    variables = (variable for function in functions.values() for variable in function.variables)
    module.weights = list({id(variable): variable for variable in variables}.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=gradients)
    try:
        tf.saved_model.save(module, os.fspath(folder), signatures=functions, options=options)
    except tf.errors.OpError as error:  # TensorFlow has errors of its own for a full disk.
        raise OSError(f"The SavedModel cannot be written: {error.message}") from error


def _write_with_gradients(offered, folder):
    try:
        write(offered, folder, gradients=True)
    except ValueError as error:
        _logger.warning("The SavedModel will not be differentiable: %s", error)
        write(offered, folder)


def _carried_tolerance(model):
    dtypes = (tf.as_dtype(layer.compute_dtype) for layer in model._flatten_layers())
    in_16_bits = any(dtype.size < tf.float32.size for dtype in dtypes)
    return _CARRIED_TOLERANCE_OF_16_BITS if in_16_bits else _CARRIED_TOLERANCE


def _warn_of_another_dtype(base_dir, about):
    # A client that knows the old version would send the new one numbers of the wrong range.
    newest = _next_version(base_dir) - 1
    with contextlib.suppress(OSError, ValueError, KeyError):  # there is none of this package
        old = read_metadata_of_saved_model(base_dir / f"{newest}")
        take_images = "decoder" not in (old["part"], about["part"])
        if take_images and old["image_dtype"] != about["image_dtype"]:
            _logger.warning(
                "Version %d in %s takes images as %s, and the new one as %s: clients that hold "
                "what the server said of the old one would send the new one the wrong numbers.",
                newest,
                base_dir,
                old["image_dtype"],
                about["image_dtype"],
            )


def _to_next_version(model, base_dir, *arguments, **options):
    while True:
        version = _next_version(base_dir)
        try:
            return to_saved_model(model, base_dir, *arguments, version=version, **options)
        except FileExistsError:
            if _next_version(base_dir) <= version:
                raise
            # Another export was faster to take the number.


def _next_version(base_dir):
    if not os.path.isdir(base_dir):
        return 1
    names = os.listdir(base_dir)
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
