"""Verification: an exported file, run by what will serve it, against the model it came from."""

import contextlib
import dataclasses
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.export import fresh_process, runtimes
from keras_vae.export.carried import read_carried
from keras_vae.export.proof import ExportError, Parity, Proof, as_input, real_inputs
from keras_vae.export.signatures import full_precision, offered_signatures
from keras_vae.vae import VAE

tfd = tfp.distributions

_NATS_BATCH = 128
_TIMED_BATCH_SIZES = (1, 64)
_SUFFIXES = {".onnx": "onnx", ".tflite": "litert"}
_RANDOM = "Random|Multinomial|TruncatedNormal|Stateful(Uniform|StandardNormal)"


def verify(
    path: str | os.PathLike,
    model: VAE | None = None,
    *,
    examples: np.ndarray | None = None,
    tolerance: float | None = None,
    time: bool = False,
) -> Parity:
    """Runs an export by what will serve it, and compares all that it offers with the model.

    An export carries what the model gave for some real inputs, so it can be proved on the machine
    that serves it, where the model is not. A SavedModel is run in a fresh process that has nothing
    of keras_vae, loaded as TF Serving does it, and its warm-up records are replayed.

    Args:
        path: One version of a SavedModel (the folder that holds `saved_model.pb`), or an ONNX
            (`.onnx`) or LiteRT (`.tflite`) file.
        model: The model to compare it with; if not given, what the file carries of the model that
            it came from.
        examples: Data to compare on, (batch, *event_shape), if a model is given; its own samples if
            not.
        tolerance: Largest difference allowed, per unit of the value, and per one for values below
            1; that of the export if not given.
        time: Whether to measure the time of a call, too.

    Returns:
        The differences; `lost_nats` if the file gives images and is not a SavedModel, unless the
        likelihood is one that neither is a normal nor has a single parameter per value.

    Raises:
        ExportError: If it differs, cannot be run by a stock server, carries no proof, or the model
            gives NaN.
        FileNotFoundError: If there is nothing at `path`.
        ImportError: If the export extra is not installed.
        ValueError: If examples are given without a model, or there is no known format at `path`.

    Example:

    >>> import tempfile
    >>> import keras_vae
    >>> vae = keras_vae.zoo.load("dense_digits")
    >>> path = keras_vae.export.to_onnx(vae, Path(tempfile.mkdtemp(), "decoder.onnx"))
    >>> verify(path).largest < 1e-5
    True
    """
    if model is None and examples is not None:
        raise ValueError("`examples` are for a `model` to answer: give both, or neither.")
    path = Path(path)
    format = format_of(path)
    return verify_as(format, path, model, examples=examples, tolerance=tolerance, time=time)


def verify_as(
    format: str,
    path: Path,
    model: VAE | None = None,
    *,
    examples: np.ndarray | None = None,
    tolerance: float | None = None,
    time: bool = False,
    force: bool = False,
) -> Parity:
    """Does the same for a file of any name, whose format is told."""
    carried = read_carried(format, path)
    tolerance = carried.proof.tolerance if tolerance is None else tolerance
    with _opened(format, path) as runtime:
        if model is None:
            proof = dataclasses.replace(carried.proof, tolerance=tolerance)
            parity = proof.check(runtime)
        else:
            part, uint8 = carried.metadata["part"], carried.metadata["image_dtype"] == "uint8"
            offered = offered_signatures(model, part, format, uint8_images=uint8)
            # A SavedModel computes in the precision of the model, the others always in float32.
            precise = contextlib.nullcontext() if format == "saved_model" else full_precision(model)
            with precise:
                proof = Proof.of(model, offered, examples, tolerance, force=force)
                parity = proof.check(runtime)
                if format != "saved_model":
                    default = next(iter(offered.values()))
                    nats = lost_nats(model, default, runtime, examples, force=force)
                    parity = dataclasses.replace(parity, lost_nats=nats)
        try:
            runtime.replay_warm_up()
            times = _milliseconds(proof.cases[0], runtime) if time else {}
        except runtimes.Unservable as error:
            raise ExportError(f"A recorded first request fails: {error}") from error
    return dataclasses.replace(parity, milliseconds=times)


def find_exports(path: str | os.PathLike) -> list[Path]:
    """Returns the exports at a path or below it, sorted: version folders, ONNX and LiteRT files.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
    """
    path = Path(path)
    if not path.is_dir():
        format_of(path)
        return [path]
    found = [file.parent for file in path.rglob("saved_model.pb")]
    found += [file for suffix in _SUFFIXES for file in path.rglob(f"*{suffix}")]
    # What a killed export has left bears a name that starts with a dot.
    return sorted(
        file
        for file in found
        if not any(name.startswith(".") for name in file.relative_to(path).parts)
    )


def format_of(path: Path) -> str:
    """Returns "saved_model", "onnx" or "litert".

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is none of them.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no export at {path}.")
    if (path / "saved_model.pb").exists():
        return "saved_model"
    if path.suffix in _SUFFIXES and path.is_file():
        return _SUFFIXES[path.suffix]
    raise ValueError(
        "An export is the folder of one version of a SavedModel, or a file that ends in .onnx or "
        f".tflite. Received: path={str(path)!r}."
    )


def refuse_random_operations(graph_def, runtime: str) -> None:
    """Raises `ExportError` if a graph draws random numbers."""
    nodes = [*graph_def.node, *(node for f in graph_def.library.function for node in f.node_def)]
    found = sorted({node.op for node in nodes if re.search(_RANDOM, node.op)})
    if found:
        raise ExportError(
            f"The graph holds operations that draw random numbers, and {runtime} has no seeds: "
            f"{', '.join(found)}."
        )


def extra(name: str) -> ModuleType:
    """Imports a package of the export extra, or says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'The export needs {name}, which is not installed: pip install "keras-vae[export]"'
        ) from error


def lost_nats(
    model: VAE,
    signature,
    runtime: runtimes.Runtime,
    examples: np.ndarray | None,
    *,
    force: bool = False,
) -> float | None:
    """Returns how many nats per example the file's images cost, or None if it gives none."""
    outputs = {spec.name for spec in signature.outputs}
    image = next((name for name in ("image", "image_out") if name in outputs), None)
    if image is None:
        return None
    real = real_inputs(model, examples, force=force)
    images, spec = real["image"], signature.inputs[0]
    # Of the latents, the posterior's means come last, one for each image.
    inputs = as_input(spec, real[spec.name][-len(images) :])
    reference = signature.compiled.get_concrete_function()
    lost = []
    for start in range(0, len(images), _NATS_BATCH):
        batch = slice(start, start + _NATS_BATCH)
        feeds = {spec.name: inputs[batch]}
        answers = reference(tf.constant(inputs[batch])), runtime.run(signature.name, feeds)
        densities = [_distribution(model, values, values[image]) for values in answers]
        if any(density is None for density in densities):
            return None
        model_nats, file_nats = (density.log_prob(images[batch]) for density in densities)
        lost.append(model_nats - file_nats)
    return float(np.concatenate(lost).mean())


@contextlib.contextmanager
def _opened(format, path) -> Iterator[runtimes.Runtime]:
    needed = {"onnx": ("onnx", "onnxruntime"), "litert": ("ai_edge_litert.interpreter",)}
    for package in needed.get(format, ()):
        extra(package)
    try:
        if format == "saved_model":
            with fresh_process.open_saved_model(path) as runtime:
                yield runtime
        else:
            kind = runtimes.OnnxRuntime if format == "onnx" else runtimes.LiteRTRuntime
            with contextlib.closing(kind(path)) as runtime:
                yield runtime
    except runtimes.Unservable as error:
        raise ExportError(str(error)) from error


def _milliseconds(case, runtime):
    def batch(values, size):
        return np.resize(values, (size, *values.shape[1:]))

    return {
        size: runtime.milliseconds(
            case.signature, {name: batch(values, size) for name, values in case.inputs.items()}
        )
        for size in _TIMED_BATCH_SIZES
    }


def _distribution(model, outputs, image):
    """Returns the p(x given z) whose mean, and scale, an exported file has given."""
    image = tf.convert_to_tensor(image)
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
