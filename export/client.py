"""A client of TensorFlow Serving for the models that this package exports."""

import base64
import contextlib
import importlib
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

# Every signature is stateless, so what was lost or turned away may be asked again.
_RETRIED_HTTP = (429, 502, 503)
_RETRIED_GRPC = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
_BACKOFF_SECONDS = 0.1
_MAX_GRPC_RETRIES = 4

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


class Rest:
    """Speaks with a server over HTTP, its port 8501.

    Numbers travel as JSON. Floats survive it exactly; at some size of batch `Grpc` is faster.
    Failed connections and the statuses 429, 502 and 503 are tried again by urllib3's `Retry`: at
    once, then after 0.2 s, then after twice as long each time.

    Args:
        url: Scheme, host and port, and what a proxy wants before `/v1`.
        timeout: Seconds for the connection, and then between bytes of the answer, in each try.
        retries: How often to try again.
        rows: Whether inputs that share a batch axis go one row each, as `instances`, instead of one
            column for each input, as `inputs`. Answers are the same; columns are shorter.
        headers: Sent with each request, such as an `Authorization` that a proxy wants.

    Raises:
        ImportError: If the serving extra is not installed.
        ValueError: If the URL is none, `timeout` is not above 0, or `retries` is below 0.

    Example:

    >>> Rest("http://models.example:8501", timeout=2.0).url
    'http://models.example:8501'
    """

    def __init__(
        self,
        url: str = "http://localhost:8501",
        *,
        timeout: float = 10.0,
        retries: int = 3,
        rows: bool = False,
        headers: Mapping[str, str] | None = None,
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"`url` should begin with http:// or https://. Received: url={url!r}.")
        _check_patience(timeout, retries)
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.rows = rows
        self._requests = _extra("requests")
        policy = _extra("urllib3").Retry(
            total=retries,
            backoff_factor=_BACKOFF_SECONDS,
            status_forcelist=_RETRIED_HTTP,
            allowed_methods=("GET", "POST"),
            raise_on_status=False,
        )
        self._session = self._requests.Session()
        self._session.headers.update(headers or {})
        for scheme in ("http://", "https://"):
            adapter = self._requests.adapters.HTTPAdapter(max_retries=policy)
            self._session.mount(scheme, adapter)

    def predict(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, TensorInfo],
    ) -> dict[str, np.ndarray]:
        """Returns the named outputs of a signature.

        Args:
            servable: The model.
            signature: Name of the signature.
            inputs: Every input by name, in the dtype that the server wants.
            outputs: What is expected of it.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        body = {"signature_name": signature}
        in_rows = self.rows and all(value.ndim for value in inputs.values())
        if in_rows:
            columns = [_plain(value) for value in inputs.values()]
            rows = zip(*columns, strict=True)
            body["instances"] = [dict(zip(inputs, row, strict=True)) for row in rows]
            answer = self._ask("POST", servable, ":predict", "predictions", body)
        else:
            body["inputs"] = {name: _plain(value) for name, value in inputs.items()}
            answer = self._ask("POST", servable, ":predict", "outputs", body)
        # A single output comes without its name.
        has_names = isinstance(answer[0] if in_rows else answer, dict)
        if has_names != (len(outputs) > 1):
            # Another version answers than the one that said what it offers.
            outputs = self.signatures(servable)[signature].outputs
        if not has_names:
            columns = dict.fromkeys(outputs, answer)
        elif in_rows:
            columns = {name: [row[name] for row in answer] for name in outputs}
        else:
            columns = answer
        return {name: np.asarray(columns[name], info.dtype) for name, info in outputs.items()}

    def signatures(self, servable: Servable) -> dict[str, SignatureInfo]:
        """Returns what the server says that the model offers.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        metadata = self._ask("GET", servable, "/metadata", "metadata")
        return _signatures_of(metadata["signature_def"])

    def status(self, servable: Servable) -> list[VersionStatus]:
        """Returns the versions that the server knows.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        found = self._ask("GET", servable, "", "model_version_status")
        return [
            VersionStatus(
                int(version["version"]), version["state"], version["status"]["error_message"]
            )
            for version in found
        ]

    def close(self) -> None:
        """Closes its connections."""
        self._session.close()

    def _ask(self, method, servable, what, key, body=None):
        url = f"{self.url}/v1/models/{urllib.parse.quote(servable.name, safe='')}"
        if servable.version is not None:
            url += f"/versions/{servable.version}"
        elif servable.label is not None:
            url += f"/labels/{servable.label}"
        url += what
        try:
            response = self._session.request(method, url, json=body, timeout=self.timeout)
        except self._requests.RequestException as error:
            raise ServingError(f"{url} does not answer: {error}") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.ok and isinstance(answer, dict) and key in answer:
            return answer[key]
        # Not each answer comes from TF Serving: proxies have pages of their own.
        is_error = isinstance(answer, dict) and "error" in answer
        said = answer["error"] if is_error else response.text.strip()
        message = f"{url} answers {response.status_code} {response.reason}: {said}"
        raise ServingError(message, said=said, status=response.status_code)


class Grpc:
    """Speaks with a server over gRPC, its port 8500.

    Tensors travel as they are in memory. The messages are those of tensorflow-serving-api, which
    needs TensorFlow; where that is too heavy, take `Rest`. Calls that end in UNAVAILABLE or
    RESOURCE_EXHAUSTED are tried again by gRPC's own retry policy, after about 0.1 s, then twice as
    long each time.

    Args:
        address: Host and port.
        timeout: Seconds for a call, with all of its tries.
        retries: How often to try again, 4 times at most, as gRPC has it.
        credentials: `grpc.ChannelCredentials` for TLS; plain text if not given.

    Raises:
        ImportError: If the serving extra is not installed.
        ValueError: If `timeout` is not above 0, or `retries` not between 0 and 4.
    """

    def __init__(
        self,
        address: str = "localhost:8500",
        *,
        timeout: float = 10.0,
        retries: int = 3,
        credentials=None,
    ):
        _check_patience(timeout, retries, _MAX_GRPC_RETRIES)
        self.address = address
        self.timeout = timeout
        self._grpc = _extra("grpc")
        self._apis = {
            name: _extra(f"tensorflow_serving.apis.{name}")
            for name in (
                "get_model_metadata_pb2",
                "get_model_status_pb2",
                "model_service_pb2_grpc",
                "predict_pb2",
                "prediction_service_pb2_grpc",
            )
        }
        options = [
            ("grpc.service_config", json.dumps(_grpc_policy(retries))),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if credentials is None:
            self._channel = self._grpc.insecure_channel(address, options)
        else:
            self._channel = self._grpc.secure_channel(address, credentials, options)
        prediction = self._apis["prediction_service_pb2_grpc"]
        self._prediction = prediction.PredictionServiceStub(self._channel)
        self._model = self._apis["model_service_pb2_grpc"].ModelServiceStub(self._channel)

    def predict(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, TensorInfo],
    ) -> dict[str, np.ndarray]:
        """Returns the named outputs of a signature, as `Rest.predict` does.

        Args:
            servable: The model.
            signature: Name of the signature.
            inputs: Every input by name, in the dtype that the server wants.
            outputs: What is expected of it. Here the answer says all that itself.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        import tensorflow as tf

        request = self._request("predict_pb2", "PredictRequest", servable)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self._ask(self._prediction.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def signatures(self, servable: Servable) -> dict[str, SignatureInfo]:
        """Returns what the server says that the model offers, as `Rest.signatures` does.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        from google.protobuf import json_format

        request = self._request("get_model_metadata_pb2", "GetModelMetadataRequest", servable)
        request.metadata_field.append("signature_def")
        response = self._ask(self._prediction.GetModelMetadata, request)
        definitions = self._apis["get_model_metadata_pb2"].SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        as_json = json_format.MessageToDict(
            definitions, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return _signatures_of(as_json)

    def status(self, servable: Servable) -> list[VersionStatus]:
        """Returns the versions that the server knows, as `Rest.status` does.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        request = self._request("get_model_status_pb2", "GetModelStatusRequest", servable)
        response = self._ask(self._model.GetModelStatus, request)
        name_of = self._apis["get_model_status_pb2"].ModelVersionStatus.State.Name
        return [
            VersionStatus(found.version, name_of(found.state), found.status.error_message)
            for found in response.model_version_status
        ]

    def close(self) -> None:
        """Closes its connection."""
        self._channel.close()

    def _request(self, module, message, servable):
        request = getattr(self._apis[module], message)()
        request.model_spec.name = servable.name
        if servable.version is not None:
            request.model_spec.version.value = servable.version
        elif servable.label is not None:
            request.model_spec.version_label = servable.label
        return request

    def _ask(self, method, request):
        try:
            return method(request, timeout=self.timeout)
        except self._grpc.RpcError as error:
            status, said = error.code().name, error.details()
            asked = f"{self.address}, asked for {request.model_spec.name},"
            message = f"{asked} answers {status}: {said}"
            raise ServingError(message, said=said, status=status) from error


class ServingClient:
    """A model on a server, with the methods that `keras_vae.export.signatures` lists.

    NumPy arrays go in, and a dictionary of NumPy arrays comes out, by the names of that table. What
    the server says of the model is asked once, and inputs are held against it before they are sent;
    if they do not fit, it is asked again first, since a new version may be there.

    Args:
        name: Name of the model in the server's configuration.
        transport: `Rest` or `Grpc`; `Rest()`, which is this machine's port 8501, if not given.
        version: One version; the newest one if neither this nor `label` is given.
        label: The version that bears this label, such as "stable".

    Raises:
        ValueError: If both `version` and `label` are given.

    Example:

    >>> with ServingClient("conv_mnist", Rest("http://models.example:8501"), label="stable") as vae:
    ...     vae.servable
    Servable(name='conv_mnist', version=None, label='stable')

    Where that server is, `vae.sample(16, seed=0)["image"]` has shape (16, 28, 28, 1), and
    `vae.score(images)["elbo"]`, in nats, shape (batch,).
    """

    def __init__(
        self,
        name: str,
        transport: Rest | Grpc | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
    ):
        if version is not None and label is not None:
            raise ValueError(
                "Of `version` and `label` at most one should be given. "
                f"Received: version={version!r}, label={label!r}."
            )
        self.servable = Servable(name, version, label)
        self.transport = Rest() if transport is None else transport
        self._signatures = None

    def decode(self, z) -> dict[str, np.ndarray]:
        """Returns `image`, the mean of p(x given z), and `scale` where the likelihood has one.

        Args:
            z: Latents, (batch, latent_dim).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("decode", z=z)

    def encode(self, images) -> dict[str, np.ndarray]:
        """Returns `loc` and `scale` of q(z given x), and `kl`, (batch,), from the prior in nats.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("encode", image=images)

    def reconstruct(self, images) -> dict[str, np.ndarray]:
        """Returns `image`, decoded from the posterior's mean.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("reconstruct", image=images)

    def score(self, images) -> dict[str, np.ndarray]:
        """Returns `elbo`, `reconstruction` and `kl`, each (batch,), in nats.

        Args:
            images: (batch, *event_shape).

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape.
        """
        return self.predict("score", image=images)

    def sample(self, num_samples: int, seed: int | Sequence[int] = 0) -> dict[str, np.ndarray]:
        """Returns `image`, decoded from the prior; the same seed gives the same images.

        A server that batches requests refuses this one, whose inputs have no batch axis.

        Args:
            num_samples: How many.
            seed: One integer, as in `vae.sample`, or two.

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or `num_samples` is below 1.
        """
        if num_samples < 1:
            raise ValueError(f"`num_samples` should be >= 1. Received: num_samples={num_samples}.")
        seed = (seed, 0) if np.ndim(seed) == 0 else seed
        return self.predict("sample", num_samples=num_samples, seed=seed)

    def predict(self, signature: str, **inputs) -> dict[str, np.ndarray]:
        """Returns the outputs of any signature by name.

        Args:
            signature: Its name, such as "serving_default".
            **inputs: Its inputs by name. Arrays of `bytes` are for inputs that are strings, and go
                over REST in base64.

        Raises:
            ServingError: If the server refuses, or does not answer.
            ValueError: If the server's model does not offer this, or wants another shape or dtype.
        """
        expected, tensors = self._prepare(signature, inputs)
        try:
            return self.transport.predict(self.servable, signature, tensors, expected.outputs)
        except ServingError:
            self._signatures = None
            raise

    def status(self) -> list[VersionStatus]:
        """Returns the versions that the server knows: of the model, or the one asked for.

        Raises:
            ServingError: If the server does not know the model, or does not answer.
        """
        return self.transport.status(self.servable)

    def close(self) -> None:
        """Closes the transport."""
        self.transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _prepare(self, signature, inputs):
        if self._signatures is not None:
            with contextlib.suppress(ValueError):
                return _fit(self.servable.name, self._signatures, signature, inputs)
        self._signatures = self.transport.signatures(self.servable)
        return _fit(self.servable.name, self._signatures, signature, inputs)


def _fit(name, offered, signature, inputs):
    """Returns what is said of the signature, and the inputs as it wants them."""
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
        key: _tensor(f"`{key}` of `{signature}`", inputs[key], info)
        for key, info in expected.inputs.items()
    }
    return expected, tensors


def _tensor(name, value, info):
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
    if value.dtype.kind == "u" and info.dtype.kind == "f":
        raise ValueError(
            f"{wanted}, as the server says. Received: {value.dtype}. "
            "Scale it: `images.astype('float32') / 255`."
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


def _plain(value):
    """Returns what JSON can hold of an array; bytes as TF Serving wants them, in base64."""
    if value.dtype != object:
        return value.tolist()
    if value.ndim:
        return [_plain(np.asarray(row, object)) for row in value]
    return {"b64": base64.b64encode(value.item()).decode()}


def _signatures_of(definitions):
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


def _grpc_policy(retries):
    services = ("PredictionService", "ModelService")
    config = {"name": [{"service": f"tensorflow.serving.{name}"} for name in services]}
    if retries:
        config["retryPolicy"] = {
            "maxAttempts": retries + 1,
            "initialBackoff": f"{_BACKOFF_SECONDS}s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": list(_RETRIED_GRPC),
        }
    return {"methodConfig": [config]}


def _check_patience(timeout, retries, most=None):
    if not timeout > 0:
        raise ValueError(f"`timeout` should be > 0, in seconds. Received: timeout={timeout}.")
    if retries < 0 or (most is not None and retries > most):
        allowed = ">= 0" if most is None else f"between 0 and {most}"
        raise ValueError(f"`retries` should be {allowed}. Received: retries={retries}.")


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = "tensorflow-serving-api" if name.startswith("tensorflow_serving") else name
        raise ImportError(
            f'The client needs {package}, which is not installed: pip install "keras-vae[serving]"'
        ) from error
