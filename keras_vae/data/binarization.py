"""Pixels: their range, and how gray ones become binary."""

import numpy as np
import tensorflow as tf

BINARIZATIONS = ("none", "fixed", "dynamic")


def binarize(images: np.ndarray, *, seed: int) -> np.ndarray:
    """Rounds every pixel at random to 0 or 1, with its intensity as the probability of 1.

    The literature's recipe is `np.random.seed(777)`, then `np.random.binomial(1, images)` for the
    validation images and after it, from the same stream, for the test images. With `seed=777` this
    gives the same bits; concatenate the two first, where both are wanted.

    Args:
        images: (num_examples, ...), uint8 from 0 to 255 or float32 in [0, 1].
        seed: From 0 to 2**32 - 1.

    Returns:
        Zeros and ones, float32, of the same shape.

    Example:

    >>> binarize(np.array([[0.0, 0.5, 0.5, 0.5, 1.0]], np.float32), seed=777)
    array([[0., 0., 0., 0., 1.]], dtype=float32)

    References:
        Tomczak & Welling 2018, "VAE with a VampPrior", the authors' code, `utils/load_data.py`.
    """
    check_array(images)
    return binomial(images, seed).astype(np.float32)


def unit_interval(images: tf.Tensor) -> tf.Tensor:
    """Returns images as float32 in [0, 1]."""
    floats = tf.cast(images, tf.float32)
    return floats / 255 if images.dtype == tf.uint8 else floats


def bernoulli(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws every pixel, 1 with its intensity as the probability."""
    return tf.cast(tf.random.stateless_uniform(tf.shape(images), seed) < images, tf.float32)


def binarize_by_content(image: tf.Tensor, seed: int) -> tf.Tensor:
    """Draws the pixels of an image alike whenever it comes."""
    content = tf.bitcast(tf.fingerprint(tf.reshape(image, [1, -1])), tf.int64)
    return bernoulli(unit_interval(image), tf.concat([content, [seed]], axis=0))


def binomial(images: np.ndarray, seed: int) -> np.ndarray:
    """Draws every pixel as `binarize` does; returns bool."""
    random_state = np.random.RandomState(seed)
    binary = np.empty(images.shape, bool)
    for start in range(0, len(images), 1024):  # one stream in pieces, so that float64 stays small
        rows = images[start : start + 1024].astype(np.float32)
        rows = rows / 255 if images.dtype == np.uint8 else rows
        binary[start : start + 1024] = random_state.binomial(1, rows.astype(np.float64))
    return binary


def check_array(images: np.ndarray) -> None:
    """Raises a ValueError if these are no images of one of the two ranges."""
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        received = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            "images should be a NumPy array of uint8 or float32, or a tf.data.Dataset of single "
            f"images. Received: {received}."
        )
    if not images.size:
        raise ValueError(
            f"images should hold at least one example. Received: images of shape {images.shape}."
        )
    smallest, largest = images.min(), images.max()
    if images.dtype == np.float32 and not (smallest >= 0 and largest <= 1):
        raise ValueError(
            "Float images should lie in [0, 1]; uint8 ones are scaled for you. "
            f"Received: values from {smallest} to {largest}."
        )
    if images.dtype == np.uint8 and largest == 1:
        raise ValueError(
            "uint8 images should go from 0 to 255: multiply binary ones by 255. "
            "Received: values from 0 to 1."
        )
