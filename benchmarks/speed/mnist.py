"""The images on which quality is measured, in a file that every environment can read."""

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np

from keras_vae import data


@contextlib.contextmanager
def mnist_file() -> Iterator[str]:
    """Writes MNIST for the contestants, and yields the path; see `contestants.images.splits`."""
    splits = data.load("mnist")
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        test = data.binarize(splits.test.images, seed=777)
        np.savez(file, train=splits.train.images, test=np.float32(test))
        file.flush()
        yield file.name
