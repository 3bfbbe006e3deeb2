"""Growth: what an image costs, and how much memory, as batches, images, latents and data grow."""

import statistics

from benchmarks.results import Results
from benchmarks.speed.race import race, start

_CONV = {"job": "train", "network": "conv", "batch_size": 128, "num_images": 5_120}
_DENSE = {"job": "train", "network": "dense", "batch_size": 128, "num_images": 20_480}
# Small, so that reading is most of the work, as it is where a data set is too large for memory.
_STREAM = {"job": "stream", "network": "dense", "batch_size": 500, "size": 8, "widths": [32]}
AXES = {
    "batch size, dense": ("batch_size", [16, 32, 64, 128, 256, 512, 1024, 2048], _DENSE),
    "batch size, conv": ("batch_size", [16, 32, 64, 128, 256, 512], _CONV),
    "image size, conv": ("size", [28, 56, 112, 224, 256], _CONV | {"batch_size": 32}),
    "latents, dense": ("latent_dim", [2, 8, 32, 128, 512], _DENSE),
    "images streamed": ("num_images", [10_000, 100_000, 1_000_000, 3_000_000, 10_000_000], _STREAM),
}
PROTOCOL = {
    "what": "images per second of training in float32, and the process's peak memory in bytes, "
    "each point in a process of its own after a first epoch",
    "rounds": 3,
    "rounds_streamed": 1,
    "axes": {name: [key, values, task] for name, (key, values, task) in AXES.items()},
}


def measure(results: Results, peers: str | None) -> None:
    """Measures keras_vae along every axis; the peers take no part."""
    for axis, (key, values, task) in AXES.items():
        rounds = PROTOCOL["rounds_streamed" if task["job"] == "stream" else "rounds"]
        for value in values:
            further = task | {key: value}
            if key == "size":  # as many pixels in all
                further["num_images"] = 4096 * 28**2 // (value**2 * 32) * 32
            name = f"{axis}: {value}"
            results.measure(name, lambda further=further, rounds=rounds: point(further, rounds))


def point(task: dict, rounds: int) -> dict:
    """Returns images per second, and peak memory in bytes."""
    (answers,) = race(start({"": ("ours", False, {})}, None, task), rounds).values()
    seconds = statistics.median(answer["seconds"] for answer in answers)
    peak = max(answer["peak_bytes"] for answer in answers)
    return {"images_per_second": round(task["num_images"] / seconds), "peak_bytes": peak}


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table: a row for each point."""
    table = []
    for axis, (_, values, _) in AXES.items():
        measured = [(value, rows.get(f"{axis}: {value}")) for value in values]
        table += [
            [
                f"{axis}: {value:,}",
                f"{row['images_per_second']:,}",
                f"{1e6 / row['images_per_second']:,.1f}",
                f"{row['peak_bytes'] / 2**20:,.0f}",
            ]
            for value, row in measured
            if row
        ]
    return ["", "images/s", "microseconds per image", "peak memory, MiB"], table
