"""Images for tests of data, and what becomes of them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_vae.data


def gray_images(num_examples=50, dtype=np.uint8):
    images = np.random.RandomState(0).randint(0, 256, (num_examples, 6, 5, 1), dtype=np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def numbered_images(num_examples):
    """Image i is filled with the intensity i / 255, so that a batch says which images it holds."""
    return np.tile(np.arange(num_examples, dtype=np.uint8).reshape(-1, 1, 1, 1), (1, 4, 4, 1))


def stream_of(images):
    return tf.data.Dataset.from_tensor_slices(images)


def one_epoch(dataset):
    return np.concatenate(list(dataset.as_numpy_iterator()))


def order_of(dataset):
    return np.rint(one_epoch(dataset)[:, 0, 0, 0] * 255).astype(int).tolist()


def in_new_process(code):
    paths = [str(Path(keras_vae.data.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


def write_set(folder, file_format, num_shards=1):
    """Writes 60 images, numbered as above, and 20 for tests in a format of TFDS; returns where."""
    import tensorflow_datasets as tfds

    class Bars(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(4, 4, 1))
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=3)}
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(60), "test": self._generate_examples(20)}

        def _generate_examples(self, num_examples):
            for i, image in enumerate(numbered_images(num_examples)):
                yield i, {"image": image, "label": i % 3}

    builder = Bars(data_dir=str(folder), file_format=file_format)
    config = tfds.download.DownloadConfig(num_shards=num_shards)
    builder.download_and_prepare(download_config=config)
    return str(builder.data_dir)
