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
        check_positive("tolerance", self.tolerance)


@dataclass(frozen=True)
class Int8:
    """Weights and activations of all dense and convolutional layers in int8, a quarter of the file.

    The ranges of the activations are those that representative data meet. Inputs, outputs and what
    follows the network (the likelihood, the posterior, the KL divergence) stay in float32, and so
    do transposed convolutions in ONNX.

    Single values may be far off (the worst pixel of 512 digits by 0.2 to 0.4), and a decoder that
    gives 0.5 everywhere is off by no more. So the nats that its images lose are bounded, too, where
    `verify` can measure them.

    Attributes:
        tolerance: Largest difference from the model, per unit of the value, and per one below 1.
        max_lost_nats: Largest `Parity.lost_nats`, nats per example. If not given, 0.02 for each
            value of an example: 16 for 28x28 pixels, of which the shipped models that hold to the
            tolerance lose up to 5.3, and 0.5 everywhere loses more than 300.
    """

    tolerance: float = 0.5
    max_lost_nats: float | None = None

    def __post_init__(self):
        check_positive("tolerance", self.tolerance)
        check_positive("max_lost_nats", self.max_lost_nats)


def check_quantization(quantize: object) -> None:
    """Raises a `TypeError` if this is neither a quantization nor None."""
    if not isinstance(quantize, Float16 | Int8 | None):
        raise TypeError(
            "`quantize` should be a Float16, an Int8 or None. "
            f"Received: a {type(quantize).__name__}."
        )


def check_positive(name: str, value: float | None) -> None:
    """Raises a `ValueError` if a number is given and not above 0."""
    if value is not None and not value > 0:
        raise ValueError(f"`{name}` should be a number > 0. Received: {name}={value!r}.")
