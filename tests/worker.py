"""One worker of a training on two, or with no `TF_CONFIG` the whole of it: writes what came out."""

import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vae import DenseVAE, data, zoo
from keras_vae.distributions import DiagonalNormal
from keras_vae.replicas import input_context, make_strategy, sum_over_workers
from keras_vae.resume import ExactResume
from keras_vae.zoo.recipe import DataRecipe, EvaluationRecipe, Recipe, TrainingRecipe


def images():
    return np.float32(np.random.default_rng(0).random((30, 8, 8, 1)) < 0.4)


def model(noise=True, event_shape=(8, 8, 1), learning_rate=0.01, dtype=None, **options):
    keras.utils.set_random_seed(0)
    changes = {} if noise else {"posterior": DiagonalNormal(max_log_variance=80.0)}
    vae = DenseVAE(event_shape=event_shape, latent_dim=2, hidden_units=(8,), dtype=dtype, **changes)
    if not noise:
        # A scale of exp(-40) is lost in float32; but not beside 0, where an image without any
        # active unit would lie.
        kernel, bias = vae.encoder.layers[-1].get_weights()
        kernel[:, 2:], bias[:2], bias[2:] = 0.0, 0.1, -1e4
        vae.encoder.layers[-1].set_weights([kernel, bias])
    vae.compile(keras.optimizers.SGD(learning_rate, global_clipnorm=5.0), **options)
    return vae


def weights_of(vae):
    return np.concatenate([np.ravel(w) for w in vae.get_weights()])


def history_of(history):
    return np.array([history[name] for name in sorted(history)])


def steps(strategy):
    """Everything that `fit`, `evaluate` and `predict` should give alike, however many workers."""
    x, out, options = images(), {}, {"shuffle": False, "verbose": 0}
    with strategy.scope():
        vae = model(noise=False)
    vae.fit(x[:8], batch_size=8, **options)
    out["one_step"] = weights_of(vae)
    with strategy.scope():
        vae = model(noise=False, steps_per_execution=3)
    # 13 examples in batches of 4: the last is a single one, and an execution is not full.
    history = vae.fit(x[:13], batch_size=4, epochs=2, validation_data=x[:7], **options).history
    out["uneven"], out["history"] = weights_of(vae), history_of(history)
    out["evaluation"] = np.array(vae.evaluate(x[:13], batch_size=4, verbose=0))
    out["prediction"] = vae.predict(x[:13], batch_size=4, verbose=0)
    return out


def mixed(strategy):
    """One step, in full and in mixed precision."""
    out = {}
    for dtype in ("float32", "mixed_bfloat16", "mixed_float16"):
        with strategy.scope():
            vae = model(noise=False, dtype=dtype)
        vae.fit(images()[:8], batch_size=8, shuffle=False, verbose=0)
        out[dtype] = weights_of(vae)
    return out


def noise(strategy):
    """What each replica draws for the same images, and what it draws again."""
    with strategy.scope():
        vae = model()
    out = {}
    for key in ("first", "second"):
        with strategy.scope():
            logs = strategy.run(tf.function(vae.test_step), args=(tf.constant(images()[:4]),))
        (own,) = strategy.experimental_local_results(logs["reconstruction"])
        out[key] = np.array(own)
        vae.reset_metrics()
    return out


def files(strategy, folder):
    """One epoch over a set in several files: what each worker read, and the means over all."""
    context = input_context(strategy)
    split = data.load(
        str(folder), max_in_memory_bytes=100, repeatable=True, input_context=context
    ).train
    with strategy.scope():
        vae = model(noise=False, event_shape=(4, 4, 1), learning_rate=0.0, steps_per_execution=2)
    batches = data.batches(split.images, 8, shuffle=True, input_context=context)
    history = vae.fit(batches, verbose=0).history
    own = [int(image[0, 0, 0]) for image in split.images]
    total = sum_over_workers(strategy, len(own))
    return {"own": np.array(own), "history": history_of(history), "total": np.array(total)}


def recipe(initial):
    """A tiny one that starts from the weights of `model(noise=False)` in a folder."""
    posterior = {"class": "DiagonalNormal", "max_log_variance": 80.0}
    arguments = {"event_shape": [8, 8, 1], "latent_dim": 2, "hidden_units": [8]}
    training = {"epochs": 3, "batch_size": 128, "steps_per_execution": 5, "patience": 2}
    return Recipe(
        "tiny",
        {"class": "DenseVAE", **arguments, "posterior": posterior},
        data=DataRecipe("digits", binarization="dynamic"),
        training=TrainingRecipe(**training, initial=str(initial)),
        evaluation=EvaluationRecipe(num_samples=2),
    )


def train_from_recipe(strategy, folder):
    """Everything from the recipe in `folder / "initial"` to a folder of the strategy's name."""
    out = folder / strategy
    out.mkdir(exist_ok=True)
    written = zoo.train(recipe(folder / "initial"), out / "tiny", strategy=strategy, verbose=0)
    return {"written": np.array(str(written))}


class Die(keras.callbacks.Callback):
    """Worker 1 dies once, or is asked to stop."""

    def __init__(self, folder, number):
        super().__init__()
        self.once, self.number = Path(folder, "died"), number

    def on_train_batch_end(self, batch, logs=None):
        step = int(keras.ops.convert_to_numpy(self.model.step))
        if step == 11 and not self.once.exists():
            self.once.touch()
            os.kill(os.getpid(), self.number)


def write_slowly(write, checkpoint):
    time.sleep(2.0)  # more than it takes the launcher to see that a worker has left
    return write(checkpoint)


def resume(strategy, folder, number=None):
    with strategy.scope():
        vae = model()
    epoch = tf.Variable(0, dtype=tf.int64)
    options = {"binarization": "dynamic", "shuffle": True, "epoch": epoch}
    batches = data.batches(images() * np.float32(0.8), 4, **options)
    checkpoints = folder / ("whole" if number is None else "checkpoints")
    callbacks = [ExactResume(checkpoints, epoch=epoch, every_steps=3)]
    if number is not None and strategy.cluster_resolver.task_id == 1:
        callbacks.append(Die(folder, number))
    if number == signal.SIGTERM:
        callbacks[0].folder.write = functools.partial(write_slowly, callbacks[0].folder.write)
    history = vae.fit(batches, epochs=3, callbacks=callbacks, verbose=0).history
    return {"weights": weights_of(vae), "history": history_of(history)}


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    config = json.loads(os.environ.get("TF_CONFIG", "null"))
    number = config["task"]["index"] if config else "alone"
    name = "multi-worker" if config else "default"
    tasks = {
        "steps": lambda strategy: {**steps(strategy), **noise(strategy)},
        "mixed": mixed,
        "files": lambda strategy: files(strategy, next(folder.glob("bars/*"))),
        "whole": lambda strategy: resume(strategy, folder),
        "killed": lambda strategy: resume(strategy, folder, signal.SIGKILL),
        "terminated": lambda strategy: resume(strategy, folder, signal.SIGTERM),
    }
    if task == "recipe":  # which makes the strategy by itself
        results = train_from_recipe(name, folder)
    else:
        results = tasks[task](make_strategy(name))
    np.savez(folder / f"{task}_{number}.npz", **results)
