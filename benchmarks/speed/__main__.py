"""Speed beside the peers: `make bench`, or `python -m benchmarks.speed`.

Every contestant does the same work in a process of its own. All processes of a case are started and
warmed up first; then they work one after the other, for some rounds, so that whatever else the
machine does hits them alike. The median counts.
"""

import argparse
import json
import logging
import subprocess

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.results import Results
from benchmarks.speed import pictures
from benchmarks.speed.comparison import COLUMNS
from benchmarks.speed.sections import SECTIONS, summary

PEERS = ("torch", "pythae", "onnxruntime")


def peers_versions(python: str) -> dict[str, str]:
    """Returns the versions of the peers' packages in their environment."""
    code = "import json, sys; from importlib.metadata import version; "
    code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    command = [python, "-c", code, *PEERS]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def results_of(section: str, peers: str | None = None, *, again: bool = False) -> Results:
    """Returns what has been measured of a section."""
    protocol = SECTIONS[section].PROTOCOL | {"peers": peers_versions(peers) if peers else {}}
    return Results(f"speed_{section}", protocol, again=again)


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Prints a table."""
    table = Table(*columns, title=title, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(width=200).print(table, crop=False)


def main():
    """Measures what has not been measured yet, prints the tables and draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the python of an environment with PyTorch and pythae")
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--again", action="store_true", help="measure what is measured already")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)  # an hour's work shows that it goes on
    for name in arguments.sections:
        section, results = SECTIONS[name], results_of(name, arguments.peers, again=arguments.again)
        section.measure(results, arguments.peers)
        show(section.__doc__.splitlines()[0], *section.cells(results.rows))
        pictures.draw()
    show("Ours beside the best peer", COLUMNS, summary())


if __name__ == "__main__":
    main()
