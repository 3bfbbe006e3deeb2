"""Images per second on one replica, two replicas and two workers, and what checkpoints cost.

    python benchmarks/scaling.py                       # a table, in some minutes
    python benchmarks/scaling.py --networks small --epochs 3

Every configuration trains on the same global batches, in processes of its own, and is given by its
fastest epoch. On one machine, two replicas share its cores: the ideal is the speed of one replica,
and what is missing is the overhead of sharing out. On devices of their own it would be twice that.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

NETWORKS = {
    "small": {"latent_dim": 16, "hidden_units": [512, 512]},
    "large": {"latent_dim": 64, "hidden_units": [2048, 2048, 2048]},
}
CONFIGURATIONS = ("1 replica", "2 replicas", "2 workers")
RESULT = "RESULT "


def measure(arguments):
    """Trains in this process, and prints the seconds of each epoch and of each checkpoint."""
    import keras
    import numpy as np
    import tensorflow as tf

    if arguments.configuration == "2 replicas":
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, devices)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif arguments.configuration == "2 workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()

    from keras_vae import DenseVAE, data
    from keras_vae.resume import ExactResume

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.epochs, self.saves = [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch_start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.batch_end = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.epochs.append(self.batch_end - self.epoch_start)

    class TimedResume(ExactResume):
        def on_epoch_end(self, epoch, logs=None):
            start = time.perf_counter()
            super().on_epoch_end(epoch, logs)
            clock.saves.append(time.perf_counter() - start)

    images = np.random.default_rng(0).random((arguments.images, 28, 28, 1), np.float32)
    with strategy.scope():
        vae = DenseVAE(event_shape=(28, 28, 1), **NETWORKS[arguments.network])
        vae.compile(keras.optimizers.Adam(1e-3))
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, dtype=tf.int64)
    options = {"binarization": "dynamic", "shuffle": True, "epoch": epoch}
    batches = data.batches(images, arguments.batch_size, **options)
    clock, callbacks = Clock(), []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.configuration == "1 replica":
            callbacks = [TimedResume(folder, epoch=epoch)]
        callbacks.insert(0, clock)
        vae.fit(batches, epochs=arguments.epochs + 1, callbacks=callbacks, verbose=0)
    result = {"epochs": clock.epochs[1:], "saves": clock.saves[1:], "weights": vae.count_params()}
    print(RESULT + json.dumps(result), flush=True)


def run(configuration, network, arguments):
    """Returns what the first process of a configuration has measured."""
    from keras_vae.launcher import launch

    command = [__file__, "--configuration", configuration, "--network", network]
    for name in ("images", "batch_size", "epochs"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if configuration == "2 workers":
        lines = []
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        status = launch(command, 2, show=lines.append, program=[sys.executable])
        if status:
            raise RuntimeError("\n".join(lines))
    else:
        output = subprocess.run(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        lines = output.splitlines()
    (line,) = [line for line in lines if RESULT in line and not line.startswith("[1]")]
    return json.loads(line.partition(RESULT)[2])


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", default="small,large")
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5, help="measured, behind a first one")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.configuration:
        measure(arguments)
        return
    print(
        f"{arguments.images:,} images, global batch {arguments.batch_size}, {os.cpu_count()} cores"
    )
    print("network      weights  configuration  images/s  of one replica")
    for network in arguments.networks.split(","):
        for configuration in CONFIGURATIONS:
            result = run(configuration, network, arguments)
            speed = arguments.images / min(result["epochs"])
            if configuration == "1 replica":
                one, alone = speed, result
            weights = f"{result['weights']:>11,}"
            print(f"{network:9} {weights}  {configuration:13} {speed:>9,.0f} {speed / one:>15.0%}")
        save, epoch = statistics.median(alone["saves"]), statistics.median(alone["epochs"])
        print(
            f"{network:9} training waits {1e3 * save:.0f} ms for a checkpoint: "
            f"{save / (epoch * 60_000 / arguments.images):.2%} of an epoch of 60,000 images"
        )


if __name__ == "__main__":
    main()
