"""LiteRT, once TensorFlow Lite: what phones, browsers and small boards run."""

import errno
import os
import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vae.export.saved_model import write
from keras_vae.export.signatures import full_precision, signatures
from keras_vae.export.verify import (
    LITERT_TOLERANCE,
    ExportError,
    check_litert,
    extra,
    real_inputs,
    refuse_operations,
)
from keras_vae.files import atomic_file
from keras_vae.vae import VAE

_NUM_SAMPLES = 128
_SEED = (0, 2)
# What follows the network: a likelihood's mean, a posterior's moments, the KL divergence. In steps
# of 1/256, a dark pixel's mean would be 0, and a white one there would cost infinitely many nats.
_FLOAT_OPERATIONS = (
    "ABS ADD BROADCAST_TO DIV EXP LOG LOGISTIC MAXIMUM MINIMUM MUL NEG POW RESHAPE RSQRT SELECT_V2 "
    "SQRT SQUARE SQUARED_DIFFERENCE SUB SUM TANH"
).split()


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
    follows the network (the likelihood, the posterior, the KL divergence) stay in float32.
    Single values may be far off (the worst pixel of 512 digits by 0.2 to 0.4), so look at the nats
    that `check_litert` gives.

    Attributes:
        tolerance: Largest difference from the model, per unit of the value, and per one below 1.
    """

    tolerance: float = 0.5

    def __post_init__(self):
        _check_tolerance(self.tolerance)


def to_litert(
    model: VAE,
    path: str | os.PathLike,
    part: str = "decoder",
    *,
    quantize: Float16 | Int8 | None = None,
    examples: np.ndarray | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a part of the model as one LiteRT file.

    The file holds the first signature of the part, as `signatures.Signature` lists them: `decode`,
    `encode` or `reconstruct`, for any batch, of LiteRT's built-in operations only. It is run and
    compared with the model before it appears. `check_litert` does so again, and says how many nats
    the rounding costs. A posterior of full covariance needs an operation that LiteRT lacks, so only
    the decoder of such a model can be written.

    Args:
        model: The model; one of mixed precision is taken in float32, as its weights are.
        path: The file. Missing folders above it are created.
        part: "decoder", "encoder" or "vae".
        quantize: A `Float16` or an `Int8`; everything is float32 if not given.
        examples: Data to compare on, and for `Int8` to find the ranges with: some hundred examples,
            (batch, *event_shape). Samples of the model if not given.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path of the file.

    Raises:
        ExportError: If it cannot be converted, differs from the model, or the model gives NaN.
        FileExistsError: If the file exists and `overwrite` is not set.
        ImportError: If the export extra is not installed.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`, or `quantize` is none of the above.
        ValueError: If there is no such part.

    Example:

    >>> import tempfile
    >>> from keras_vae.networks import dense_decoder, dense_encoder
    >>> vae = VAE(dense_encoder((8, 8, 1), 2), dense_decoder(2, (8, 8, 1)))
    >>> to_litert(vae, Path(tempfile.mkdtemp(), "decoder.tflite")).name
    'decoder.tflite'
    """
    path = Path(path)
    signature = signatures(model, part)[0]
    if not isinstance(quantize, Float16 | Int8 | None):
        raise TypeError(
            "`quantize` should be a Float16, an Int8 or None. "
            f"Received: a {type(quantize).__name__}."
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise FileExistsError(
            errno.EEXIST, "It exists already; replace it with `overwrite=True`", str(path)
        )
    extra("ai_edge_litert.interpreter")
    tolerance = LITERT_TOLERANCE if quantize is None else quantize.tolerance
    with atomic_file(path) as temporary:
        with full_precision(model):
            # Before the conversion: NaN has no range.
            real = _representative(model, examples)
            temporary.write_bytes(_convert(signature, quantize, real))
        check_litert(model, temporary, part, examples=real["image"], tolerance=tolerance)
    return path


def _representative(model, examples):
    """Returns images and latents as they will come, enough of both to know their ranges."""
    z = model.prior.distribution().sample(_NUM_SAMPLES, seed=_SEED)
    if examples is None:
        examples = model.decode(z).sample(seed=_SEED)
    real = real_inputs(model, examples)
    return real | {"z": np.concatenate([z, real["z"]])}


def _convert(signature, quantize, real):
    graph_def = signature.compiled.get_concrete_function().graph.as_graph_def()
    refuse_operations(graph_def, "Random", "draw random numbers, and LiteRT has no seeds")
    # TensorFlow's own converter calibrates with the interpreter that TensorFlow calls deprecated.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        write({signature.name: signature}, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, [signature.name])
        try:
            if isinstance(quantize, Int8):
                return _convert_to_int8(converter, signature.inputs[0].name, real)
            if isinstance(quantize, Float16):
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
        except Exception as error:  # It raises whatever its passes meet.
            raise ExportError(
                f"LiteRT cannot convert `{signature.name}`: {_reason(error)}"
            ) from error


def _convert_to_int8(converter, name, real):
    def dataset():
        return ({name: value[np.newaxis]} for value in real[name])

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = dataset
    # The one public way to leave operations in float.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_OPERATIONS)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=dataset, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


def _reason(error):
    # The converter's messages go on with the whole graph.
    missing = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
    if missing:
        return f"it has no operation {missing[1]}."
    return str(error).strip().splitlines()[0]


def _check_tolerance(tolerance):
    if not tolerance > 0:
        raise ValueError(f"`tolerance` should be a number > 0. Received: tolerance={tolerance!r}.")
