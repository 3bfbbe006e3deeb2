"""What ONNX and LiteRT have in common: one file, with its proof inside."""

import contextlib
import dataclasses
import errno
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vae.export.carried import Carried
from keras_vae.export.proof import TOLERANCES, ExportError, Proof, real_inputs
from keras_vae.export.quantization import Float16, Int8, check_positive
from keras_vae.export.signatures import Signature, full_precision
from keras_vae.export.verification import SUFFIXES, check, lost_nats
from keras_vae.files import atomic_file, local_path
from keras_vae.vae import VAE

_NUM_SAMPLES = 128
_SEED = (0, 2)
_LOST_NATS_PER_VALUE = 0.02


class Bounds(NamedTuple):
    """How far a file may be from its model: largest difference, and nats per example."""

    tolerance: float
    lost_nats: float

    @classmethod
    def of(
        cls, format: str, model: VAE, quantize: Float16 | Int8 | None, tolerance: float | None
    ) -> "Bounds":
        """Returns what the caller or the quantization says, or else the format.

        Raises:
            ValueError: If `tolerance` is not above 0.
        """
        check_positive("tolerance", tolerance)
        if tolerance is None:
            tolerance = TOLERANCES[format] if quantize is None else quantize.tolerance
        if not isinstance(quantize, Int8):
            return cls(tolerance, math.inf)
        if quantize.max_lost_nats is None:
            return cls(tolerance, _LOST_NATS_PER_VALUE * math.prod(model.event_shape))
        return cls(tolerance, quantize.max_lost_nats)


@contextlib.contextmanager
def single_file(format: str, path: str | os.PathLike, *, overwrite: bool) -> Iterator[Path]:
    """Yields a temporary file that takes the place of `path` once the block is done.

    Raises:
        FileExistsError: If something is there that may not be replaced; a folder never is.
        OSError: If it cannot be written.
        ValueError: If `path` has not the format's ending, or is the address of a bucket.
    """
    path = local_path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "It should be a file", str(path))
    if SUFFIXES.get(path.suffix) != format:
        suffix = next(suffix for suffix, name in SUFFIXES.items() if name == format)
        raise ValueError(f"`path` should end in {suffix}. Received: path={str(path)!r}.")
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
    bounds: Bounds,
    force: bool,
) -> None:
    """Writes a file with its proof, compares it with the model, and writes down the lost nats.

    Raises:
        ExportError: If it differs, or its images lose more nats than they may.
    """
    with full_precision(model):
        offered = {signature.name: signature}
        proof = Proof.of(model, offered, examples, bounds.tolerance, force=force)
        write(Carried(dict(metadata), proof))
        nats = functools.partial(lost_nats, model, signature, examples, force=force)
        parity = check(format, path, proof, nats=nats)
    lost = 0.0 if parity.lost_nats is None else parity.lost_nats
    # Not "above", which would let NaN pass; a forced model may give it.
    if not (lost <= bounds.lost_nats or (force and math.isnan(lost))):
        raise ExportError(
            f"The file's images lose {lost:.3g} nats per example against the model's, "
            f"and {bounds.lost_nats:.3g} are allowed: give data as `examples`, or allow more by "
            "`Int8(max_lost_nats=...)`."
        )
    proof = dataclasses.replace(proof, lost_nats=parity.lost_nats)
    write(Carried(dict(metadata), proof))
