"""Time to quality: seconds of training from fresh weights to a test ELBO."""

import itertools

from benchmarks.results import Results
from benchmarks.speed.comparison import Comparison
from benchmarks.speed.mnist import mnist_file
from benchmarks.speed.race import race, start

OURS = "keras_vae"
CONTESTANTS = {
    OURS: ("ours", False, {}),
    "PyTorch, fused Adam": ("torch_vae", True, {"fused": True}),
    "pythae": ("pythae_vae", True, {}),
}
TARGET = -92.0
LEVELS = (-100.0, -96.0, -94.0, -93.0, TARGET)  # that the table shows
_TASK = {"job": "learn", "network": "conv", "latent_dim": 40, "batch_size": 128}
PROTOCOL = {
    "what": "seconds of training until the ELBO of 10,000 test images is above the target, nats; "
    "epochs in turn, from the first one on; scoring does not count",
    "target": TARGET,
    "data": "MNIST, 50,000 training images, binarized at every visit; test images once, seed 777",
    "network": "conv with 32 and 64 filters, 40 latents, ReLU, Adam 1e-3, batch 128, float32",
    "epochs": 100,
}


def measure(results: Results, peers: str | None) -> None:
    """Measures the curves: seconds and test ELBO behind every epoch."""
    results.measure("conv", lambda: curves(peers, PROTOCOL["epochs"]))


def curves(peers: str | None, epochs: int, target: float = TARGET) -> dict:
    """Returns seconds since the start and ELBO in nats behind every epoch, by contestant."""
    with mnist_file() as path:
        answers = race(
            start(CONTESTANTS, peers, _TASK | {"data": path}),
            epochs,
            is_done=lambda answer: answer["elbo"] > target,
        )
    return {
        name: {
            "seconds": [
                round(sum_, 2) for sum_ in itertools.accumulate(a["seconds"] for a in measured)
            ],
            "elbo": [round(answer["elbo"], 3) for answer in measured],
        }
        for name, measured in answers.items()
    }


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table: seconds to each level, and how many times ours."""
    curves = rows["conv"]
    reached = {
        name: [_seconds_to(level, curve) for level in LEVELS] for name, curve in curves.items()
    }
    table = []
    for name, curve in curves.items():
        never = f"not in {curve['seconds'][-1]:.0f}"
        times = [
            (f"{seconds:.0f}" + (f" ({seconds / ours:.2f})" if ours else "")) if seconds else never
            for seconds, ours in zip(reached[name], reached[OURS], strict=True)
        ]
        table.append([name, *times, str(len(curve["elbo"])), f"{max(curve['elbo']):.2f}"])
    levels = [f"to {level:g} nats" for level in LEVELS]
    return ["seconds (times ours)", *levels, "epochs", "best ELBO"], table


def comparisons(rows: dict[str, dict]) -> list[Comparison]:
    """Returns our seconds to each level beside those of the peers."""
    compared = []
    for level in LEVELS if rows else ():
        reached = {name: _seconds_to(level, curve) for name, curve in rows["conv"].items()}
        what = f"seconds of training to {level:g} nats"
        compared.append(Comparison(what, reached.pop(OURS), reached, 0, True))
    return compared


def _seconds_to(level, curve):
    pairs = zip(curve["seconds"], curve["elbo"], strict=True)
    return next((seconds for seconds, elbo in pairs if elbo > level), None)
