"""ONNX: what onnxruntime, and much else, loads."""

import errno
import importlib.metadata
import os
from pathlib import Path

import numpy as np

from keras_vae.export.signatures import full_precision, onnx_signature
from keras_vae.export.verify import ExportError, check_onnx, extra, refuse_operations
from keras_vae.files import atomic_file
from keras_vae.vae import VAE

_OPSET = 18
_RANDOM = "Random|Multinomial|TruncatedNormal|Stateful(Uniform|StandardNormal)"


def to_onnx(
    model: VAE, path: str | os.PathLike, part: str = "decoder", *, overwrite: bool = False
) -> Path:
    """Writes a part of the model as one ONNX file.

    The file holds the first signature of the part, as `signatures.Signature` lists them: `decode`,
    `encode` or `reconstruct`, for any batch, without random operations. It is checked, and run and
    compared with the model, before it appears. A model of mixed precision is written in float32, as
    its weights are, since onnxruntime has no bfloat16 on a CPU.

    Args:
        model: The model.
        path: The file. Missing folders above it are created.
        part: "decoder", "encoder" or "vae".
        overwrite: Whether an existing file may be replaced.

    Returns:
        The path of the file.

    Raises:
        ExportError: If it cannot be converted, differs from the model, or the model gives NaN.
        FileExistsError: If the file exists and `overwrite` is not set.
        ImportError: If the export extra is not installed.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`.
        ValueError: If there is no such part.

    Example:

    >>> import tempfile
    >>> from keras_vae.networks import dense_decoder, dense_encoder
    >>> vae = VAE(dense_encoder((8, 8, 1), 2), dense_decoder(2, (8, 8, 1)))
    >>> to_onnx(vae, Path(tempfile.mkdtemp(), "decoder.onnx")).name
    'decoder.onnx'
    """
    path = Path(path)
    signature = onnx_signature(model, part)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "It should be a file", str(path))
    if path.exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "It exists already; replace it with `overwrite=True`", str(path)
        )
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        extra(package)
    with atomic_file(path) as temporary:
        with full_precision(model):
            proto = _convert(signature)
        _describe(proto, model, part)
        temporary.write_bytes(proto.SerializeToString())
        check_onnx(model, temporary, part)
    return path


def _convert(signature):
    graph_def = signature.compiled.get_concrete_function().graph.as_graph_def()
    refuse_operations(graph_def, _RANDOM, "draw random numbers, and ONNX has no seeds")
    try:
        proto, _ = extra("tf2onnx").convert.from_function(
            signature.compiled,
            input_signature=signature.inputs,
            opset=_OPSET,
            custom_op_handlers=_HANDLERS,
        )
    except Exception as error:  # It raises whatever its graph passes meet.
        raise ExportError(f"tf2onnx cannot convert `{signature.name}`: {error}") from error
    return proto


def _describe(proto, model, part):
    """Names the batch, and says in the file what it is."""
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    low, high = (-np.inf, np.inf) if part == "decoder" else model.likelihood.support
    properties = {
        "name": model.name,
        "part": part,
        "keras_vae_version": importlib.metadata.version("keras-vae"),
        "input_range": f"{low:g} to {high:g}",
    }
    extra("onnx").helper.set_model_props(proto, properties)


def _broadcast_args(graph, node, name, _):
    # Of two sizes of an axis, one is 1 or they are equal. The shorter shape begins with ones.
    lengths = [graph.get_shape(shape)[0] for shape in node.input]
    shapes = list(node.input)
    for i, missing in enumerate(max(lengths) - length for length in lengths):
        if missing:
            ones = graph.make_const(f"{name}_ones", np.ones(missing, np.int32)).output[0]
            shapes[i] = graph.make_node("Concat", [ones, shapes[i]], attr={"axis": 0}).output[0]
    node.type = "Max"
    graph.replace_inputs(node, shapes)


def _expm1(graph, node, name, _):
    # exp(x) - 1 = (exp(x) + 1) tanh(x / 2), which does not cancel around 0.
    half, one = (
        graph.make_const(f"{name}_{value}", np.float32(value)).output[0] for value in (0.5, 1)
    )
    exp = graph.make_node("Exp", [node.input[0]]).output[0]
    tanh = graph.make_node("Tanh", graph.make_node("Mul", [node.input[0], half]).output).output[0]
    node.type = "Mul"
    graph.replace_inputs(node, [graph.make_node("Add", [exp, one]).output[0], tanh])


# What TFP uses and tf2onnx lacks.
_HANDLERS = {"BroadcastArgs": (_broadcast_args, []), "Expm1": (_expm1, [])}
