"""Serving: milliseconds to decode a batch of latents, by what serves."""

import statistics

from benchmarks.results import Results
from benchmarks.speed.comparison import Comparison
from benchmarks.speed.race import race, start

CONTESTANTS = {
    "SavedModel": ("ours", False, {"runtime": "SavedModel"}),
    "ONNX": ("ours", False, {"runtime": "ONNX"}),
    "LiteRT": ("ours", False, {"runtime": "LiteRT"}),
    "Keras predict": ("ours", False, {"runtime": "Keras predict"}),
    "PyTorch, eager": ("torch_vae", True, {"runtime": "eager"}),
    "PyTorch, compiled": ("torch_vae", True, {"runtime": "compiled"}),
    "PyTorch's ONNX": ("torch_vae", True, {"runtime": "ONNX"}),
}
BATCH_SIZES = (1, 64, 256)
PROTOCOL = {
    "what": "milliseconds from latents to images, both NumPy arrays; median of half a second of "
    "calls, median of alternating rounds",
    "rounds": 3,
    "batch_sizes": BATCH_SIZES,
}


def measure(results: Results, peers: str | None) -> None:
    """Measures the decoders of both networks."""
    for network in ("dense", "conv"):
        results.measure(network, lambda network=network: milliseconds(network, peers))


def milliseconds(network: str, peers: str | None, rounds: int = PROTOCOL["rounds"]) -> dict:
    """Returns milliseconds by contestant and batch size."""
    task = {"job": "decode", "network": network, "batch_sizes": BATCH_SIZES}
    answers = race(start(CONTESTANTS, peers, task), rounds)
    return {
        name: {
            str(size): round(statistics.median(a["milliseconds"][str(size)] for a in measured), 4)
            for size in BATCH_SIZES
        }
        for name, measured in answers.items()
    }


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table: latency at 1, images per second at the others."""
    one, *larger = BATCH_SIZES
    table = []
    for name in CONTESTANTS:
        row = [name]
        for measured in rows.values():
            if name in measured:
                times = measured[name]
                row.append(f"{times[str(one)]:.3g}")
                row += [f"{1e3 * size / times[str(size)]:,.0f}" for size in larger]
            else:
                row += [""] * len(BATCH_SIZES)
        table.append(row)
    columns = [
        column
        for network in rows
        for column in (f"{network}: ms at {one}", *(f"images/s at {size}" for size in larger))
    ]
    return ["", *columns], table


def comparisons(rows: dict[str, dict]) -> list[Comparison]:
    """Returns the fastest of our formats beside every way of PyTorch."""
    compared = []
    for network, row in rows.items():
        for size in map(str, BATCH_SIZES):
            times = {name: times[size] for name, times in row.items()}
            peers = {name: times.pop(name) for name in list(times) if name.startswith("PyTorch")}
            what = f"serving, ms for a batch of {size}: {network}"
            compared.append(Comparison(what, min(times.values()), peers, 3, True))
    return compared
