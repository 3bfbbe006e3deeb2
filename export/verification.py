"""Verification: an exported file, run by what will serve it, against the model it came from."""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.export import fresh_process, runtimes
from keras_vae.export.carried import read_carried
from keras_vae.export.proof import ExportError, Parity, Proof, as_input, real_inputs
from keras_vae.export.signatures import Signature, full_precision, offered_signatures
from keras_vae.extras import require
from keras_vae.vae import VAE

tfd = tfp.distributions

SUFFIXES = {".onnx": "onnx", ".tflite": "litert"}

_NATS_BATCH = 128
_TIMED_BATCH_SIZES = (1, 64)
_TIMED_SECONDS = 0.5
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
            1; that which the export carries if not given.
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
    carried = read_carried(format, path)
    tolerance = carried.proof.tolerance if tolerance is None else tolerance
    if model is None:
        return check(
            format, path, dataclasses.replace(carried.proof, tolerance=tolerance), time=time
        )
    part, uint8 = carried.metadata["part"], carried.metadata["image_dtype"] == "uint8"
    offered = offered_signatures(model, part, format, uint8_images=uint8)
    if format == "saved_model":  # It computes in the precision of the model, the others in float32.
        return check(format, path, Proof.of(model, offered, examples, tolerance), time=time)
    default = next(iter(offered.values()))
    with full_precision(model):
        proof = Proof.of(model, offered, examples, tolerance)
        nats = functools.partial(lost_nats, model, default, examples)
        return check(format, path, proof, nats=nats, time=time)


def check(
    format: str,
    path: Path,
    proof: Proof,
    *,
    nats: Callable[[runtimes.Runtime], float | None] | None = None,
    time: bool = False,
) -> Parity:
    """Holds a file of any name, whose format is told, against a proof.

    Args:
        format: "saved_model", "onnx" or "litert".
        path: The file, or the folder of a version.
        proof: What it has to answer.
        nats: Returns the lost nats of the loaded file; those of the proof if not given.
        time: Whether to measure the time of a call, too.

    Raises:
        ExportError: If it differs, or cannot be run by a stock server.
    """
    with _opened(format, path) as runtime:
        parity = proof.check(runtime)
        if nats is not None:
            parity = dataclasses.replace(parity, lost_nats=nats(runtime))
        try:
            runtime.replay_warm_up()
        except runtimes.Unservable as error:
            raise ExportError(f"A recorded first request fails: {error}") from error
        times = _milliseconds(proof.cases[0], runtime) if time else {}
    return dataclasses.replace(parity, milliseconds=times)


def find_exports(path: str | os.PathLike) -> list[Path]:
    """Returns the exports at a path or below it, sorted: version folders, ONNX and LiteRT files.

    What a server would take for a version counts, too: a broken one without `saved_model.pb`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        OSError: If a folder cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        format_of(path)
        return [path]
    found, seen = [], set()
    for folder, subfolders, names in os.walk(path, onerror=_raise, followlinks=True):
        # What a killed export has left bears a name that starts with a dot.
        # Links come last, so that what they lead to bears its own name.
        visible = sorted(name for name in subfolders if not name.startswith("."))
        subfolders[:] = sorted(visible, key=lambda name: os.path.islink(os.path.join(folder, name)))
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()  # a link that leads back
            continue
        seen.add(real)
        is_broken = "variables" in subfolders and os.path.basename(folder).isdecimal()
        if "saved_model.pb" in names or is_broken:
            found.append(Path(folder))
        exported = (name for name in names if name.endswith(tuple(SUFFIXES)))
        found += [Path(folder, name) for name in exported if not name.startswith(".")]
    return sorted(found)


def _raise(error):
    raise error


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
    if (path / "variables").is_dir():
        raise ValueError(f"{path} is a SavedModel without its saved_model.pb: export it again.")
    if path.suffix in SUFFIXES and path.is_file():
        return SUFFIXES[path.suffix]
    raise ValueError(
        "An export is the folder of one version of a SavedModel, or a file that ends in .onnx or "
        f".tflite. Received: path={str(path)!r}."
    )


def refuse_random_operations(graph_def, runtime: str) -> None:
    """Raises `ExportError` if a graph draws random numbers."""
    nodes = runtimes.nodes_of(graph_def)
    found = sorted({node.op for node in nodes if re.search(_RANDOM, node.op)})
    if found:
        raise ExportError(
            f"The graph holds operations that draw random numbers, and {runtime} has no seeds: "
            f"{', '.join(found)}."
        )


def extra(name: str) -> ModuleType:
    """Imports a module of the export extra, or says how to install it."""
    return require(name, "export", "The export needs")


def lost_nats(
    model: VAE,
    signature: Signature,
    examples: np.ndarray | None,
    runtime: runtimes.Runtime,
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
    needed = {
        "saved_model": ("tensorflow_serving.apis.prediction_log_pb2",),
        "onnx": ("onnx", "onnxruntime"),
        "litert": ("ai_edge_litert.interpreter",),
    }
    for package in needed[format]:
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
            case.signature,
            {name: batch(values, size) for name, values in case.inputs.items()},
            _TIMED_SECONDS,
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
