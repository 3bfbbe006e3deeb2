"""ONNX: what onnxruntime, and much else, loads."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_vae.export.carried import Carried, describe, write_into_onnx
from keras_vae.export.proof import ExportError, as_input, check_trained
from keras_vae.export.quantization import Float16, Int8, check_quantization
from keras_vae.export.signatures import full_precision, onnx_signature
from keras_vae.export.single_file import Bounds, prove, representative, single_file
from keras_vae.export.verification import extra, refuse_random_operations
from keras_vae.vae import VAE

_OPSET = 18
# Not ConvTranspose: onnxruntime has no int8 kernel for it, and rounding those of conv_mnist loses
# 0.9 nats instead of 0.07.
_QUANTIZED_OPERATIONS = ["Conv", "Gemm", "MatMul"]
_MIN_HALVED_SIZE = 256  # what a cast costs is more than smaller weights save
_MAX_BYTES = 2**31 - 1  # of a protobuf message


def to_onnx(
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
    """Writes a part of the model as one ONNX file.

    The file holds the first signature of the part, as `signatures.Signature` lists them: `decode`,
    `encode` or `reconstruct`, for any batch, without random operations. It is checked, and run and
    compared with the model, before it appears. A model of mixed precision is written in float32, as
    its weights are, since onnxruntime has no bfloat16 on a CPU. Among its properties are name,
    part, range of the input, sha256 of the weights, and the proof that `verify` reads.

    Args:
        model: The model.
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
        ExportError: If it cannot be converted, differs from the model, takes more than the 2 GiB
            that a protobuf holds, or the model is untrained or gives NaN, unless forced.
        FileExistsError: If the file exists and `overwrite` is not set.
        ImportError: If the export extra is not installed.
        OSError: If it cannot be written.
        TypeError: If `model` is not a `VAE`, or `quantize` is none of the above.
        ValueError: If there is no such part, `path` does not end in .onnx or is the address of a
            bucket, or `tolerance` is not above 0.

    Example:

    >>> import tempfile
    >>> import keras_vae
    >>> vae = keras_vae.zoo.load("dense_digits")
    >>> to_onnx(vae, Path(tempfile.mkdtemp(), "decoder.onnx")).name
    'decoder.onnx'
    """
    signature = onnx_signature(model, part, uint8_images=uint8_images)
    check_quantization(quantize)
    check_trained(model, force=force)
    for package in ("tf2onnx", "onnx", "onnxruntime"):
        extra(package)
    bounds = Bounds.of("onnx", model, quantize, tolerance)
    about = describe(model, part, signature.name, uint8_images=uint8_images, metadata=metadata)
    with single_file("onnx", path, overwrite=overwrite) as temporary:
        with full_precision(model):
            _check_size(signature)
            real = representative(model, examples, force=force)
            proto = _convert(signature)
        for tensor in (*proto.graph.input, *proto.graph.output):
            tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
        if quantize is not None:
            proto = _quantize(proto, quantize, signature.inputs[0], real)

        def write(carried: Carried) -> None:
            write_into_onnx(proto, carried)
            temporary.write_bytes(proto.SerializeToString())

        prove("onnx", temporary, write, model, signature, about, real["image"], bounds, force)
    return Path(path)


def _check_size(signature):
    variables = signature.compiled.get_concrete_function().variables
    num_bytes = sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
    if num_bytes > _MAX_BYTES:
        raise ExportError(
            f"The weights take {num_bytes / 2**30:.1f} GiB, and an ONNX file is a protobuf, which "
            "holds at most 2 GiB; larger models need external data. `to_saved_model` keeps the "
            "weights in files of their own and has no such limit."
        )


def _convert(signature):
    graph_def = signature.compiled.get_concrete_function().graph.as_graph_def()
    refuse_random_operations(graph_def, "ONNX")
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


def _quantize(proto, quantize, spec, real):
    if isinstance(quantize, Float16):
        return _store_in_float16(proto)
    return _quantize_to_int8(proto, {spec.name: as_input(spec, real[spec.name])})


def _store_in_float16(proto):
    # onnxruntime folds the casts when it loads the file. Its own converter makes the operations
    # float16, too, which on a CPU it then surrounds with casts at every call.
    onnx = extra("onnx")
    casts = []
    for weight in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= _MIN_HALVED_SIZE:
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(np.float16(values), f"{name}_float16"))
            cast = onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT)
            casts.append(cast)
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def _quantize_to_int8(proto, batch):
    quantization = extra("onnxruntime.quantization")
    batches = iter([batch])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    with tempfile.TemporaryDirectory() as folder:
        full, prepared, int8 = (
            Path(folder, f"{name}.onnx") for name in ("full", "prepared", "int8")
        )
        full.write_bytes(proto.SerializeToString())
        quantization.shape_inference.quant_pre_process(full, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, int8, Reader(), op_types_to_quantize=_QUANTIZED_OPERATIONS, per_channel=True
        )
        return extra("onnx").load(int8)


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
