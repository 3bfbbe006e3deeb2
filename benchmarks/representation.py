"""Representation: what the latents of the shipped models know of labels they never saw.

    python -m benchmarks.representation

Codes are posterior means of grey images. Classifiers learn from the 50,000 training images, whose
labels no VAE has seen, and are tested on the 10,000 test images; clusters are sought among the test
images. Raw pixels stand beside. About five minutes on two cores.
"""

from pathlib import Path

import click
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from benchmarks.results import FOLDER, Results
from keras_vae import data, metrics, representation, zoo

PROTOCOL = {
    "codes": "posterior means of grey images",
    "linear_probe": "multinomial logistic regression on standardised codes, L2 penalty, C = 1",
    "nearest_neighbour": "majority of 5 by Euclidean distance",
    "clusters": "10 of the test images, k-means of 10 starts or Gaussians of full covariance",
    "seed": 0,
}
PIXELS = "pixels"


def measure(codes, labels, test_codes, test_labels):
    """Returns accuracies of classifiers and agreement of clusters; codes are (num, latent_dim)."""
    tests = {"test_codes": test_codes, "test_labels": test_labels}
    k_means = KMeans(10, n_init=10, random_state=PROTOCOL["seed"])
    return {
        "linear_probe": representation.linear_probe(codes, labels, **tests),
        "nearest_neighbour": representation.nearest_neighbour_accuracy(codes, labels, **tests),
        "k_means": representation.cluster(test_codes, test_labels, method=k_means),
    }


def measure_pixels(train, test):
    """Returns the measurements of the images themselves."""
    return measure(_flat(train.images), train.labels, _flat(test.images), test.labels)


def measure_model(name, train, test):
    """Returns the measurements of a shipped model's codes."""
    model = zoo.load(name, compile=False)
    codes, test_codes = (
        metrics.posterior_means(model, split.images.astype("float32") / 255)
        for split in (train, test)
    )
    # Not of pixels: those that are always black leave a mixture's covariance singular.
    mixture = GaussianMixture(10, random_state=PROTOCOL["seed"])
    return {
        **measure(codes, train.labels, test_codes, test.labels),
        "gaussian_mixture": representation.cluster(test_codes, test.labels, method=mixture),
    }


def _flat(images):
    return images.reshape(len(images), -1) / 255


@click.command()
@click.option("--limit", type=click.IntRange(100), help="Images of each split; all by default.")
@click.option("--models", multiple=True, help="Shipped models of MNIST; all by default.")
@click.option("--out", default=FOLDER, type=click.Path(path_type=Path))
def main(limit, models, out):
    """Measure what the codes of the shipped models of MNIST know of its labels."""
    train, _, test = (
        data.Split(split.images[:limit], split.labels[:limit]) for split in data.load("mnist")
    )
    results = Results("representation", {**PROTOCOL, "limit": limit}, out)
    results.measure("pixels", lambda: measure_pixels(train, test))
    for name in models or [name for name in zoo.list_models() if "mnist" in name]:
        # What is trained on other images than MNIST's grey ones is not compared here.
        if zoo.info(name).recipe.data.name == "mnist":
            results.measure(name, lambda name=name: measure_model(name, train, test))
    for name, row in results.rows.items():
        click.echo(
            f"{name}: linear probe {row['linear_probe']:.4f}, "
            f"5 nearest neighbours {row['nearest_neighbour']:.4f}, "
            f"k-means accuracy {row['k_means']['accuracy']:.3f}"
        )


if __name__ == "__main__":
    main()
