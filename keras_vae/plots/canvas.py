"""What figures share: blank ones, sheets of images, and styles that greyscale leaves apart."""

import itertools

import numpy as np

from keras_vae.extras import require

MARKERS = "osD^v<>P*X"
LINE_STYLES = ("-", "--", "-.", ":")
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 10, 9, 7  # points

_CELL, _LARGE_CELL = 0.5, 1.0  # inches along the longer side of an image, if many or few
_MIN_WIDTH = 3.0  # inches, for the title
_GAP = 2  # pixels between images


def blank(width: float, height: float):
    """Returns an empty figure, of so many inches, that no global state knows of."""
    figure = require("matplotlib.figure", "plots", "Figures need")
    return figure.Figure(figsize=(width, height), layout="constrained", dpi=160)


def blank_sheet(model, columns: int, rows: int, *, margin: tuple[float, float] = (0.1, 0.32)):
    """Returns an empty figure with room for so many of a model's images, and inches around them.

    Raises:
        ValueError: If the model's examples are no images of one or three channels.
    """
    shape = model.event_shape
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(
            "A figure of images needs a model whose examples have shape (height, width, 1) or "
            f"(height, width, 3). Received: event_shape={shape}."
        )
    height, width = (size + _GAP for size in shape[:2])
    across, down = columns * width / max(height, width), rows * height / max(height, width)
    cell = np.clip(_MIN_WIDTH / across, _CELL, _LARGE_CELL)
    figure = blank(max(across * cell, _MIN_WIDTH) + margin[0], down * cell + margin[1])
    figure.set_layout_engine("compressed")
    return figure


def tile(rows: np.ndarray) -> np.ndarray:
    """Returns images of shape (rows, columns, height, width, channels) as one, with grey borders.

    Values are clipped to [0, 1].
    """
    border = (_GAP // 2, _GAP // 2)
    borders = ((0, 0), (0, 0), border, border, (0, 0))
    rows = np.pad(np.clip(np.asarray(rows), 0.0, 1.0), borders, constant_values=0.5)
    num_rows, num_columns, height, width, channels = rows.shape
    return rows.transpose(0, 2, 1, 3, 4).reshape(num_rows * height, num_columns * width, channels)


def draw_sheet(axes, rows: np.ndarray, title: str) -> None:
    """Draws images of shape (rows, columns, height, width, channels) as one picture."""
    sheet = tile(rows)
    is_gray = sheet.shape[-1] == 1
    axes.imshow(sheet.squeeze(-1) if is_gray else sheet, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=TITLE_SIZE)


def centres(number: int, size: int) -> np.ndarray:
    """Returns where the middles of so many images of `size` pixels lie along a sheet's side."""
    return (np.arange(number) + 0.5) * (size + _GAP) - 0.5


def colors(number: int) -> np.ndarray:
    """Returns colours from dark to light, (number, 4), at even steps to the eye."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.9, number))


def line_styles(number: int) -> list[dict]:
    """Returns a colour, a marker and a dash pattern for each of so many lines."""
    cycle = zip(
        colors(number), itertools.cycle(MARKERS), itertools.cycle(LINE_STYLES), strict=False
    )
    return [
        {"color": color, "marker": marker, "linestyle": style, "markersize": 4, "linewidth": 1.2}
        for color, marker, style in cycle
    ]


def label_axes(axes, x: str, y: str) -> None:
    """Labels both axes; the ticks become small."""
    axes.set_xlabel(x, fontsize=TEXT_SIZE)
    axes.set_ylabel(y, fontsize=TEXT_SIZE)
    axes.tick_params(labelsize=SMALL_SIZE)


def legend(figure, handles: list, title: str | None = None, *, marker_scale: float = 1.0) -> None:
    """Puts a legend to the right of all axes."""
    figure.legend(
        handles=handles,
        title=title,
        loc="outside right upper",
        fontsize=SMALL_SIZE,
        title_fontsize=SMALL_SIZE,
        ncols=1 + (len(handles) - 1) // 20,
        frameon=False,
        markerscale=marker_scale,
    )
