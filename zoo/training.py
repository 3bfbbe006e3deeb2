"""Trains a model from its recipe: with progress, checkpoints and resume."""

import contextlib
import datetime
import os
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vae import data, zoo
from keras_vae.zoo import store
from keras_vae.zoo.evaluation import held_out, load_splits, measure
from keras_vae.zoo.folder import write_folder
from keras_vae.zoo.recipe import Recipe, read_recipe

_NUM_EXAMPLES = 12


def train(
    recipe: str | Path | Recipe,
    folder: str | Path,
    *,
    strategy: tf.distribute.Strategy | None = None,
    verbose: int | str = "auto",
    progress=None,
    overwrite: bool = False,
) -> Path:
    """Trains a model from its recipe, measures it, and writes its folder.

    While it trains, `FOLDER.training` beside the folder holds a backup of every epoch, the best
    weights so far and history.csv. When the same command is given again after a crash, it goes on
    from the last whole epoch.

    Args:
        recipe: A recipe, the path of a recipe.toml, or a model's name or folder to train anew.
        folder: Where the finished model goes. It appears whole, at the end.
        strategy: A `tf.distribute` strategy to train under; the default one if not given.
        verbose: As for `keras.Model.fit`.
        progress: Called with the fraction of the final measurement that is done.
        overwrite: Whether to replace an existing folder.

    Returns:
        The folder.

    Raises:
        ValueError: If the recipe is not valid, names no data or no training, or is not the one
            that the interrupted training followed.
        FileExistsError: If the folder exists and `overwrite` is not set.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(
            f"{folder} exists already. Choose another folder, or allow it to be overwritten."
        )
    recipe = _as_recipe(recipe)
    if recipe.data is None or recipe.training is None:
        raise ValueError(
            f"The recipe of {recipe.name!r} needs [data] and [training] tables to be trained."
        )
    work = _open_work(folder, recipe)
    keras.utils.set_random_seed(recipe.training.seed)
    images = load_splits(recipe).train.images
    validation, test = held_out(recipe)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = recipe.build(dtype=recipe.training.dtype)
        if recipe.training.initial is not None:
            store.adopt_weights(model, zoo.load(recipe.training.initial, compile=False))
        _compile(model, recipe, len(images))
    batches = data.batches(
        images,
        recipe.training.batch_size,
        binarization=recipe.data.binarization,
        shuffle=True,
        seed=recipe.training.seed,
    )
    with contextlib.closing(_EpochLog(work / "history.csv")) as log:
        model.fit(
            batches,
            epochs=recipe.training.epochs,
            validation_data=data.batches(validation, 500),
            callbacks=[*_callbacks(work, recipe.training), log],
            verbose=verbose,
        )
    if recipe.training.patience is not None:
        model.load_weights(work / "best.weights.h5")
    model = _in_recipe_precision(model, recipe)
    results = {
        "training": {"num_images": len(images), **_training_facts(work, recipe.training)},
        **measure(model, recipe, test, progress=progress, work=work),
    }
    examples = test[:_NUM_EXAMPLES]
    write_folder(folder, model, recipe, results, examples=examples, overwrite=overwrite)
    shutil.rmtree(work)
    return folder


def _as_recipe(recipe):
    if isinstance(recipe, Recipe):
        return recipe
    path = Path(recipe)
    return read_recipe(path if path.suffix == ".toml" else store.find(recipe) / "recipe.toml")


def _open_work(folder, recipe):
    """Returns the folder of the training under way, new or left by an interrupted one."""
    work = folder.with_name(f"{folder.name}.training")
    work.mkdir(parents=True, exist_ok=True)
    path = work / "recipe.toml"
    if not path.exists():
        path.write_text(recipe.to_toml(), encoding="utf-8")
    elif read_recipe(path) != recipe:
        raise ValueError(
            f"{work} holds an interrupted training by another recipe. Delete it to start afresh, "
            "or give the recipe that it holds to go on."
        )
    return work


def _compile(model, recipe, num_images):
    training = recipe.training
    learning_rate = training.learning_rate
    if training.final_learning_rate is not None:
        steps = training.epochs * -(-num_images // training.batch_size)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, steps, alpha=training.final_learning_rate / learning_rate
        )
    model.compile(
        keras.optimizers.Adam(learning_rate),
        jit_compile=training.jit_compile,
        steps_per_execution=training.steps_per_execution,
    )


def _in_recipe_precision(model, recipe):
    trained, model = model, recipe.build()
    model.set_weights(trained.get_weights())
    return model


def _callbacks(work, training):
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        # Kept until the folder is written: a crash while measuring must not cost the training.
        keras.callbacks.BackupAndRestore(work / "backup", delete_checkpoint=False),
    ]
    if training.patience is not None:
        best = _best_so_far(work)
        callbacks += [
            keras.callbacks.ModelCheckpoint(
                work / "best.weights.h5",
                monitor="val_elbo",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
                initial_value_threshold=best,
            ),
            keras.callbacks.EarlyStopping(
                "val_elbo", mode="max", patience=training.patience, baseline=best
            ),
        ]
    return callbacks


class _EpochLog(keras.callbacks.CSVLogger):
    """A CSV file of every epoch, with its duration, that goes on where it was broken off."""

    def __init__(self, path):
        super().__init__(path, append=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {**logs, "seconds": time.monotonic() - self.start})

    def close(self):
        """Closes the file, also when training did not come to its end."""
        if self.csv_file:
            self.csv_file.close()


def _history(work):
    path = work / "history.csv"
    if not path.exists() or path.stat().st_size == 0:
        return np.array([])
    return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))


def _best_so_far(work):
    history = _history(work)
    return float(history["val_elbo"].max()) if history.size else None


def _training_facts(work, training):
    history = _history(work)
    kept = -1 if training.patience is None else int(history["val_elbo"].argmax())
    return {
        "epochs": int(history["epoch"].max()) + 1,
        "kept_epoch": int(history["epoch"][kept]) + 1,
        "validation_elbo": float(history["val_elbo"][kept]),
        "seconds": round(float(history["seconds"].sum()), 1),
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "versions": {
            name: version(name)
            for name in ("keras-vae", "tensorflow", "keras", "tensorflow-probability", "numpy")
        },
    }
