"""What a stranger uploads or draws, checked and turned into what a model takes."""

import os
import warnings
from pathlib import Path

import numpy as np

from keras_vae.distributions import Bernoulli

MAX_BYTES = 5_000_000
MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_INK_SHARE = 20 / 28  # of the image's shorter side that the ink of MNIST takes
_FAINTEST_INK = 0.1


def image_from_file(path: str | os.PathLike, model) -> np.ndarray:
    """Reads an image file of unknown origin.

    It becomes grey if the model's images are, is resized to theirs, and is rounded to black and
    white for a `Bernoulli` likelihood. Behind what is transparent, it is white.
    Nothing is decoded before its size is known.

    Args:
        path: A PNG, JPEG, WebP, GIF (its first frame) or BMP file.
        model: A VAE of images.

    Returns:
        Values in [0, 1], float32. Shape (1, height, width, channels).

    Raises:
        ValueError: If the file is too large, or no such image, or damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    num_bytes = Path(path).stat().st_size
    if num_bytes > MAX_BYTES:
        raise ValueError(
            f"The file should be at most {MAX_BYTES / 1e6:g} MB. "
            f"Received: {num_bytes / 1e6:.1f} MB."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is less
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(
                        f"The image should have at most {MAX_PIXELS / 1e6:g} megapixels. "
                        f"Received: {image.width} x {image.height}."
                    )
                image = _opaque(ImageOps.exif_transpose(image)).convert(_mode(model))
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"The file should be an image: {', '.join(FORMATS)}. Received: something else."
        ) from error
    except (OSError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise ValueError(f"The image is damaged: {error}.") from error
    return _as_data(image, model)


def image_from_drawing(canvas: np.ndarray | None, model) -> np.ndarray:
    """Turns dark strokes on a white or transparent canvas into what the model takes.

    For grey models the strokes become bright on black, are centred, and scaled to fill as much of
    the image as the digits of MNIST do. For others the canvas is taken as it is.

    Args:
        canvas: Shape (height, width, 4), uint8: red, green, blue, and opacity.
        model: A VAE of images.

    Returns:
        Values in [0, 1], float32. Shape (1, height, width, channels).

    Raises:
        ValueError: If nothing is drawn, or the canvas has another shape.
    """
    from PIL import Image

    if canvas is None:
        raise ValueError("Draw something first, or upload an image.")
    canvas = np.asarray(canvas)
    if canvas.ndim != 3 or canvas.shape[-1] != 4 or canvas.dtype != np.uint8:
        raise ValueError(
            "A drawing should be of shape (height, width, 4) and uint8. "
            f"Received: {canvas.dtype} of shape {canvas.shape}."
        )
    opacity = canvas[..., 3:] / 255.0
    on_white = canvas[..., :3] / 255.0 * opacity + 1.0 - opacity
    ink = 1.0 - on_white.mean(axis=-1)
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > _FAINTEST_INK) for axis in (1, 0))
    if not len(rows):
        raise ValueError("Draw something first, or upload an image.")
    if model.event_shape[-1] == 3:
        return _as_data(Image.fromarray(np.uint8(255 * on_white)), model)
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = model.event_shape[:2]
    scale = _INK_SHARE * min(height, width) / max(ink.shape)
    size = [max(1, round(scale * length)) for length in ink.shape]
    strokes = Image.fromarray(np.uint8(255 * ink)).resize(size[::-1], Image.Resampling.BOX)
    page = Image.new("L", (width, height))
    page.paste(strokes, ((width - size[1]) // 2, (height - size[0]) // 2))
    return _as_data(page, model)


def _opaque(image):
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, of which PIL would clip all but the first 255 values
        return Image.fromarray(np.uint8(np.asarray(image, np.int64) >> 8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA"))
    return image


def _mode(model):
    return "L" if model.event_shape[-1] == 1 else "RGB"


def _as_data(image, model):
    from PIL import Image

    height, width, channels = model.event_shape
    image = image.resize((width, height), Image.Resampling.BOX)
    x = (np.asarray(image, np.float32) / 255.0).reshape(1, height, width, channels)
    return np.round(x) if isinstance(model.likelihood, Bernoulli) else x
