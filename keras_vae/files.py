"""Files and folders that appear whole or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary sibling of `path` to write, and moves it into place once that is done.

    Until then, and after any failure (a full disk, an error in the block, kill -9), whatever was at
    `path` stays as it was. The name of the temporary starts with a dot, so globs pass it over.

    Args:
        path: The file to create or to replace. Missing folders above it are created.

    Raises:
        OSError: If it cannot be written.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "new", "report.txt")
    >>> with atomic_file(path) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> path.read_text()
    'whole'
    """
    path = Path(path)
    temporary = _temporary_sibling(path)
    with _parents_of(path):
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling of the folder `path` to fill, and renames it once that is done.

    Every file in it is on the disk before the new name is, so a server that polls never sees half
    of it. After any failure the temporary is gone and nothing else has changed. When an old folder
    is replaced, it is renamed first and deleted last: a kill -9 between the two renames leaves it
    beside, as `.NAME.XXXXXXXX.old`.

    Args:
        path: The folder to create. Missing folders above it are created.
        overwrite: Whether an existing folder may be replaced.

    Raises:
        FileExistsError: If `path` exists, unless it is a folder and `overwrite` is set.
        OSError: If it cannot be written.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "served", "1")
    >>> with atomic_directory(path) as temporary:
    ...     _ = (temporary / "weights").write_bytes(b"whole")
    >>> [file.name for file in path.iterdir()]
    ['weights']
    """
    path = Path(path)
    if path.exists() and not (overwrite and path.is_dir()):
        raise FileExistsError(errno.EEXIST, "It exists already", str(path))
    temporary = _temporary_sibling(path)
    with _parents_of(path):
        try:
            temporary.mkdir()
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            _rename(temporary, path, overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(path.parent)


def _rename(temporary, path, overwrite):
    if not overwrite or not path.exists():
        # On Linux this fails if someone else has put a folder with content there meanwhile.
        temporary.rename(path)
        return
    old = temporary.with_suffix(".old")
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _temporary_sibling(path):
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextlib.contextmanager
def _parents_of(path):
    """Creates the folders above `path`, and takes them away again if the block fails."""
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "It should be a folder", str(folder))
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Cannot write into this folder", str(folder))
        yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _sync(path):
    if os.name == "nt":  # Windows syncs neither folders nor what is open for reading.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
