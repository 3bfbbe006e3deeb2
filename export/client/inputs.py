"""Inputs, held against what a server says that its model takes."""

from collections.abc import Mapping

import numpy as np

from keras_vae.export.client.protocol import SignatureInfo


def fit_inputs(
    name: str, offered: Mapping[str, SignatureInfo], signature: str, inputs: Mapping
) -> tuple[SignatureInfo, dict[str, np.ndarray]]:
    """Returns what is said of the signature, and the inputs as it wants them.

    Raises:
        ValueError: If the signature is not offered, or takes other inputs.
    """
    if signature not in offered:
        names = ", ".join(repr(known) for known in sorted(offered))
        raise ValueError(
            f"`signature` should be one that the server offers for {name}: {names}. "
            f"Received: signature={signature!r}."
        )
    expected = offered[signature]
    if inputs.keys() != expected.inputs.keys():
        raise ValueError(
            f"`{signature}` should have the inputs {', '.join(sorted(expected.inputs))}, as the "
            f"server says. Received: {', '.join(sorted(inputs)) or 'none'}."
        )
    tensors = {
        key: _tensor(f"`{key}` of `{signature}`", inputs[key], info, is_image=key == "image")
        for key, info in expected.inputs.items()
    }
    return expected, tensors


def _tensor(name, value, info, *, is_image):
    """Returns the value as an array of the dtype and shape that the server wants, or refuses."""
    is_bytes = info.dtype == object
    value = np.asarray(value, object if is_bytes else None)
    wanted = f"{name} should be {'bytes' if is_bytes else info.dtype}{_show(info.shape)}"
    if not _matches(value.shape, info.shape):
        raise ValueError(
            f"{wanted}, as the server says. Received: shape={_show_sizes(value.shape)}."
        )
    if is_bytes:
        if not all(isinstance(item, bytes) for item in value.flat):
            raise ValueError(f"{wanted}, as the server says. Received: other values than bytes.")
        return value
    is_pixels = value.dtype.kind == "u" or (
        is_image
        and value.dtype.kind == "i"
        and value.min(initial=0) == 0
        and 1 < value.max(initial=0) <= 255
    )
    if info.dtype.kind == "f" and is_pixels:
        raise ValueError(
            f"{wanted}, as the server says. Received: {value.dtype}. "
            "Scale it: `images.astype('float32') / 255`. What are no pixels, cast to float32."
        )
    if not np.can_cast(value.dtype, info.dtype, "same_kind") and value.dtype.kind not in "iu":
        raise ValueError(f"{wanted}, as the server says. Received: {value.dtype}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} should be finite. Received: values that are NaN or infinite.")
    with np.errstate(over="ignore"):
        tensor = value.astype(info.dtype)
    is_kept = np.isfinite(tensor) if info.dtype.kind == "f" else tensor == value
    if not is_kept.all():
        raise ValueError(
            f"{wanted}, as the server says. "
            f"Received: values from {value.min():g} to {value.max():g}, which do not fit into it."
        )
    return tensor


def _matches(sizes, shape):
    if shape is None:
        return True
    return len(sizes) == len(shape) and all(
        size >= 1 if known is None else size == known
        for size, known in zip(sizes, shape, strict=True)
    )


def _show(shape):
    if shape is None:
        return ""
    # The first axis that is open is the batch.
    names = ["batch" if i == 0 and size is None else size for i, size in enumerate(shape)]
    return f" of shape {_show_sizes(['?' if size is None else size for size in names])}"


def _show_sizes(sizes):
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
