"""Training throughput beside the peers: `make bench`, or `python -m benchmarks.speed`.

Every contestant trains the same network on the same images in a process of its own. All processes
of a case are started and warmed up first; then they work one after the other, for five rounds, so
that whatever else the machine does hits them alike. The median counts.
"""

import argparse
import json
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.results import Results
from benchmarks.speed.race import Contestant, race

ROUNDS = 5
NUM_IMAGES = {"dense": 25_600, "conv": 6_400}
BATCH_SIZES = (128, 512)
DTYPES = ("float32", "mixed_bfloat16")
OURS, CEILING = "keras_vae", "bare products"
PEERS = ("torch", "pythae")
# Name -> module, whether it lives in the peers' environment, and what it is told besides the case.
CONTESTANTS = {
    OURS: ("ours", False, {}),
    "Keras, as on keras.io": ("keras_way", False, {}),
    "PyTorch, eager": ("torch_loop", True, {}),
    "PyTorch, compiled": ("torch_loop", True, {"compiled": True}),
    "pythae": ("pythae_trainer", True, {}),
    CEILING: ("ceiling", False, {}),
}
_FLOAT32_ONLY = {"pythae"}


def throughput(peers: str | None, case: dict, rounds: int = ROUNDS) -> dict:
    """Returns images per second of each contestant: median, smallest and largest of the rounds."""
    chosen = {
        name: Contestant(peers if is_peer else sys.executable, module, case | options)
        for name, (module, is_peer, options) in CONTESTANTS.items()
        if not (is_peer and peers is None)
        and not (case["dtype"] != "float32" and name in _FLOAT32_ONLY)
    }
    rates = {
        name: [case["num_images"] / answer["seconds"] for answer in answers]
        for name, answers in race(chosen, rounds).items()
    }
    return {
        name: {
            "images_per_second": round(statistics.median(values)),
            "smallest": round(min(values)),
            "largest": round(max(values)),
        }
        for name, values in rates.items()
    }


def table(rows: dict[str, dict]) -> Table:
    """Returns the table: a row for each case, and our ratio to the best peer."""
    names = list(CONTESTANTS)
    view = Table("images/s", *names, "ours / best peer", "ours / bare products")
    for case, row in rows.items():
        rates = {name: row[name]["images_per_second"] for name in names if name in row}
        peers = [rate for name, rate in rates.items() if name not in (OURS, CEILING)]
        view.add_row(
            case,
            *(f"{rates[name]:,}" if name in rates else "" for name in names),
            f"{rates[OURS] / max(peers):.2f}",
            f"{rates[OURS] / rates[CEILING]:.0%}",
        )
    return view


def peers_versions(python: str) -> dict[str, str]:
    """Returns the versions of the peers' packages in their environment."""
    code = "import json, sys; from importlib.metadata import version; "
    code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    command = [python, "-c", code, *PEERS]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main():
    """Measures what has not been measured yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the python of an environment with PyTorch and pythae")
    parser.add_argument("--networks", nargs="+", default=list(NUM_IMAGES), choices=NUM_IMAGES)
    arguments = parser.parse_args()
    protocol = {
        "what": "images per second of training, median of alternating rounds",
        "rounds": ROUNDS,
        "num_images": NUM_IMAGES,
        "peers": peers_versions(arguments.peers) if arguments.peers else {},
    }
    results = Results("speed", protocol)
    for network in arguments.networks:
        for batch_size in BATCH_SIZES:
            for dtype in DTYPES:
                case = {
                    "network": network,
                    "batch_size": batch_size,
                    "dtype": dtype,
                    "num_images": NUM_IMAGES[network],
                }
                name = f"{network}, batch {batch_size}, {dtype.removeprefix('mixed_')}"
                results.measure(name, lambda case=case: throughput(arguments.peers, case))
    Console().print(table(results.rows))


if __name__ == "__main__":
    main()
