"""Anomaly detection: each digit held out in turn, and MNIST against Fashion-MNIST both ways.

    python -m benchmarks.anomaly

A dense VAE is trained without one of the ten digits, and its scores have to tell the test images of
that digit from the other nine; then one is trained on all of MNIST and one on Fashion-MNIST, and
each has to tell the other's test images from its own. About 20 minutes on two cores.
"""

from pathlib import Path

import click
import keras
import numpy as np

from benchmarks.results import FOLDER, Results
from keras_vae import DenseVAE, anomaly, data

PROTOCOL = {
    "model": "DenseVAE, 300-300 gated units, 40 latents",
    "binarization": "dynamic in training; test images once, numpy seed 777",
    "epochs": 12,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "num_samples": 64,
    "clean_images_for_typicality": 2000,
    "seed": 0,
}


def train(images):
    """Returns a VAE of images, uint8 or float32 of shape (num_images, 28, 28, 1)."""
    keras.utils.set_random_seed(PROTOCOL["seed"])
    vae = DenseVAE((28, 28, 1), 40, hidden_units=(300, 300), gated=True)
    steps = PROTOCOL["epochs"] * -(-len(images) // PROTOCOL["batch_size"])
    schedule = keras.optimizers.schedules.CosineDecay(PROTOCOL["learning_rate"], steps)
    vae.compile(keras.optimizers.Adam(schedule), steps_per_execution=25)
    batches = data.batches(
        images,
        PROTOCOL["batch_size"],
        binarization="dynamic",
        shuffle=True,
        seed=PROTOCOL["seed"],
    )
    vae.fit(batches, epochs=PROTOCOL["epochs"], verbose=0)
    return vae


def detect(vae, clean, anomalous, validation):
    """Returns AUROC and AUPRC of every method; all images are binary."""
    together = np.concatenate([clean, anomalous])
    table = {}
    for method in anomaly.METHODS:
        given = {"clean_data": validation} if method == "typicality" else {}
        scores = anomaly.anomaly_score(
            vae,
            together,
            method,
            num_samples=PROTOCOL["num_samples"],
            seed=PROTOCOL["seed"],
            **given,
        )
        clean_scores, anomalous_scores = np.split(scores, [len(clean)])
        table[method] = anomaly.detection_metrics(clean_scores, anomalous_scores)
    return table


def clean(validation):
    """Returns the binary images whose log-likelihood typicality takes as typical."""
    return data.binarize(validation[: PROTOCOL["clean_images_for_typicality"]], seed=776)


def held_out_digit(digit, limit=None):
    """Returns what a model that never saw a digit makes of it."""
    splits = data.load("mnist")
    others = [split.images[split.labels != digit][:limit] for split in splits]
    vae = train(others[0])
    test = data.binarize(splits.test.images, seed=777)
    labels = splits.test.labels
    return detect(
        vae, test[labels != digit][:limit], test[labels == digit][:limit], clean(others[1])
    )


def against(own, other, limit=None):
    """Returns what a model of one data set makes of the other."""
    own, other = data.load(own), data.load(other)
    vae = train(own.train.images[:limit])
    tests = [data.binarize(split.images[:limit], seed=777) for split in (own.test, other.test)]
    return detect(vae, *tests, clean(own.validation.images[:limit]))


@click.command()
@click.option("--limit", type=click.IntRange(1), help="Images of each kind; all by default.")
@click.option("--out", default=FOLDER, type=click.Path(path_type=Path))
def main(limit, out):
    """Measure how well a VAE's scores find what it was not trained on."""
    results = Results("anomaly", {**PROTOCOL, "limit": limit}, out)
    measured = {
        f"{digit} held out": lambda d=digit: held_out_digit(d, limit) for digit in range(10)
    }
    for own, other in (("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")):
        measured[f"{own} against {other}"] = lambda own=own, other=other: against(own, other, limit)
    for row, measure in measured.items():
        table = results.measure(row, measure)
        line = ", ".join(f"{method} {values['auroc']:.3f}" for method, values in table.items())
        click.echo(f"{row}: AUROC {line}")


if __name__ == "__main__":
    main()
