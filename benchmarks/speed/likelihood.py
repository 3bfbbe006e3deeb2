"""Evaluation: importance-weighted log likelihoods, on fresh networks."""

import statistics

from benchmarks.results import Results
from benchmarks.speed.comparison import Comparison
from benchmarks.speed.race import race, start

_LOWER = "bfloat16"
CONTESTANTS = {
    "keras_vae": ("ours", False, {}),
    "keras_vae, bfloat16": ("ours", False, {"dtype": "mixed_bfloat16"}),
    "PyTorch, eager": ("torch_vae", True, {}),
    "PyTorch, compiled": ("torch_vae", True, {"compiled": True}),
    "PyTorch, eager, bfloat16": ("torch_vae", True, {"dtype": "mixed_bfloat16"}),
    "pythae": ("pythae_vae", True, {}),
}
_SIZES = {"num_images": 1000, "num_samples": 1000}
PROTOCOL = {"what": "seconds, after a warm-up, one after the other", "rounds": 1, **_SIZES}


def measure(results: Results, peers: str | None) -> None:
    """Measures both networks."""
    for network in ("dense", "conv"):
        results.measure(network, lambda network=network: seconds(network, peers))


def seconds(network: str, peers: str | None, rounds: int = PROTOCOL["rounds"], **sizes) -> dict:
    """Returns median seconds, and the NLL of the fresh network, by contestant."""
    task = {"job": "score", "network": network, **_SIZES, **sizes}
    answers = race(start(CONTESTANTS, peers, task), rounds)
    return {
        name: {
            "seconds": round(statistics.median(answer["seconds"] for answer in measured), 3),
            "nll": measured[0]["nll"],
        }
        for name, measured in answers.items()
    }


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table: seconds, and the ratio to ours in float32."""
    table = []
    for name in CONTESTANTS:
        row = [name]
        for measured in rows.values():
            if name in measured:
                taken = measured[name]["seconds"]
                row += [f"{taken:.1f}", f"{taken / measured['keras_vae']['seconds']:.2f}"]
            else:
                row += ["", ""]
        table.append(row)
    columns = [column for network in rows for column in (f"{network}, seconds", "times ours")]
    return ["1,000 images, 1,000 samples", *columns], table


def comparisons(rows: dict[str, dict]) -> list[Comparison]:
    """Returns ours beside the peers of the same precision."""
    compared = []
    for network, row in rows.items():
        for dtype in ("float32", _LOWER):
            taken = {
                name: measured["seconds"]
                for name, measured in row.items()
                if (_LOWER in name) == (dtype == _LOWER)
            }
            ours = [taken.pop(name) for name in list(taken) if name.startswith("keras_vae")]
            what = f"evaluation, seconds: {network}, {dtype}"
            compared += [Comparison(what, value, taken, 1, True) for value in ours]
    return compared
