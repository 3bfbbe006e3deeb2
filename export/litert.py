"""LiteRT, once TensorFlow Lite: what phones, browsers and small boards run."""

import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vae.export.carried import Carried, append_to_litert, describe
from keras_vae.export.proof import ExportError, as_input, check_trained
from keras_vae.export.quantization import Float16, Int8, check_quantization
from keras_vae.export.runtimes import first_line
from keras_vae.export.saved_model import write as write_saved_model
from keras_vae.export.signatures import full_precision, signatures
from keras_vae.export.single_file import Bounds, prove, representative, single_file
from keras_vae.export.verification import extra, refuse_random_operations
from keras_vae.vae import VAE

# What follows the network: a likelihood's mean, a posterior's moments, the KL divergence. In steps
# of 1/256, a dark pixel's mean would be 0, and a white one there would cost infinitely many nats.
_FLOAT_OPERATIONS = (
    "ABS ADD BROADCAST_TO DIV EXP LOG LOGISTIC MAXIMUM MINIMUM MUL NEG POW RESHAPE RSQRT SELECT_V2 "
    "SQRT SQUARE SQUARED_DIFFERENCE SUB SUM TANH"
).split()


def to_litert(
    model: VAE,
    path: str | os.PathLike,
    part: str = "decoder",
    *,
    quantize: Float16 | Int8 | None = None,
    examples: np.ndarray | None = None,
    tolerance: float | None = None,
    uint8_images: bool = False,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> Path:
    """Writes a part of the model as one LiteRT file.

    The file holds the first signature of the part, as `signatures.Signature` lists them: `decode`,
    `encode` or `reconstruct`, for any batch, of LiteRT's built-in operations only. It is run and
    compared with the model before it appears. `verify` does so again, by the proof that the file
    carries, and says how many nats the rounding costs.

    Args:
        model: The model; one of mixed precision is taken in float32, as its weights are.
        path: The file. Missing folders above it are created.
        part: "decoder", "encoder" or "vae".
        quantize: A `Float16` or an `Int8`; everything is float32 if not given.
        examples: Data to compare on, and for `Int8` to find the ranges with: some hundred examples,
            (batch, *event_shape). Samples of the model if not given.
        tolerance: Largest difference from the model, per unit of the value, and per one below 1;
            1e-5, or that of `quantize`, if not given. Where large terms cancel, as in data on a
            large scale, float32 cannot hold to that, and a good file needs more.
        uint8_images: Whether images come as uint8, from 0 to 255, and are scaled in the graph.
        metadata: What the file should say of itself besides, such as a licence.
        overwrite: Whether an existing file may be replaced.
        force: Whether to export a model that is untrained or gives NaN.

    Returns:
        The path of the file.

    Raises:
        ExportError: If it cannot be converted, differs from the model, or the model is untrained or
            gives NaN, unless forced.
        FileExistsError: If the file exists and `overwrite` is not set.
        ImportError: If the export extra is not installed.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`, or `quantize` is none of the above.
        ValueError: If there is no such part, `path` does not end in .tflite or is the address of a
            bucket, or `tolerance` is not above 0.

    Example:

    >>> import tempfile
    >>> import keras_vae
    >>> vae = keras_vae.zoo.load("dense_digits")
    >>> to_litert(vae, Path(tempfile.mkdtemp(), "decoder.tflite")).name
    'decoder.tflite'
    """
    signature = signatures(model, part, uint8_images=uint8_images)[0]
    check_quantization(quantize)
    check_trained(model, force=force)
    extra("ai_edge_litert.interpreter")
    bounds = Bounds.of("litert", model, quantize, tolerance)
    about = describe(model, part, signature.name, uint8_images=uint8_images, metadata=metadata)
    with single_file("litert", path, overwrite=overwrite) as temporary:
        with full_precision(model):
            # Before the conversion: NaN has no range.
            real = representative(model, examples, force=force)
            content = _convert(signature, quantize, real)

        def write(carried: Carried) -> None:
            temporary.write_bytes(content)
            append_to_litert(temporary, carried)

        prove("litert", temporary, write, model, signature, about, real["image"], bounds, force)
    return Path(path)


def _convert(signature, quantize, real):
    graph_def = signature.compiled.get_concrete_function().graph.as_graph_def()
    refuse_random_operations(graph_def, "LiteRT")
    # TensorFlow's own converter calibrates with the interpreter that TensorFlow calls deprecated.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        write_saved_model({signature.name: signature}, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, [signature.name])
        try:
            if isinstance(quantize, Int8):
                return _convert_to_int8(converter, signature.inputs[0], real)
            if isinstance(quantize, Float16):
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert()
        except Exception as error:  # It raises whatever its passes meet.
            raise ExportError(
                f"LiteRT cannot convert `{signature.name}`: {_reason(error)}"
            ) from error


def _convert_to_int8(converter, spec, real):
    def dataset():
        values = as_input(spec, real[spec.name])
        return ({spec.name: value[np.newaxis]} for value in values)

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
    return first_line(error)
