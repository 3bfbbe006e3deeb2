"""Fine-tunes conv_mnist on Omniglot's characters, beside the same network trained from scratch.

    pip install -c constraints.txt ".[data,plots]"        # from the clone
    python examples/finetune_omniglot.py --epochs 10 --out finetuned

TensorFlow Datasets fetches Omniglot (or set TFDS_DATA_DIR to where it is). At the end `finetuned`
holds learning_curves.png, the numbers in learning_curves.csv, and the fine-tuned model as a folder
that `keras_vae.zoo.load` reads.
"""

import csv
from pathlib import Path

import click
import keras
import matplotlib
import numpy as np

import keras_vae
from keras_vae import data

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

SEED = 0


def learning_curve(vae, train, validation, epochs):
    """Trains a model; returns its validation ELBO before training and after each epoch, nats."""
    keras.utils.set_random_seed(SEED)
    vae.compile(keras.optimizers.Adam(1e-3))
    before = vae.evaluate(validation, return_dict=True, verbose=0)["elbo"]
    history = vae.fit(train, epochs=epochs, validation_data=validation, verbose=2).history
    return [before, *history["val_elbo"]]


@click.command()
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1), help="Training images to use; all by default.")
@click.option("--out", default="finetuned", show_default=True, type=click.Path(path_type=Path))
def main(epochs, limit, out):
    """Fine-tune conv_mnist on Omniglot, beside the same network trained from scratch."""
    splits = data.load("omniglot", image_size=(28, 28))
    train = data.batches(
        splits.train.images[:limit], 128, binarization="dynamic", shuffle=True, seed=SEED
    )
    validation = data.batches(data.binarize(splits.validation.images, seed=777), 500)

    # Both train on the plain ELBO: conv_mnist's own objective is IWAE.
    objective = keras_vae.objectives.ELBO()
    keras.utils.set_random_seed(SEED)
    tuned = keras_vae.zoo.load("conv_mnist", objective=objective)
    keras.utils.set_random_seed(SEED)
    scratch = keras_vae.zoo.load("conv_mnist", objective=objective, weights=False)
    curves = {
        "fine-tuned from conv_mnist": learning_curve(tuned, train, validation, epochs),
        "from scratch": learning_curve(scratch, train, validation, epochs),
    }

    out.mkdir(parents=True, exist_ok=True)
    with (out / "learning_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *curves])
        writer.writerows(
            [epoch, *row] for epoch, row in enumerate(zip(*curves.values(), strict=True))
        )
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, curve), style in zip(curves.items(), ("-", "--"), strict=True):
        # The first value is off the scale: an untrained model knows nothing.
        axes.plot(np.arange(1, epochs + 1), curve[1:], style, marker="o", label=name)
    axes.set(xlabel="epochs", ylabel="validation ELBO, nats per image")
    axes.legend()
    figure.savefig(out / "learning_curves.png", dpi=120)
    keras_vae.zoo.save(tuned, out / "conv_omniglot", overwrite=True)
    for name, curve in curves.items():
        click.echo(f"{name}: {curve[0]:.1f} before, {curve[1]:.1f} after 1 epoch, {curve[-1]:.1f}")


if __name__ == "__main__":
    main()
