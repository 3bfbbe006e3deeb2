"""A folder of checkpoints of which one can always be read, whatever the last write came to."""

import json
import logging
import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vae.files import atomic_file, local_path

_FORMAT = 2
_NAME = re.compile(r"checkpoint-(\d{12})\.npz")
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)

_logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """One moment of a training.

    Attributes:
        number: What it is counted by; the newest has the largest.
        arrays: Values by name.
        state: Everything else, as JSON holds it.
    """

    number: int
    arrays: dict[str, np.ndarray]
    state: dict


class CheckpointFolder:
    """Keeps the newest checkpoints of a training.

    Each is one NumPy archive, `checkpoint-NUMBER.npz`: data without code, with a checksum of every
    array. It is written beside, synced to the disk and renamed, so that neither kill -9 nor a full
    disk touches those that are there. A file that is damaged all the same (by a failing disk) is
    passed over with a warning, and renamed to `NAME.unreadable` where an older one can be read.

    Args:
        path: The folder. It is created with the first checkpoint.
        keep: How many to keep, at least 2, so that there is one to fall back on.

    Raises:
        ValueError: If `keep` is less than 2, or `path` is the address of a bucket.

    Example:

    >>> import tempfile
    >>> folder = CheckpointFolder(tempfile.mkdtemp())
    >>> folder.write(Checkpoint(7, {"weight": np.ones(2)}, {"epoch": 1})).name
    'checkpoint-000000000007.npz'
    >>> folder.read().state
    {'epoch': 1}
    """

    def __init__(self, path: str | os.PathLike, *, keep: int = 2):
        if keep < 2:
            raise ValueError(f"`keep` should be at least 2. Received: keep={keep!r}.")
        self.path = local_path(path)
        self.keep = keep

    def write(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint, whole or not at all, and removes those that are too many.

        Raises:
            OSError: If it cannot be written. Those that were there are still there.
        """
        path = self.path / f"checkpoint-{checkpoint.number:012d}.npz"
        kinds = {name: str(array.dtype) for name, array in checkpoint.arrays.items()}
        header = {"format": _FORMAT, "dtypes": kinds, "state": checkpoint.state}
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        arrays = {name: _as_plain(array) for name, array in checkpoint.arrays.items()}
        with atomic_file(path) as draft, draft.open("wb") as file:
            np.savez(file, header=text, **arrays)
        for old in self._paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def read(self) -> Checkpoint | None:
        """Returns the newest checkpoint that can be read, or `None` if there was never any.

        Raises:
            ValueError: If there are some, and none of them can be read.
        """
        paths = self._paths()
        for path in paths:
            try:
                return _read(path)
            except _UNREADABLE as error:
                _logger.warning(
                    "The checkpoint %s cannot be read (%s). Going on from the one before.",
                    path,
                    error,
                )
        if paths:
            raise ValueError(
                f"None of the {len(paths)} checkpoints in {self.path} can be read. Delete the "
                "folder to start afresh."
            )
        return None

    def tidy(self) -> None:
        """Puts aside what is damaged.

        That is what is newer than the newest checkpoint that can be read. If none can be, all stay:
        a file server that does not answer is no reason to start afresh.
        """
        damaged = []
        for path in self._paths():
            try:
                _read(path)
            except OSError:
                continue  # it may be whole
            except _UNREADABLE:
                damaged.append(path)
                continue
            for other in damaged:
                other.rename(other.with_name(other.name + ".unreadable"))
            return

    def _paths(self):
        """Returns the checkpoints, newest first."""
        if not self.path.is_dir():
            return []
        return sorted(filter(lambda p: _NAME.fullmatch(p.name), self.path.iterdir()), reverse=True)


def _read(path):
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']}, not {_FORMAT}")
        arrays = {
            name: _from_plain(archive[name], dtype) for name, dtype in header["dtypes"].items()
        }
    return Checkpoint(int(_NAME.fullmatch(path.name)[1]), arrays, header["state"])


# NumPy files know no bfloat16 and the like: their bits are kept.


def _as_plain(array):
    return array if array.dtype.isbuiltin == 1 else array.view(f"u{array.dtype.itemsize}")


def _from_plain(array, dtype):
    if str(array.dtype) == dtype:
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, dtype))
