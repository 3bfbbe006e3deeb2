"""What ONNX and LiteRT have in common: one file, with its proof inside."""

import contextlib
import dataclasses
import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from keras_vae.export.carried import Carried
from keras_vae.export.proof import Proof, real_inputs
from keras_vae.export.signatures import Signature, full_precision
from keras_vae.export.verification import check, lost_nats
from keras_vae.files import atomic_file
from keras_vae.vae import VAE

_NUM_SAMPLES = 128
_SEED = (0, 2)


@contextlib.contextmanager
def single_file(path: str | os.PathLike, *, overwrite: bool) -> Iterator[Path]:
    """Yields a temporary file that takes the place of `path` once the block is done.

    Raises:
        FileExistsError: If something is there that may not be replaced; a folder never is.
        OSError: If it cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "It should be a file", str(path))
    if path.exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "It exists already; replace it with `overwrite=True`", str(path)
        )
    with atomic_file(path, overwrite=overwrite) as temporary:
        yield temporary


def representative(
    model: VAE, examples: np.ndarray | None, *, force: bool = False
) -> dict[str, np.ndarray]:
    """Returns images and latents as they will come, enough of both to know their ranges.

    Raises:
        ExportError: If the model gives NaN or infinity, unless forced.
    """
    z = model.prior.distribution().sample(_NUM_SAMPLES, seed=_SEED)
    if examples is None:
        real = real_inputs(model, None, force=force)
        examples = np.concatenate([real["image"], model.decode(z).sample(seed=_SEED)])
        examples = np.where(np.isfinite(examples), examples, 0.0) if force else examples
    real = real_inputs(model, examples, force=force)
    return real | {"z": np.concatenate([z, real["z"]])}


def prove(
    format: str,
    path: Path,
    write: Callable[[Carried], None],
    model: VAE,
    signature: Signature,
    metadata: Mapping[str, str],
    examples: np.ndarray,
    tolerance: float,
    force: bool,
) -> None:
    """Writes a file with its proof, compares it with the model, and writes down the lost nats.

    Raises:
        ExportError: If it differs.
    """
    with full_precision(model):
        offered = {signature.name: signature}
        proof = Proof.of(model, offered, examples, tolerance, force=force)
        write(Carried(dict(metadata), proof))
        nats = functools.partial(lost_nats, model, signature, examples, force=force)
        parity = check(format, path, proof, nats=nats)
    proof = dataclasses.replace(proof, lost_nats=parity.lost_nats)
    write(Carried(dict(metadata), proof))
