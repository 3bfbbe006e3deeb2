"""What is said between a client and a server, whatever carries it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_DTYPES = {
    "DT_BOOL": np.dtype(bool),
    "DT_DOUBLE": np.dtype(np.float64),
    "DT_FLOAT": np.dtype(np.float32),
    "DT_HALF": np.dtype(np.float16),
    "DT_INT16": np.dtype(np.int16),
    "DT_INT32": np.dtype(np.int32),
    "DT_INT64": np.dtype(np.int64),
    "DT_INT8": np.dtype(np.int8),
    "DT_STRING": np.dtype(object),
    "DT_UINT16": np.dtype(np.uint16),
    "DT_UINT32": np.dtype(np.uint32),
    "DT_UINT64": np.dtype(np.uint64),
    "DT_UINT8": np.dtype(np.uint8),
}


class ServingError(RuntimeError):
    """What a server said instead of an answer, or that it said nothing.

    Attributes:
        said: The server's own words; empty if none came.
        status: HTTP status, such as 404, or name of gRPC's, such as "NOT_FOUND"; None if the server
            did not answer over HTTP.
    """

    def __init__(self, message: str, *, said: str = "", status: int | str | None = None):
        super().__init__(message)
        self.said = said
        self.status = status


class Servable(NamedTuple):
    """Which model is meant, in TF Serving's words.

    Attributes:
        name: Name of the model in the server's configuration.
        version: One version, or None.
        label: The version that bears this label, or None. With neither, the newest one is meant.
    """

    name: str
    version: int | None = None
    label: str | None = None


class TensorInfo(NamedTuple):
    """What a server says of an input or output.

    Attributes:
        dtype: Type of the values; `object` for strings of bytes.
        shape: Sizes, None where any will do; None if even the rank is open.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None


class SignatureInfo(NamedTuple):
    """What a server says of a signature: the inputs and outputs by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


class VersionStatus(NamedTuple):
    """What a server says of one version of a model.

    Attributes:
        version: Its number.
        state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error: Why it could not be loaded; empty if it could.
    """

    version: int
    state: str
    error: str


def signatures_of(definitions: Mapping) -> dict[str, SignatureInfo]:
    """Returns the signatures in the JSON of a `SignatureDefMap`, less those of TensorFlow's own."""
    return {
        name: SignatureInfo(_tensors_of(definition["inputs"]), _tensors_of(definition["outputs"]))
        for name, definition in definitions["signature_def"].items()
        if not name.startswith("__")
    }


def _tensors_of(infos):
    tensors = {}
    for name, info in infos.items():
        shape = None
        if not info["tensor_shape"]["unknown_rank"]:
            sizes = (int(axis["size"]) for axis in info["tensor_shape"]["dim"])
            shape = tuple(None if size < 0 else size for size in sizes)
        tensors[name] = TensorInfo(_DTYPES[info["dtype"]], shape)
    return tensors
