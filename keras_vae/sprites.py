"""Sprites: binary images of one shape each, drawn from known factors as in dSprites, offline.

References:
    Matthey et al. 2017, "dSprites: Disentanglement testing Sprites dataset".
    Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework", section 4.2.
"""

import functools

import numpy as np

SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
IMAGE_SIZES = (64, 32)

_SIZE = 64
# Pixels from the centre of a sprite to its furthest point, at scale 1. Not a whole number, or an
# edge would run through the middles of pixels, where rounding decides.
_RADIUS = 14.7
_PATCH = 31  # pixels across: every sprite in every orientation, with its centre in the middle
_MARGIN = 1  # black pixels around the outermost patch, on all four sides


def render(factors: np.ndarray, *, image_size: int = 64) -> np.ndarray:
    """Draws one sprite for each row of factors.

    The factors are integers from 0, in the order of `FACTORS`:

        shape         3: square, ellipse, heart
        scale         6: 0.5, 0.6, ..., 1.0 of the full size
        orientation  40: turned counterclockwise by 2 pi orientation / 40
        x            32: from left to right, one pixel of 64 a step
        y            32: from top to bottom, one pixel of 64 a step

    A sprite reaches 14.7 scale pixels of 64 from its centre, and lies inside of the image, with
    black all around it. A square is the same after a quarter of a turn and an ellipse after half a
    turn, pixel by pixel: of 40 orientations, a square shows 10, an ellipse 20 and a heart 40.
    Nothing else is alike, so there are 6 (10 + 20 + 40) 32 32 = 430,080 images in 737,280 rows of
    factors. At 32 pixels the smallest sprites are coarse, and some more of them are alike.

    Unlike in dSprites, the last orientation is not the first one again, and a step of x or y is a
    whole pixel.

    Args:
        factors: Integers. Shape (num_examples, 5).
        image_size: 64, or 32 for every second pixel of that in both directions.

    Returns:
        Zeros and ones, float32. Shape (num_examples, image_size, image_size, 1).

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> render([[0, 5, 0, 16, 16], [2, 0, 20, 0, 31]]).shape
    (2, 64, 64, 1)
    """
    factors = _checked(factors)
    if image_size not in IMAGE_SIZES:
        raise ValueError(f"image_size should be 64 or 32. Received: image_size={image_size!r}.")
    shape, scale, orientation, x, y = factors.T
    images = np.zeros((len(factors), _SIZE, _SIZE), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(
        images, (_PATCH, _PATCH), axis=(1, 2), writeable=True
    )
    rows = np.arange(len(factors))
    windows[rows, y + _MARGIN, x + _MARGIN] = _patches()[shape, scale, orientation]
    step = _SIZE // image_size
    return images[:, ::step, ::step, np.newaxis].astype(np.float32)


def sample_factors(num_examples: int, seed: int) -> np.ndarray:
    """Draws factors uniformly and independently.

    Args:
        num_examples: How many, at least 1.
        seed: From 0 to 2**32 - 1. Same seed, same factors.

    Returns:
        Integers from 0, below `FACTOR_SIZES`. Shape (num_examples, 5), int64.

    Raises:
        ValueError: If `num_examples` is less than 1.

    Example:

    >>> sample_factors(1000, seed=0).max(axis=0).tolist()
    [2, 5, 39, 31, 31]
    """
    if num_examples < 1:
        raise ValueError(
            f"num_examples should be at least 1. Received: num_examples={num_examples}."
        )
    shape = (num_examples, len(FACTORS))
    return np.random.RandomState(seed).randint(0, FACTOR_SIZES, shape, np.int64)


def sample(num_examples: int, seed: int, *, image_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Draws factors as `sample_factors` does, and their images.

    Args:
        num_examples: How many, at least 1. An image takes 16 KiB at 64 pixels, 4 KiB at 32.
        seed: From 0 to 2**32 - 1. Same seed, same images.
        image_size: 64 or 32.

    Returns:
        Images, (num_examples, image_size, image_size, 1), and factors, (num_examples, 5).

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> images, factors = sample(10, seed=0, image_size=32)
    >>> images.shape, factors.shape
    ((10, 32, 32, 1), (10, 5))
    """
    factors = sample_factors(num_examples, seed)
    return render(factors, image_size=image_size), factors


@functools.cache
def _patches():
    """Returns every sprite around its centre, (shape, scale, orientation, _PATCH, _PATCH)."""
    half = _PATCH // 2
    right = np.arange(-half, half + 1, dtype=np.float64)
    up = -right[:, np.newaxis]
    scale = np.linspace(0.5, 1.0, FACTOR_SIZES[1]).reshape(-1, 1, 1, 1)
    angle = (2 * np.pi / FACTOR_SIZES[2] * np.arange(FACTOR_SIZES[2])).reshape(-1, 1, 1)
    # Turning the sprite one way is turning the pixels the other way. shape: (6, 40, 31, 31)
    u = (np.cos(angle) * right + np.sin(angle) * up) / (scale * _RADIUS)
    v = (np.cos(angle) * up - np.sin(angle) * right) / (scale * _RADIUS)
    return np.stack([_square(u, v), _ellipse(u, v), _heart(u, v)]).astype(np.uint8)


# Which points lie inside of a shape that just fits into the unit circle.


def _square(u, v):
    return np.maximum(np.abs(u), np.abs(v)) <= np.sqrt(0.5)


def _ellipse(u, v):
    return u**2 + (2 * v) ** 2 <= 1


def _heart(u, v):
    # Two discs of radius r on the upper sides of the square of corners (0, -1), (1, 0), (0, 1) and
    # (-1, 0). The smallest circle around it touches the tip and both discs.
    r = np.sqrt(0.5)
    radius, height = 2 / (3 - 2 * r), (2 * r - 1) / (3 - 2 * r)
    u, v = np.abs(radius * u), radius * v + height
    return (u + np.abs(v) <= 1) | ((u - 0.5) ** 2 + (v - 0.5) ** 2 <= r**2)


def _checked(factors):
    factors = np.asarray(factors)
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS) or factors.dtype.kind not in "iu":
        raise ValueError(
            f"factors should be integers of shape (num_examples, {len(FACTORS)}). "
            f"Received: {factors.dtype} of shape {factors.shape}."
        )
    for name, size, values in zip(FACTORS, FACTOR_SIZES, factors.T, strict=True):
        wrong = values[(values < 0) | (values >= size)]
        if len(wrong):
            raise ValueError(
                f"The factor {name} should lie from 0 to {size - 1}. Received: {name}={wrong[0]}."
            )
    return factors.astype(np.int64)
