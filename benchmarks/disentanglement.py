"""Disentanglement: a beta-VAE of the embedded sprites against its beta = 1 twin.

    python -m benchmarks.disentanglement

The two differ in beta alone. Both see new sprites in every batch, so there is no overfitting and no
test set apart. About half an hour for each on one core, and each is trained from several seeds.
"""

import functools
import itertools
import logging
import time
from pathlib import Path

import click
import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER, Results
from keras_vae import BetaVAE, metrics, sprites
from keras_vae.disentanglement import disentanglement

PROTOCOL = {
    "model": "BetaVAE, convolutional 16-32-64-64, 256 hidden units, 10 latents",
    "image_size": 64,
    "steps": 10_000,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "dtype": "mixed_bfloat16",
    "num_examples": 10_000,
    "num_votes": 3000,
    "seed_of_scores": 0,
}
BETAS = (1, 4)
SEEDS = (0, 1)


def endless_sprites(batch_size, seed):
    """Returns a dataset of batches of new sprites, (batch_size, 64, 64, 1)."""
    seeds = np.random.RandomState(seed)

    def batches():
        while True:
            yield sprites.sample(batch_size, seed=seeds.randint(2**31))[0]

    spec = tf.TensorSpec((batch_size, 64, 64, 1), tf.float32)
    return tf.data.Dataset.from_generator(batches, output_signature=spec).prefetch(4)


def train(beta, seed, steps, log):
    """Returns a beta-VAE after some optimizer steps, in float32."""
    steps_per_epoch = min(500, steps)
    if steps % steps_per_epoch:
        raise ValueError(f"`steps` above 500 should be a multiple of 500. Received: steps={steps}.")
    keras.utils.set_random_seed(seed)

    def build(dtype):
        return BetaVAE(
            (64, 64, 1), 10, beta=beta, filters=(16, 32, 64, 64), hidden_units=256, dtype=dtype
        )

    vae = build(PROTOCOL["dtype"])
    schedule = keras.optimizers.schedules.CosineDecay(PROTOCOL["learning_rate"], steps, alpha=0.05)
    vae.compile(keras.optimizers.Adam(schedule), steps_per_execution=min(25, steps_per_epoch))
    batches = endless_sprites(PROTOCOL["batch_size"], seed)
    epochs = steps // steps_per_epoch
    vae.fit(batches, steps_per_epoch=steps_per_epoch, epochs=epochs, verbose=2 if log else 0)
    trained = build("float32")
    trained.set_weights(vae.get_weights())
    return trained


def measure(beta, seed, steps, num_examples, num_votes, log=True):
    """Returns the five scores, with ELBO and active units of the trained model."""
    start = time.monotonic()
    vae = train(beta, seed, steps, log)
    training_seconds = time.monotonic() - start
    images, _ = sprites.sample(2000, seed=PROTOCOL["seed_of_scores"] + 1)
    scores = disentanglement(
        vae,
        sprites.render,
        sprites.FACTOR_SIZES,
        num_examples=num_examples,
        num_votes=num_votes,
        seed=PROTOCOL["seed_of_scores"],
    )
    return {
        **scores,
        "elbo": float(np.mean(vae.elbo(images, seed=0))),
        "kl": float(metrics.kl_per_latent(vae, images).sum(axis=-1).mean()),
        "active_units": metrics.active_units(vae, images),
        "training_seconds": round(training_seconds, 1),
    }


@click.command()
@click.option("--steps", default=PROTOCOL["steps"], type=click.IntRange(1))
@click.option("--num-examples", default=PROTOCOL["num_examples"], type=click.IntRange(100))
@click.option("--num-votes", default=PROTOCOL["num_votes"], type=click.IntRange(3))
@click.option("--betas", default=BETAS, multiple=True, type=click.IntRange(1))
@click.option("--seeds", default=SEEDS, multiple=True, type=click.IntRange(0))
@click.option("--out", default=FOLDER, type=click.Path(path_type=Path))
def main(steps, num_examples, num_votes, betas, seeds, out):
    """Measure how well the latents of beta-VAEs keep the factors of sprites apart."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = {"steps": steps, "num_examples": num_examples, "num_votes": num_votes}
    results = Results("disentanglement", {**PROTOCOL, **given}, out)
    for beta, seed in itertools.product(betas, seeds):
        name = f"beta = {beta}, seed {seed}"
        row = results.measure(name, functools.partial(measure, beta, seed, **given))
        click.echo(f"{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()))


if __name__ == "__main__":
    main()
