"""Smaller numbers in an exported file, for ONNX and LiteRT alike."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Float16:
    """Weights in float16, which halves the file; the arithmetic stays in float32.

    Attributes:
        tolerance: Largest difference from the model, per unit of the value, and per one below 1.
    """

    tolerance: float = 1e-2

    def __post_init__(self):
        _check_tolerance(self.tolerance)


@dataclass(frozen=True)
class Int8:
    """Weights and activations of all dense and convolutional layers in int8, a quarter of the file.

    The ranges of the activations are those that representative data meet. Inputs, outputs and what
    follows the network (the likelihood, the posterior, the KL divergence) stay in float32, and so
    do transposed convolutions in ONNX.
    Single values may be far off (the worst pixel of 512 digits by 0.2 to 0.4), so look at the nats
    that `verify` gives.

    Attributes:
        tolerance: Largest difference from the model, per unit of the value, and per one below 1.
    """

    tolerance: float = 0.5

    def __post_init__(self):
        _check_tolerance(self.tolerance)


def check_quantization(quantize: object) -> None:
    """Raises a `TypeError` if this is neither a quantization nor None."""
    if not isinstance(quantize, Float16 | Int8 | None):
        raise TypeError(
            "`quantize` should be a Float16, an Int8 or None. "
            f"Received: a {type(quantize).__name__}."
        )


def _check_tolerance(tolerance):
    if not tolerance > 0:
        raise ValueError(f"`tolerance` should be a number > 0. Received: tolerance={tolerance!r}.")
