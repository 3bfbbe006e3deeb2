"""Where exports go: to folders of this machine."""

import os
import re
from pathlib import Path

# Also of a `Path`, which makes one slash of two. A single letter is a drive of Windows.
_ADDRESS = r"[\w+.-]{2,}:/"


def local_path(path: str | os.PathLike) -> Path:
    """Returns the path; refuses an address, such as a bucket's, of which a folder `gs:` would come.

    Raises:
        ValueError: If it is an address.

    Example:

    >>> local_path("gs://bucket/digits")
    Traceback (most recent call last):
    ValueError: An export goes to a local folder: write it there and copy it. Received: 'gs://...
    """
    if re.match(_ADDRESS, os.fspath(path)):
        raise ValueError(
            "An export goes to a local folder: write it there and copy it. "
            f"Received: {os.fspath(path)!r}."
        )
    return Path(path)
