"""The proof that an export carries: real inputs, and what the model makes of them."""

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.export.runtimes import Runtime, Unservable
from keras_vae.export.signatures import Signature
from keras_vae.vae import VAE

tfd = tfp.distributions

# Differences are allowed at the export, per unit of the value, and per one for values below 1. A
# SavedModel runs the model's own kernels. Those of onnxruntime and LiteRT add in another order, and
# of float32's 7 digits, a sum of thousands of terms then loses one or two.
TOLERANCES = {"saved_model": 1e-6, "onnx": 1e-5, "litert": 1e-5}

_BATCH_SIZES = (1, 7, 64)
_MAX_CARRIED_BATCH = 7
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
        milliseconds: Median time of a call of the default signature, by batch size; empty where it
            is not measured.
    """

    differences: Mapping[str, float]
    lost_nats: float | None = None
    milliseconds: Mapping[int, float] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(self.differences.values())


@dataclass(frozen=True)
class Case:
    """One call of a signature: inputs, and the outputs that the model gave."""

    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Proof:
    """What an export has to answer, so that it can be proved wherever it goes, without the model.

    Attributes:
        cases: The calls, those of the signature to serve by default first.
        tolerance: Largest difference allowed, per unit of the value, and per one below 1.
        lost_nats: As in `Parity`, measured at the export.
    """

    cases: Sequence[Case]
    tolerance: float
    lost_nats: float | None = None

    @classmethod
    def of(
        cls,
        model: VAE,
        offered: Mapping[str, Signature],
        examples: np.ndarray | None,
        tolerance: float,
        *,
        force: bool = False,
    ) -> "Proof":
        """Asks the model, on images and latents as they will come.

        Args:
            model: The model.
            offered: Its signatures, by the names under which they are called.
            examples: Data, (batch, *event_shape); samples of the model if not given.
            tolerance: As above.
            force: Whether NaN and infinity are answers like any other.

        Raises:
            ExportError: If the model gives NaN or infinity, unless forced.
        """
        with tf.device("/CPU:0"):
            real = real_inputs(model, examples, force=force)
            cases = [
                Case(name, inputs, _ask(name, signature, inputs, force))
                for name, signature in offered.items()
                for inputs in _inputs(signature, real)
            ]
        return cls(cases, tolerance)

    def check(self, runtime: Runtime) -> Parity:
        """Compares a loaded export with the model's answers.

        Raises:
            ExportError: If it differs, or cannot be run.
        """
        self._check_names(runtime.signatures)
        differences = {}
        for case in self.cases:
            try:
                received = runtime.run(case.signature, case.inputs)
            except Unservable as error:
                raise ExportError(str(error)) from error
            for name, expected in case.outputs.items():
                key = f"{case.signature}.{name}"
                difference = _difference(key, expected, received[name], self.tolerance)
                differences[key] = max(difference, differences.get(key, 0.0))
        return Parity(differences, self.lost_nats)

    def _check_names(self, found):
        for case in self.cases:
            expected = sorted(case.inputs), sorted(case.outputs)
            if found.get(case.signature) != expected:
                raise ExportError(
                    f"`{case.signature}` should have the inputs and outputs {expected}. "
                    f"Received: {found.get(case.signature, 'no such signature')}."
                )

    def to_bytes(self) -> bytes:
        """Returns the small batches as an npz archive; `from_bytes` gives them back."""
        arrays, calls = {}, []
        for case in self.cases:
            values = (*case.inputs.values(), *case.outputs.values())
            if any(np.shape(value)[:1] > (_MAX_CARRIED_BATCH,) for value in values):
                continue
            prefix = f"{len(calls)}"
            calls.append(case.signature)
            arrays |= {f"{prefix}.inputs.{name}": array for name, array in case.inputs.items()}
            arrays |= {f"{prefix}.outputs.{name}": array for name, array in case.outputs.items()}
        about = {"calls": calls, "tolerance": self.tolerance, "lost_nats": self.lost_nats}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Proof":
        """Reads what `to_bytes` gave; nothing in it is executed.

        Raises:
            ValueError: If it is not such an archive.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                cases = [
                    Case(
                        signature,
                        _with_prefix(arrays, f"{index}.inputs."),
                        _with_prefix(arrays, f"{index}.outputs."),
                    )
                    for index, signature in enumerate(about["calls"])
                ]
                return cls(cases, about["tolerance"], about["lost_nats"])
        except Exception as error:  # Broken archives raise whatever zipfile and NumPy stumble over.
            raise ValueError(f"The proof cannot be read: {error}") from error


def check_trained(model: VAE, *, force: bool = False) -> None:
    """Raises `ExportError` if a model has taken no optimizer step, unless forced."""
    if not force and int(model.step.numpy()) == 0:
        raise ExportError(
            "The model is untrained: it has not taken a single step. Train it or load its weights, "
            "or export it all the same with `force=True`."
        )


def real_inputs(
    model: VAE, examples: np.ndarray | None, *, force: bool = False
) -> dict[str, np.ndarray]:
    """Returns images and latents as they will come: data, its posteriors, and the prior.

    Raises:
        ExportError: If the model gives NaN or infinity, unless forced.
    """
    z = model.prior.distribution().sample(max(_BATCH_SIZES), seed=_SEED)
    likelihood = model.decode(z)
    _finite("decoded images", likelihood.mean(), force)
    if examples is None:
        # Draws from p(x given z) lie in the support of every likelihood, binary ones included.
        examples = likelihood.sample(seed=_SEED)
        examples = tf.where(tf.math.is_finite(examples), examples, 0.0) if force else examples
    loc = _finite("posterior means", model.encode(examples).mean(), force)
    return {"image": np.asarray(examples, np.float32), "z": np.concatenate([z, loc])}


def _inputs(signature: Signature, real) -> Iterator[dict[str, np.ndarray]]:
    spec = signature.inputs[0]
    if spec.name not in real:
        for size in _BATCH_SIZES:
            yield {"num_samples": np.int32(size), "seed": np.int32(_SEED)}
        return
    values = as_input(spec, real[spec.name])
    sizes = itertools.chain(_BATCH_SIZES, itertools.repeat(max(_BATCH_SIZES)))
    while len(values):
        size = next(sizes)
        yield {spec.name: values[:size]}
        values = values[size:]


def as_input(spec: tf.TensorSpec, values: np.ndarray) -> np.ndarray:
    """Returns float values as the input of an export takes them: rounded to 0 to 255 for uint8."""
    return np.uint8(np.rint(255.0 * values)) if spec.dtype == tf.uint8 else values


def _ask(name, signature, inputs, force):
    outputs = signature.compiled.get_concrete_function()(
        *(tf.constant(value) for value in inputs.values())
    )
    return {key: _finite(f"{name}.{key}", value, force) for key, value in outputs.items()}


def _finite(name, tensor, force):
    values = tensor.numpy()
    if not force and not np.isfinite(values).all():
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
    # Where a forced model gives NaN or infinity, so should the file.
    equal = (received == expected) | (np.isnan(received) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(equal, 0.0, np.abs(received - expected))
    # Not "any above", which would let NaN pass.
    is_close = np.isfinite(expected) & (difference <= tolerance * np.maximum(1.0, np.abs(expected)))
    if not np.all(equal | is_close):
        raise ExportError(
            f"{name} differs from the model's by up to {difference.max():.3g}, "
            f"and {tolerance:g} is allowed."
        )
    return float(difference.max(initial=0.0))


def _with_prefix(arrays, prefix):
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
