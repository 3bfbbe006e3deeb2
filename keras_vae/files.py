"""Files and folders of this machine, which appear whole or not at all."""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SECONDS_TO_SWEEP = 86_400  # nobody takes longer to write
_SUFFIX = ".kvae.tmp"  # of what is being written; nobody else uses it
# Of Linux's fcntl.h and fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Also of a `Path`, which makes one slash of two. A single letter is a drive of Windows.
_ADDRESS = r"[\w+.-]{2,}:/"


def local_path(path: str | os.PathLike) -> Path:
    """Returns the path; refuses an address, such as a bucket's, of which a folder `gs:` would come.

    Raises:
        ValueError: If it is an address.

    Example:

    >>> local_path("gs://bucket/digits")
    Traceback (most recent call last):
    ValueError: Only local folders are written to: write there, and copy it. Received: 'gs://...
    """
    if re.match(_ADDRESS, os.fspath(path)):
        raise ValueError(
            "Only local folders are written to: write there, and copy it. "
            f"Received: {os.fspath(path)!r}."
        )
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary sibling of `path` to write, and moves it into place once that is done.

    Until then, and after any failure (a full disk, an error in the block, kill -9), whatever was at
    `path` stays as it was. The name of the temporary starts with a dot, so globs pass it over; what
    a kill -9 leaves of it is removed by a later write into the same folder, a day after.

    Args:
        path: The file to create or to replace. Missing folders above it are created.
        overwrite: Whether to replace what is at `path` by the time that the block is done.

    Raises:
        FileExistsError: If something is there, and `overwrite` is not set.
        OSError: If it cannot be written.
        ValueError: If `path` is the address of a bucket.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "new", "report.txt")
    >>> with atomic_file(path) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> path.read_text()
    'whole'
    """
    path = local_path(path)
    temporary = _temporary_sibling(path)
    with _parents_of(path):
        _sweep(path)
        try:
            yield temporary
            _sync(temporary)
            if overwrite:
                os.replace(temporary, path)
            else:
                _link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling of the folder `path` to fill, and renames it once that is done.

    Every file in it is on the disk before the new name is, so a server that polls never sees half
    of it. After any failure the temporary is gone and nothing else has changed; what a kill -9
    leaves of it is removed by a later write into the same folder, a day after. Through a symbolic
    link, the folder that it leads to is written.

    When an old folder is replaced, the two change places in one step, and then it is deleted. Where
    the system cannot do that (it is not Linux, or the file system is of another kind), the old one
    is renamed first: a kill -9 between the two renames leaves it beside, as `.NAME.XXXXXXXX.old`.

    Args:
        path: The folder to create. Missing folders above it are created.
        overwrite: Whether an existing folder may be replaced.

    Raises:
        FileExistsError: If `path` exists, unless it is a folder and `overwrite` is set.
        OSError: If it cannot be written.
        ValueError: If `path` is the address of a bucket.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "served", "1")
    >>> with atomic_directory(path) as temporary:
    ...     _ = (temporary / "weights").write_bytes(b"whole")
    >>> [file.name for file in path.iterdir()]
    ['weights']
    """
    path = _followed(local_path(path))
    if path.exists() and not (overwrite and path.is_dir()):
        raise FileExistsError(errno.EEXIST, "It exists already", str(path))
    temporary = _temporary_sibling(path)
    with _parents_of(path):
        _sweep(path)
        try:
            temporary.mkdir()
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            _rename(temporary, path, overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(path.parent)


def remove_directory(path: str | os.PathLike) -> None:
    """Removes a folder, whole or not at all: it loses its name first.

    Of a symbolic link, both it and the folder that it leads to are removed.

    Raises:
        OSError: If it cannot be renamed, or the link not be removed; it is whole, then.
    """
    folder = _followed(path)
    doomed = _temporary_sibling(folder)
    os.rename(folder, doomed)
    if folder != Path(path):
        try:
            os.unlink(path)
        except OSError:
            os.rename(doomed, folder)
            raise
    shutil.rmtree(doomed, ignore_errors=True)


def _followed(path):
    path = Path(path)
    return path.resolve() if path.is_symlink() else path


def _link(temporary, path):
    """Gives a file its name, if that is free.

    Raises:
        FileExistsError: If it is not.
    """
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, "It exists already", str(path)) from error
    except OSError as error:
        # File systems without hard links: a look just before is the best there is.
        if path.exists():
            raise FileExistsError(errno.EEXIST, "It exists already", str(path)) from error
        os.replace(temporary, path)


def _rename(temporary, path, overwrite):
    if not overwrite or not path.exists():
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # someone else was faster
                raise FileExistsError(errno.EEXIST, "It exists already", str(path)) from error
            raise
        return
    try:
        _exchange(temporary, path)  # the old folder is now the temporary, which is removed
        return
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
            raise
    old = temporary.with_name(temporary.name.removesuffix(_SUFFIX) + ".old")
    try:
        path.rename(old)
        temporary.rename(path)
    except BaseException:
        if not path.exists() and old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first, second):
    """Lets two paths change names in one step. Python has no function for it.

    Raises:
        OSError: If that fails; its number is ENOSYS, EINVAL, EOPNOTSUPP or (of a container that
            forbids what it does not know) EPERM where there is no way.
    """
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = [os.fsencode(path) for path in (first, second)]
    if library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


def _temporary_sibling(path):
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")


def _sweep(path):
    """Removes the temporaries beside `path` of writes that were killed long ago."""
    pattern = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
    limit = time.time() - _SECONDS_TO_SWEEP
    with contextlib.suppress(OSError):  # another process sweeps, too
        for left in filter(lambda entry: pattern.fullmatch(entry.name), path.parent.iterdir()):
            if max(entry.stat().st_mtime for entry in (left, *left.rglob("*"))) > limit:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


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
