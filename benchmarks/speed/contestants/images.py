"""The images that all contestants see."""

import numpy as np


def gray_images(num_images: int, size: int = 28, seed: int = 0) -> np.ndarray:
    """Returns (num_images, size, size, 1), uint8: blurred strokes, mostly dark, as digits are.

    Speed does not depend on what is in them, but for one thing: bits that are all alike would let
    the random numbers of the binarization be predicted well.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.random((num_images, -(-size // 4), -(-size // 4), 1), np.float32) ** 3
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :size, :size]
    return np.uint8(255 * fine)


def binary_images(num_images: int) -> np.ndarray:
    """Returns (num_images, 28, 28, 1), float32 of 0 and 1."""
    return np.float32(gray_images(num_images) > 127)


def splits(task: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gray training images and the binary test images of a task's file.

    Shapes (num, 28, 28, 1): uint8 of 0 to 255, and float32 of 0 and 1.
    """
    with np.load(task["data"]) as arrays:
        return arrays["train"], arrays["test"]


def latents(num: int, size: int = 16) -> np.ndarray:
    """Returns (num, size), float32: draws from a standard normal distribution."""
    return np.random.default_rng(0).standard_normal((num, size), np.float32)
