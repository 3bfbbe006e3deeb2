"""Where measurements go: rows of a JSON file, each written as soon as it is there."""

import datetime
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from keras_vae.files import atomic_file

FOLDER = Path(__file__).parent / "results"
_PACKAGES = ("keras-vae", "tensorflow", "keras", "tensorflow-probability", "scikit-learn")


class Results:
    """Measured rows by name, of one protocol; a run that was broken off goes on with the next row.

    Args:
        name: Name of the file, without `.json`.
        protocol: What was measured and how. Rows of another protocol are thrown away.
        folder: Where the file lies.

    Attributes:
        rows: Name -> what was measured, as JSON holds it.
    """

    def __init__(self, name: str, protocol: dict, folder: Path = FOLDER):
        self.path = folder / f"{name}.json"
        self.protocol = protocol
        self.rows = {}
        if self.path.exists():
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["protocol"] == json.loads(json.dumps(protocol)):
                self.rows = found["rows"]

    def measure(self, row: str, measure: Callable[[], dict]) -> dict:
        """Returns a row, measured now unless it is there."""
        if row not in self.rows:
            self.rows[row] = measure()
            self._write()
        return self.rows[row]

    def _write(self):
        content = {
            "protocol": self.protocol,
            "rows": self.rows,
            "date": datetime.date.today().isoformat(),
            "hardware": f"{_processor()}, {os.cpu_count()} cores",
            "versions": {package: version(package) for package in _PACKAGES},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as draft:
            draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read(name: str) -> dict:
    """Returns what a results file holds; `rows` is empty if nothing has been measured."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}


def where_and_when(content: dict) -> str:
    """Returns a sentence that says on what machine, when and with which versions it was."""
    versions = content["versions"] | content["protocol"].get("peers", {})
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{content['hardware']}, {content['date']}; {named}."


def _processor():
    """Returns the processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{platform.machine()} CPU"
