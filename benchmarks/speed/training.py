"""Training throughput: the same network on the same images, images per second."""

import statistics

from benchmarks.results import Results
from benchmarks.speed.comparison import Comparison
from benchmarks.speed.race import race, start

OURS, KERAS, CEILING = "keras_vae", "Keras, as on keras.io", "bare products"
CONTESTANTS = {
    OURS: ("ours", False, {}),
    KERAS: ("keras_example", False, {}),
    "PyTorch, eager": ("torch_vae", True, {}),
    "PyTorch, compiled": ("torch_vae", True, {"compiled": True}),
    "PyTorch, fused Adam": ("torch_vae", True, {"fused": True}),
    "PyTorch, compiled, fused Adam": ("torch_vae", True, {"compiled": True, "fused": True}),
    "pythae": ("pythae_vae", True, {}),
    CEILING: ("bare_products", False, {}),
}
# The peers as they are usually run, and as those run them who know what to ask for.
USUAL = (KERAS, "PyTorch, eager", "PyTorch, compiled", "pythae")
TUNED = ("PyTorch, fused Adam", "PyTorch, compiled, fused Adam")
_FLOAT32_ONLY = {"pythae"}
_NUM_IMAGES = {"dense": 25_600, "conv": 6_400}
PROTOCOL = {
    "what": "images per second of training, Adam, dynamic binarization, after a first epoch; "
    "median of alternating epochs",
    "rounds": 5,
    "num_images": _NUM_IMAGES,
    "batch_sizes": [128, 512],
    "dtypes": ["float32", "mixed_bfloat16"],
}


def measure(results: Results, peers: str | None) -> None:
    """Measures every network, batch size and precision."""
    for network, num_images in _NUM_IMAGES.items():
        for batch_size in PROTOCOL["batch_sizes"]:
            for dtype in PROTOCOL["dtypes"]:
                task = {
                    "network": network,
                    "batch_size": batch_size,
                    "dtype": dtype,
                    "num_images": num_images,
                }
                name = f"{network}, batch {batch_size}, {dtype.removeprefix('mixed_')}"
                results.measure(name, lambda task=task: throughput(task, peers))


def throughput(task: dict, peers: str | None, rounds: int = PROTOCOL["rounds"]) -> dict:
    """Returns images per second of each contestant: median, smallest and largest of the rounds."""
    is_lower = task["dtype"] != "float32"
    chosen = {
        name: contestant
        for name, contestant in CONTESTANTS.items()
        if not (is_lower and name in _FLOAT32_ONLY)
    }
    answers = race(start(chosen, peers, {"job": "train"} | task), rounds)
    rates = {
        name: [task["num_images"] / answer["seconds"] for answer in measured]
        for name, measured in answers.items()
    }
    return {
        name: {
            "images_per_second": round(statistics.median(values)),
            "smallest": round(min(values)),
            "largest": round(max(values)),
        }
        for name, values in rates.items()
    }


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table: every contestant, and ours over the best peers."""
    columns = {case: _column(row) for case, row in rows.items()}
    lines = zip(*(column.values() for column in columns.values()), strict=True)
    names = next(iter(columns.values()), {})
    return ["images/s", *columns], [[name, *line] for name, line in zip(names, lines, strict=True)]


def comparisons(rows: dict[str, dict]) -> list[Comparison]:
    """Returns ours beside every peer, usual and tuned, of each case."""
    compared = []
    for case, row in rows.items():
        rates = {name: measured["images_per_second"] for name, measured in row.items()}
        peers = {name: rates[name] for name in (*USUAL, *TUNED) if name in rates}
        compared.append(Comparison(f"training, images/s: {case}", rates[OURS], peers))
    return compared


def _column(row):
    rates = {name: row[name]["images_per_second"] for name in CONTESTANTS if name in row}

    def ratio(names):
        best = max((rates[name] for name in names if name in rates), default=None)
        return f"{rates[OURS] / best:.2f}" if best else ""

    return {
        **{name: f"{rates[name]:,}" if name in rates else "" for name in CONTESTANTS},
        "ours / best peer as usual": ratio(USUAL),
        "ours / best peer tuned": ratio(TUNED),
        "ours / bare products": f"{rates[OURS] / rates[CEILING]:.0%}",
    }
