"""Time to quality: seconds of training from fresh weights to a test ELBO."""

import itertools

from benchmarks.results import Results
from benchmarks.speed.mnist import mnist_file
from benchmarks.speed.race import race, start

CONTESTANTS = {
    "keras_vae": ("ours", False, {}),
    "PyTorch, fused Adam": ("torch_vae", True, {"fused": True}),
    "pythae": ("pythae_vae", True, {}),
}
TARGET = -92.0
_TASK = {"job": "learn", "network": "conv", "latent_dim": 40, "batch_size": 128}
PROTOCOL = {
    "what": "seconds of training until the ELBO of 10,000 test images is above the target, nats; "
    "epochs in turn, from the first one on; scoring does not count",
    "target": TARGET,
    "data": "MNIST, 50,000 training images, binarized at every visit; test images once, seed 777",
    "network": "conv with 32 and 64 filters, 40 latents, ReLU, Adam 1e-3, batch 128, float32",
    "epochs": 80,
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
    """Returns columns and rows of the table: seconds and epochs to the target."""
    table = []
    ours = rows["conv"]["keras_vae"]["seconds"][-1]
    for name, curve in rows["conv"].items():
        seconds, reached = curve["seconds"][-1], curve["elbo"][-1] > TARGET
        table.append(
            [
                name,
                f"{seconds:.0f}" if reached else f"not in {seconds:.0f}",
                str(len(curve["elbo"])),
                f"{curve['elbo'][-1]:.2f}",
                f"{seconds / ours:.2f}",
            ]
        )
    return [f"to {TARGET:g} nats", "seconds", "epochs", "ELBO", "times ours"], table
