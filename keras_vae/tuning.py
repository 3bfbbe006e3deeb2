"""What "auto" picks: the precision, whether to use XLA, and how many steps to take at a time."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from keras_vae.replicas import mirrors

_logger = logging.getLogger(__name__)

# What one call of the compiled function should be worth: a tenth of a second on a core or two, next
# to which the millisecond that Keras spends around a call is nothing, and short enough for people
# and callbacks that wait for its end. No figure for other devices has been measured.
_OPERATIONS_PER_CALL = 1e10
_MOST_STEPS = 32
_USUAL_BATCH_SIZE = 128  # assumed where the data do not say
_PROCESSOR_FILE = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # as Linux names the units of x86 processors
_BFLOAT16_CAPABILITY = (8, 0)  # compute capability of the first NVIDIA GPUs that have them


def picked_dtype(dtype: str | None) -> str | None:
    """Returns the dtype policy to build networks with: the one given, unless it is "auto".

    "auto" is "mixed_bfloat16" where TensorFlow's devices have units for bfloat16, and "float32"
    elsewhere: TPUs have them, NVIDIA GPUs from compute capability 8.0 on, and x86 processors with
    AVX512-BF16 or AMX, which only Linux tells. Weights and what the networks return are float32 in
    both. On two AMD EPYC cores, at batch 128, bfloat16 gives 1.3 times the images a second for the
    network 784-512-512-16 and for 32-64 filters on 28x28 pixels, and 0.9 times for small ones on
    8x8.
    """
    if dtype != "auto":
        return dtype
    return "mixed_bfloat16" if _has_bfloat16_units() else "float32"


def _has_bfloat16_units():
    if tf.config.list_logical_devices("TPU"):
        return True
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        return all(
            detail.get("compute_capability", (0, 0)) >= _BFLOAT16_CAPABILITY for detail in details
        )
    return bool(_BFLOAT16_FLAGS & _processor_flags())


def _processor_flags():
    if not _PROCESSOR_FILE.exists():
        return set()
    lines = _PROCESSOR_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return set(next(flags, "").split())


def picks_xla(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether to compile with XLA: on a GPU or a TPU, if no strategy mirrors the model.

    On CPUs it does not pay: of the networks 784-512-512-16 and 32-64 filters at batch 128, on two
    AMD EPYC cores, the dense one took 13% fewer images a second with it, and the convolutional one
    as many.
    """
    return _has_accelerator() and not mirrors(strategy)


def makes_batches_in_loop(vae) -> bool:
    """Returns whether a loop of steps should make its batches itself: on a CPU, with no strategy.

    For an accelerator, a batch should lie ready before it is asked for.
    """
    with vae.distribute_strategy.scope():
        if tf.distribute.has_strategy():
            return False
    is_loop = vae.steps_per_execution > 1 and not vae.run_eagerly
    return is_loop and not vae.jit_compile and not _has_accelerator()


def _has_accelerator():
    return any(map(tf.config.list_logical_devices, ("GPU", "TPU")))


def picked_steps_per_execution(
    vae, x, batch_size: int | None, callbacks: Sequence, limits: Sequence[int | None] = ()
) -> int:
    """Returns how many optimizer steps one call of the compiled function should take.

    Results do not depend on it. As many are taken as are worth a call, by the multiplications of
    the networks; 1, if a callback listens to what happens between them.

    Args:
        vae: The model.
        x: What is given to `fit`.
        batch_size: As given to `fit`.
        callbacks: As given to `fit`.
        limits: Numbers of steps that `fit` is told to take, or `None`.
    """
    if vae.run_eagerly or any(_listens(callback) for callback in callbacks):
        return 1
    if isinstance(x, tf.data.Dataset):
        spec = tf.nest.flatten(x.element_spec)[0]
        batch_size = (spec.shape[0] if spec.shape.rank else None) or _USUAL_BATCH_SIZE
    num_products = _num_products(vae.encoder) + vae.objective.num_samples * _num_products(
        vae.decoder
    )
    # Each product is an addition, too, and comes again in the two gradients.
    operations = 6 * num_products * (batch_size or 32)
    steps = max(1, min(_MOST_STEPS, round(_OPERATIONS_PER_CALL / max(operations, 1))))
    # Keras takes whole executions, even beyond the steps that it is told to take.
    return math.gcd(steps, *filter(None, limits))


def say(vae) -> None:
    """Says in one line how a model will be trained."""
    _logger.info(
        "Training in %s, XLA %s, %d step(s) per execution.",
        vae.dtype_policy.name,
        "on" if vae.jit_compile else "off",
        vae.steps_per_execution,
    )


def _listens(callback):
    names = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    hooks = {name: getattr(callback, name) for name in names}
    base = keras.callbacks.Callback
    changed = [
        hook
        for name, hook in hooks.items()
        if getattr(hook, "__func__", hook) is not getattr(base, name)
    ]
    if "epoch" in (getattr(callback, "save_freq", None), getattr(callback, "update_freq", None)):
        # Keras' ModelCheckpoint, BackupAndRestore and TensorBoard, as they are set; the last one
        # counts batches nevertheless where it is to profile some.
        if getattr(callback, "_stop_batch", 0):
            return True
        changed = [hook for hook in changed if not hook.__module__.startswith("keras.")]
    return bool(changed) and getattr(callback, "listens_to_steps", True)


def _num_products(network):
    """Returns the multiplications of one example's way through a network, of the usual layers."""
    total = 0
    for layer in network._flatten_layers():
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            total += math.prod(kernel.shape) * _num_positions(layer)
    return total


def _num_positions(layer):
    # A transposed convolution applies its kernel to every pixel of its input.
    try:
        tensor = layer.input if "Transpose" in type(layer).__name__ else layer.output
    except (AttributeError, ValueError):
        return 1  # called more than once, or not yet
    return math.prod(size or 1 for size in tensor.shape[1:-1])
