"""Trains a model from its recipe: with progress, checkpoints and resume."""

import contextlib
import csv
import datetime
import logging
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from keras_vae import data, replicas, zoo
from keras_vae.averages import EvaluateAverages
from keras_vae.files import atomic_file, local_path, remove_directory
from keras_vae.hardware import describe_hardware
from keras_vae.optimizers import Adam
from keras_vae.resume import ExactResume, WorkerLost
from keras_vae.stability import Guard
from keras_vae.zoo import store
from keras_vae.zoo.evaluation import (
    LOG_LIKELIHOOD,
    held_out,
    load_splits,
    measure,
    num_images,
    rebuilt,
)
from keras_vae.zoo.folder import write_folder
from keras_vae.zoo.recipe import Recipe, read_recipe

_NUM_EXAMPLES = 12
_BEST = "best.weights.h5"
_DECISIVE = ("model", "data", "training")  # what of a recipe a training under way rests on
_JUST_WRITTEN = "best.draft.weights.h5"

_logger = logging.getLogger(__name__)


def train(
    recipe: str | Path | Recipe,
    folder: str | Path,
    *,
    strategy: str | tf.distribute.Strategy = "default",
    every_steps: int | None = None,
    verbose: int | str = "auto",
    progress=None,
    overwrite: bool = False,
) -> Path:
    """Trains a model from its recipe, measures it, and writes its folder.

    While it trains, `FOLDER.training` beside the folder holds checkpoints, the best weights so far
    and history.csv. It can be killed at any time: when the same command is given again, it goes on
    from the last checkpoint, and ends with the same weights as if it had never been interrupted.

    Args:
        recipe: A recipe, the path of a recipe.toml, the name of one in `zoo/recipes`, or a model's
            name or folder to train anew. A stage that it starts from is trained first.
        folder: Where the finished model goes. It appears whole, at the end. Several workers need
            one that they share; the first of them measures and writes.
        strategy: A `tf.distribute` strategy to train under, or the name of one: "default",
            "mirrored", "multi-worker" or "tpu".
        every_steps: Optimizer steps after which to save within an epoch, besides at its end.
        verbose: As for `keras.Model.fit`.
        progress: Called with the fraction of the final measurement that is done.
        overwrite: Whether to replace an existing folder.

    Returns:
        The folder.

    Raises:
        ValueError: If the recipe is not valid, names no data or no training, or is not the one
            that the interrupted training followed; if the folder is the address of a bucket, or
            the folder beside it for what is under way, `NAME.training`, holds something else.
        FileExistsError: If the folder exists and `overwrite` is not set.
        NonFiniteError: If the loss or a gradient was NaN or infinite.
        Preempted: If SIGTERM asked for an end; where training was has been saved.
        WorkerLost: If another worker is gone.
    """
    folder = local_path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(
            f"{folder} exists already. Choose another folder, or allow it to be overwritten."
        )
    if isinstance(strategy, str):
        strategy = replicas.make_strategy(strategy)  # several workers: before anything else
    recipe = _as_recipe(recipe)
    work = folder.with_name(f"{folder.name}.training")
    model, facts = _trained(recipe, work, strategy, every_steps=every_steps, verbose=verbose)
    if not replicas.is_chief(strategy):
        return folder
    test = held_out(recipe)[1]
    measured = measure(model, recipe, test, progress=progress, work=work)
    results = {"training": facts, **measured}
    examples = test[:_NUM_EXAMPLES]
    write_folder(folder, model, recipe, results, examples=examples, overwrite=overwrite)
    remove_directory(work)
    return folder


def _trained(recipe, work, strategy, waiting=(), **options):
    """Returns the trained model, in the recipe's precision, and the facts of its training."""
    if recipe.data is None or recipe.training is None:
        raise ValueError(
            f"The recipe of {recipe.name!r} needs [data] and [training] tables to be trained."
        )
    if recipe in waiting:
        raise ValueError(f"The recipe of {recipe.name!r} starts from itself, by its `initial`.")
    _open_work(work, recipe, is_chief=replicas.is_chief(strategy))
    initial, facts_of_initial = _initial(
        recipe.training.initial, work, strategy, waiting=(*waiting, recipe), **options
    )
    splits = load_splits(recipe, replicas.input_context(strategy))
    validation, _ = held_out(recipe, splits)
    images = splits.train.images
    total = num_images(images)
    if isinstance(images, tf.data.Dataset):  # one worker's share
        total = replicas.sum_over_workers(strategy, total)
    model, history = _fit(recipe, work, initial, images, total, validation, strategy, **options)
    if recipe.training.patience is not None:
        with _minding_workers(strategy):
            replicas.wait_for_workers(strategy)  # The first of them has written it by then.
        model.load_weights(work / _BEST)
    facts = {
        "num_images": total,
        **_training_facts(history, recipe.training),
        **facts_of_initial,
    }
    return rebuilt(model, recipe), facts


def _initial(name, work, strategy, **options):
    """Returns the model that training starts from, and what is to be said of it."""
    if name is None:
        return None, {}
    path = store.find_recipe(name)
    if path.name == "recipe.toml":
        return zoo.load(path.parent, compile=False), {}
    _logger.info("Training starts from %s, which is trained first.", name)
    model, facts = _trained(read_recipe(path), work / "initial", strategy, **options)
    return model, {"initial": facts}


def _fit(recipe, work, initial, images, total, validation, strategy, *, every_steps, verbose):
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    _logger.info(replicas.describe(strategy, training.batch_size))
    with strategy.scope():
        model = recipe.build(dtype=training.dtype)
        if initial is not None:
            store.adopt_weights(model, initial)
        _compile(model, recipe, total)
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    batches = data.batches(
        images,
        training.batch_size,
        binarization=recipe.data.binarization,
        shuffle=True,
        seed=training.seed,
        epoch=epoch,
        input_context=replicas.input_context(strategy),
    )
    is_chief = replicas.is_chief(strategy)
    with tempfile.TemporaryDirectory() as scratch:
        best = (work if is_chief else Path(scratch)) / _BEST
        callbacks = _callbacks(best, training)
        stateful = [c for c in callbacks if not isinstance(c, EvaluateAverages | _IntoPlace)]
        resume = ExactResume(
            work / "checkpoints", epoch=epoch, every_steps=every_steps, callbacks=stateful
        )
        callbacks += [resume, *([_HistoryFile(work / "history.csv", resume)] if is_chief else [])]
        with contextlib.closing(resume), _minding_workers(strategy):
            model.fit(
                batches,
                epochs=training.epochs,
                validation_data=data.batches(validation, 500),
                callbacks=callbacks,
                verbose=verbose if is_chief else 0,
            )
    return model, resume.history


@contextlib.contextmanager
def _minding_workers(strategy):
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if not replicas.has_workers(strategy):
            raise
        _logger.error("Another worker is gone: start all again, to go on from the last checkpoint.")
        raise WorkerLost from error


def _as_recipe(recipe):
    if isinstance(recipe, Recipe):
        return recipe.as_written()  # as it will be read, to go on from an interrupted training
    return read_recipe(store.find_recipe(recipe))


def _open_work(work, recipe, *, is_chief):
    """Opens the folder of the training under way, new or left by an interrupted one."""
    if (work / "backup").exists():
        raise ValueError(
            f"{work} holds a training that another version of keras_vae broke off, in a form that "
            "this one cannot go on from. Delete it to start afresh."
        )
    path = work / "recipe.toml"
    if not path.exists() and any(work.glob("[!.]*")):
        raise ValueError(
            f"{work} is where a training under way is kept, and holds something else. Rename it, "
            "or give the model another folder."
        )
    if path.exists():
        held = read_recipe(path)
        has_begun = any(work.rglob("checkpoint-*.npz"))
        if has_begun and any(getattr(held, part) != getattr(recipe, part) for part in _DECISIVE):
            raise ValueError(
                f"{work} holds an interrupted training by another recipe. Delete it to start "
                "afresh, or give the recipe that it holds to go on."
            )
        if held.evaluation != recipe.evaluation and is_chief:
            (work / LOG_LIKELIHOOD).unlink(missing_ok=True)  # so far, by another protocol
        if held == recipe:
            return
    if is_chief:
        with atomic_file(path) as draft:
            draft.write_text(recipe.to_toml(), encoding="utf-8")


def _compile(model, recipe, num_images):
    training = recipe.training
    learning_rate = training.learning_rate
    if training.final_learning_rate is not None:
        epochs = training.decay_epochs or training.epochs
        steps = epochs * -(-num_images // training.batch_size)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, steps, alpha=training.final_learning_rate / learning_rate
        )
    averages = {}
    if training.average_momentum is not None:
        averages = {"use_ema": True, "ema_momentum": training.average_momentum}
    model.compile(
        Adam(learning_rate, global_clipnorm=training.clip_norm, **averages),
        guard=Guard(training.skip_norm),
        jit_compile=training.jit_compile,
        steps_per_execution=training.steps_per_execution,
    )


def _callbacks(best, training):
    callbacks = [_Clock()]
    if training.patience is not None:
        callbacks += [
            keras.callbacks.ModelCheckpoint(
                best.with_name(_JUST_WRITTEN),
                monitor="val_elbo",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            _IntoPlace(best),
            keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=training.patience),
        ]
    if training.average_momentum is not None:
        callbacks.append(EvaluateAverages())
    return callbacks


class _IntoPlace(keras.callbacks.Callback):
    """Moves weights that Keras has just written to where the best ones are, once on the disk."""

    def __init__(self, best):
        super().__init__()
        self.best = best
        self.written = best.with_name(_JUST_WRITTEN)

    def on_train_begin(self, logs=None):
        self.written.unlink(missing_ok=True)  # half of one, if an earlier run died over it

    def on_epoch_end(self, epoch, logs=None):
        if self.written.exists():
            with atomic_file(self.best) as draft:
                self.written.rename(draft)


class _Clock(keras.callbacks.Callback):
    """Adds the seconds of each epoch to the logs, those before an interruption included."""

    def __init__(self):
        super().__init__()
        self.before, self.start = 0.0, None

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = self.get_state()
        self.before, self.start = 0.0, None

    def get_state(self):
        return self.before + (0.0 if self.start is None else time.monotonic() - self.start)

    def set_state(self, seconds):
        self.before = seconds


class _HistoryFile(keras.callbacks.Callback):
    """Keeps the history so far as a CSV file."""

    def __init__(self, path, resume):
        super().__init__()
        self.path, self.resume = path, resume

    def on_epoch_end(self, epoch, logs=None):
        with atomic_file(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=self.resume.history[0])
            writer.writeheader()
            writer.writerows(self.resume.history)


def _training_facts(history, training):
    kept = history[-1]
    if training.patience is not None:
        kept = max(history, key=lambda entry: entry["val_elbo"])
    return {
        "epochs": history[-1]["epoch"] + 1,
        "kept_epoch": kept["epoch"] + 1,
        "validation_elbo": kept["val_elbo"],
        "seconds": round(sum(entry["seconds"] for entry in history), 1),
        "date": datetime.date.today().isoformat(),
        "hardware": describe_hardware(),
        "versions": {
            name: version(name)
            for name in ("keras-vae", "tensorflow", "keras", "tensorflow-probability", "numpy")
        },
    }
