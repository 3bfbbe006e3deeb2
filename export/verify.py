"""Parity: an exported file against the model it came from, run by what will serve it."""

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.export.signatures import full_precision, onnx_signature, served, signatures
from keras_vae.vae import VAE

tfd = tfp.distributions

# Differences are allowed per unit of the value, and per one for values below 1. A SavedModel runs
# the model's own kernels. Those of onnxruntime and LiteRT add in another order, and of float32's 7
# digits, a sum of thousands of terms then loses one or two.
SAVED_MODEL_TOLERANCE = 1e-6
ONNX_TOLERANCE = 1e-5
LITERT_TOLERANCE = 1e-5

_BATCH_SIZES = (1, 7)
_NATS_BATCH = 128
_SEED = (0, 1)


class ExportError(RuntimeError):
    """An export that cannot be served, or that differs from the model it came from."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from the model it came from.

    Attributes:
        differences: Largest absolute difference of each output, by "signature.output".
        lost_nats: How much lower log p(x given z) is on average for the images that the file gives
            than for the model's, in nats per example, with z at the posterior's mean. It tells what
            rounded weights cost; None where it is not measured.
    """

    differences: Mapping[str, float]
    lost_nats: float | None = None

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(self.differences.values())


def check_saved_model(
    model: VAE, directory: str | os.PathLike, part: str, *, examples: np.ndarray | None = None
) -> Parity:
    """Loads a SavedModel as TF Serving does, and compares all that it offers with the model.

    Args:
        model: The model it came from.
        directory: One version, the folder that holds `saved_model.pb`.
        part: "decoder", "encoder" or "vae".
        examples: Data to compare on, (batch, *event_shape); samples of the model if not given.

    Raises:
        ExportError: If it differs, cannot be run by a stock server, or the model gives NaN.
    """
    offered = served(signatures(model, part))
    # On a CPU, as the model below: a GPU may add in another order.
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    with contextlib.closing(tf.compat.v1.Session(graph=tf.Graph(), config=config)) as session:
        try:
            with _quiet(tf.get_logger()):
                loaded = tf.compat.v1.saved_model.load(session, ["serve"], os.fspath(directory))
        except (OSError, tf.errors.OpError) as error:
            raise ExportError(f"The SavedModel cannot be loaded: {error}") from error
        graph_def = session.graph.as_graph_def()
        refuse_operations(graph_def, "PyFunc", "run Python, which no server can")
        found = {name: ({*s.inputs}, {*s.outputs}) for name, s in loaded.signature_def.items()}
        _check_names(offered, found)

        def run(name, feeds):
            signature = loaded.signature_def[name]
            tensors = {signature.inputs[key].name: value for key, value in feeds.items()}
            return session.run({key: info.name for key, info in signature.outputs.items()}, tensors)

        return _compare(model, offered, run, examples, SAVED_MODEL_TOLERANCE)


def check_onnx(
    model: VAE, path: str | os.PathLike, part: str, *, examples: np.ndarray | None = None
) -> Parity:
    """Checks an ONNX file in full, and compares it, run by onnxruntime, with the model.

    Args:
        model: The model it came from; it is taken in float32, whatever its precision is.
        path: The file.
        part: "decoder", "encoder" or "vae".
        examples: Data to compare on, (batch, *event_shape); samples of the model if not given.

    Raises:
        ExportError: If it differs, is not valid ONNX, or the model gives NaN.
        ImportError: If the export extra is not installed.
    """
    onnx, onnxruntime = extra("onnx"), extra("onnxruntime")
    signature = onnx_signature(model, part)
    offered = {signature.name: signature}
    try:
        onnx.checker.check_model(os.fspath(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's share no class.
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"The {part} is not valid ONNX: {reason}") from error

    names = [output.name for output in session.get_outputs()]
    found = {signature.name: ({value.name for value in session.get_inputs()}, {*names})}
    _check_names(offered, found)

    def run(_, feeds):
        return dict(zip(names, session.run(names, feeds), strict=True))

    with full_precision(model):
        return _compare(model, offered, run, examples, ONNX_TOLERANCE)


def check_litert(
    model: VAE,
    path: str | os.PathLike,
    part: str,
    *,
    examples: np.ndarray | None = None,
    tolerance: float = LITERT_TOLERANCE,
) -> Parity:
    """Runs a LiteRT file by its interpreter, and compares it with the model.

    Args:
        model: The model it came from; it is taken in float32, whatever its precision is.
        path: The file.
        part: "decoder", "encoder" or "vae".
        examples: Data to compare on, (batch, *event_shape); samples of the model if not given.
        tolerance: Largest difference allowed, per unit of the value, and per one for values below
            1. A quantized file needs that of its `Float16` or `Int8`.

    Returns:
        The differences, and `lost_nats` if the part gives images, unless the likelihood is one that
        neither is a normal nor has a single parameter per value.

    Raises:
        ExportError: If it differs, holds other than built-in operations, or the model gives NaN.
        ImportError: If the export extra is not installed.
    """
    litert = extra("ai_edge_litert.interpreter")
    signature = signatures(model, part)[0]
    offered = {signature.name: signature}
    try:
        interpreter = litert.Interpreter(os.fspath(path))
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"The {part} is not a valid LiteRT file: {error}") from error
    listed = interpreter.get_signature_list()
    found = {name: ({*names["inputs"]}, {*names["outputs"]}) for name, names in listed.items()}
    _check_names(offered, found)
    runner = interpreter.get_signature_runner(signature.name)

    def run(_, feeds):
        return runner(**feeds)

    with full_precision(model):
        parity = _compare(model, offered, run, examples, tolerance)
        return replace(parity, lost_nats=_lost_nats(model, signature, run, examples))


def refuse_operations(graph_def, names: str, reason: str) -> None:
    """Raises `ExportError` if any operation's type matches the regular expression `names`."""
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    found = sorted({node.op for node in nodes if re.search(names, node.op)})
    if found:
        raise ExportError(f"The graph holds operations that {reason}: {', '.join(found)}.")


def extra(name: str) -> ModuleType:
    """Imports a package of the export extra, or says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'The export needs {name}, which is not installed: pip install "keras-vae[export]"'
        ) from error


def real_inputs(model: VAE, examples: np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns images and latents as they will come: data, its posteriors, and the prior.

    Raises:
        ExportError: If the model gives NaN or infinity.
    """
    z = model.prior.distribution().sample(max(_BATCH_SIZES), seed=_SEED)
    likelihood = model.decode(z)
    _finite("decoded images", likelihood.mean())
    if examples is None:
        # Draws from p(x given z) lie in the support of every likelihood, binary ones included.
        examples = _finite("samples", likelihood.sample(seed=_SEED))
    loc = _finite("posterior means", model.encode(examples).mean())
    return {"image": np.asarray(examples, np.float32), "z": np.concatenate([z, loc])}


@contextlib.contextmanager
def _quiet(logger):
    # TensorFlow calls its loader for sessions deprecated. It is what TF Serving uses.
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_names(offered, found):
    for name, signature in offered.items():
        expected = (
            {spec.name for spec in signature.inputs},
            {spec.name for spec in signature.outputs},
        )
        if found.get(name) != expected:
            raise ExportError(
                f"`{name}` should have the inputs and outputs {expected}. "
                f"Received: {found.get(name, 'no such signature')}."
            )


def _compare(model, offered, run, examples, tolerance):
    with tf.device("/CPU:0"):
        real = real_inputs(model, examples)
        differences = {}
        for name, signature in offered.items():
            reference = signature.compiled.get_concrete_function()
            for feeds in _batches(signature, real):
                expected = reference(*feeds.values())
                try:
                    received = run(name, feeds)
                except Exception as error:  # Each runtime has its own.
                    raise ExportError(f"`{name}` cannot be run: {error}") from error
                for output in signature.outputs:
                    key = f"{name}.{output.name}"
                    values = _finite(key, expected[output.name])
                    difference = _difference(key, values, received[output.name], tolerance)
                    differences[key] = max(difference, differences.get(key, 0.0))
    return Parity(differences)


def _batches(signature, real):
    name = signature.inputs[0].name
    if name not in real:
        for size in _BATCH_SIZES:
            yield {"num_samples": np.int32(size), "seed": np.int32(_SEED)}
        return
    one, many = _BATCH_SIZES
    yield {name: real[name][:one]}
    for start in range(0, len(real[name]), many):
        yield {name: real[name][start : start + many]}


def _lost_nats(model, signature, run, examples):
    """Returns how many nats per example the file's images cost, or None if it gives none."""
    if "image" not in {spec.name for spec in signature.outputs}:
        return None
    real = real_inputs(model, examples)
    images, name = real["image"], signature.inputs[0].name
    # Of the latents, the posterior's means come last, one for each image.
    inputs = real[name][-len(images) :]
    reference = signature.compiled.get_concrete_function()
    lost = []
    for start in range(0, len(images), _NATS_BATCH):
        batch = slice(start, start + _NATS_BATCH)
        outputs = reference(inputs[batch]), run(signature.name, {name: inputs[batch]})
        densities = [_distribution(model, values) for values in outputs]
        if any(density is None for density in densities):
            return None
        model_nats, file_nats = (density.log_prob(images[batch]) for density in densities)
        lost.append(model_nats - file_nats)
    return float(np.concatenate(lost).mean())


def _distribution(model, outputs):
    """Returns the p(x given z) whose mean, and scale, an exported file has given."""
    image = tf.convert_to_tensor(outputs["image"])
    if "scale" in outputs:
        normal = tfd.Normal(image, outputs["scale"])
        return tfd.Independent(normal, reinterpreted_batch_ndims=len(model.event_shape))
    if model.likelihood.params_size() != 1:
        return None
    # The mean grows with the one parameter, and few likelihoods can say how: bisect. Where float32
    # rounds it to 1, model and file are given the same parameter.
    low, high = tf.fill(image.shape, -64.0), tf.fill(image.shape, 64.0)
    for _ in range(30):
        middle = (low + high) / 2.0
        is_below = model.likelihood.distribution(middle).mean() < image
        low, high = tf.where(is_below, middle, low), tf.where(is_below, high, middle)
    return model.likelihood.distribution(high)


def _finite(name, tensor):
    values = tensor.numpy()
    if not np.isfinite(values).all():
        raise ExportError(
            f"The model itself gives NaN or infinity as {name}, so its weights are of no use. "
            "Train it again, at a lower learning rate or with clipped gradients."
        )
    return values


def _difference(name, expected, received, tolerance):
    if received.shape != expected.shape or received.dtype != expected.dtype:
        raise ExportError(
            f"{name} should be {expected.dtype} of shape {expected.shape}. "
            f"Received: {received.dtype} of shape {received.shape}."
        )
    difference = np.abs(received - expected)
    # Not "any above", which would let NaN pass.
    if not np.all(difference <= tolerance * np.maximum(1.0, np.abs(expected))):
        raise ExportError(
            f"{name} differs from the model's by up to {difference.max():.3g}, "
            f"and {tolerance:g} is allowed."
        )
    return float(difference.max())
