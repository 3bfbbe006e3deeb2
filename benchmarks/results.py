"""Where measurements go: a table for each benchmark in results.json, each row written at once."""

import datetime
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from keras_vae.files import atomic_file

FOLDER = Path(__file__).parent
_FILE = "results.json"
_PACKAGES = ("keras-vae", "tensorflow", "keras", "tensorflow-probability", "scikit-learn")


class Results:
    """Measured rows by name, of one protocol; a run that was broken off goes on with the next row.

    Rows of another protocol, another machine or other versions are no part of that run: they are
    thrown away as soon as there is a new one.

    Args:
        name: Name of the table.
        protocol: What was measured and how.
        folder: Where results.json lies.
        again: Whether to throw all rows away, and measure anew.

    Attributes:
        rows: Name -> what was measured, as JSON holds it.
    """

    def __init__(self, name: str, protocol: dict, folder: Path = FOLDER, *, again: bool = False):
        self.name, self.folder = name, folder
        self._protocol = json.loads(json.dumps(protocol))  # as it comes back from the file
        self._hardware = f"{_processor()}, {os.cpu_count()} cores"
        self._versions = {package: version(package) for package in _PACKAGES}
        found = read(name, folder)
        is_same = (self._protocol, self._hardware, self._versions) == tuple(
            found.get(key) for key in ("protocol", "hardware", "versions")
        )
        self.rows = found["rows"] if is_same and not again else {}

    def measure(self, row: str, measure: Callable[[], dict]) -> dict:
        """Returns a row, measured now unless it is there."""
        if row not in self.rows:
            self.rows[row] = measure()
            self._write()
        return self.rows[row]

    def _write(self):
        content = {
            "protocol": self._protocol,
            "rows": self.rows,
            "date": datetime.date.today().isoformat(),
            "hardware": self._hardware,
            "versions": self._versions,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        tables = _tables(self.folder) | {self.name: content}
        with atomic_file(self.folder / _FILE) as draft:
            text = json.dumps(dict(sorted(tables.items())), indent=2)
            draft.write_text(f"{text}\n", encoding="utf-8")


def read(name: str, folder: Path = FOLDER) -> dict:
    """Returns a benchmark's table; `rows` is empty if nothing has been measured."""
    return _tables(folder).get(name, {"rows": {}})


def where_and_when(*contents: dict) -> str:
    """Returns a sentence that says on what machines, when and with which versions it was."""
    versions, machines, dates = {}, [], []
    for content in contents:
        machines.append(content["hardware"])
        dates.append(content["date"])
        for name, number in (content["versions"] | content["protocol"].get("peers", {})).items():
            versions.setdefault(name, []).append(number)
    named = ", ".join(f"{name} {_all_of(numbers)}" for name, numbers in versions.items())
    return f"{_all_of(machines)}, {_all_of(sorted(dates))}; {named}."


def _all_of(values):
    return " and ".join(dict.fromkeys(values))


def _tables(folder):
    path = folder / _FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _processor():
    """Returns the processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} CPU"
