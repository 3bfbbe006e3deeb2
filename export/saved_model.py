"""SavedModel: what TF Serving loads."""

import os
from pathlib import Path

import tensorflow as tf

from keras_vae.export.signatures import Signature, served, signatures
from keras_vae.export.verify import check_saved_model
from keras_vae.files import atomic_directory
from keras_vae.vae import VAE


def to_saved_model(
    model: VAE, base_dir: str | os.PathLike, part: str = "decoder", *, version: int | None = None
) -> Path:
    """Writes a part of the model as the next version that TF Serving will find in `base_dir`.

    What it offers is listed in `signatures.Signature`. The version is loaded back and compared with
    the model before it appears, and it appears whole; older versions are left alone.

    Args:
        model: The model.
        base_dir: Folder of all versions; it is created if it is not there.
        part: "decoder", "encoder" or "vae".
        version: A number that is not taken yet; the next one above the existing ones if not given.

    Returns:
        The folder of the version, `base_dir/version`.

    Raises:
        ExportError: If what was written differs from the model, or the model gives NaN.
        FileExistsError: If the version exists.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`.
        ValueError: If there is no such part, or `version` is not an integer of at least 0.

    Example:

    >>> import tempfile
    >>> from keras_vae.networks import dense_decoder, dense_encoder
    >>> vae = VAE(dense_encoder((8, 8, 1), 2), dense_decoder(2, (8, 8, 1)))
    >>> path = to_saved_model(vae, tempfile.mkdtemp())
    >>> path.name
    '1'
    >>> decode = tf.saved_model.load(path).signatures["decode"]
    >>> decode(z=tf.zeros((3, 2)))["image"].shape
    TensorShape([3, 8, 8, 1])
    """
    offered = served(signatures(model, part))
    if version is None:
        version = _next_version(base_dir)
    elif not isinstance(version, int) or version < 0:
        raise ValueError(f"`version` should be an integer >= 0. Received: version={version!r}.")
    path = Path(base_dir, f"{version:d}")
    with atomic_directory(path) as folder:
        write(offered, folder)
        check_saved_model(model, folder, part)
    return path


def write(offered: dict[str, Signature], folder: Path) -> None:
    """Writes signatures by their names as a SavedModel, with nothing of the model that they lack.

    Raises:
        OSError: If it cannot be written.
    """
    functions = {
        name: signature.compiled.get_concrete_function() for name, signature in offered.items()
    }
    # The module holds the variables that the functions use and nothing else of the model: no
    # optimizer, no metrics, no seeds.
    module = tf.Module()
    variables = (variable for function in functions.values() for variable in function.variables)
    module.weights = list({id(variable): variable for variable in variables}.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, os.fspath(folder), signatures=functions, options=options)
    except tf.errors.OpError as error:  # TensorFlow has errors of its own for a full disk.
        raise OSError(f"The SavedModel cannot be written: {error.message}") from error


def _next_version(base_dir):
    if not os.path.isdir(base_dir):
        return 1
    names = os.listdir(base_dir)
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
