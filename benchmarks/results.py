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
            "hardware": f"{platform.machine()} CPU, {os.cpu_count()} cores",
            "versions": {package: version(package) for package in _PACKAGES},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as draft:
            draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
