"""What is measured, by name."""

from benchmarks.results import read
from benchmarks.speed import growth, likelihood, quality, serving, start, training

SECTIONS = {
    "training": training,
    "likelihood": likelihood,
    "start": start,
    "serving": serving,
    "growth": growth,
    "quality": quality,  # last: it alone needs MNIST
}
# What peers take part in, in the order of the table that compares.
COMPARED = ("training", "quality", "likelihood", "serving")


def summary() -> list[list[str]]:
    """Returns the rows of the table that holds ours against the best peer; see `comparison`."""
    return [
        compared.cells()
        for name in COMPARED
        for compared in SECTIONS[name].comparisons(read(f"speed_{name}")["rows"])
    ]
