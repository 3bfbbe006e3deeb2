"""The transport over gRPC, with tensors as they are in memory."""

import json
from collections.abc import Mapping

import numpy as np

from keras_vae.export.client.protocol import (
    Servable,
    ServingError,
    SignatureInfo,
    TensorInfo,
    VersionStatus,
    signatures_of,
)
from keras_vae.export.client.transport_common import BACKOFF_SECONDS, check_patience, import_extra

_RETRIED = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
_MAX_RETRIES = 4
_MAX_INT = 2**31 - 1


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
        check_patience(timeout, retries, _MAX_RETRIES)
        self.address = address
        self.timeout = timeout
        self._grpc = import_extra("grpc")
        self._apis = {
            name: import_extra(f"tensorflow_serving.apis.{name}")
            for name in (
                "get_model_metadata_pb2",
                "get_model_status_pb2",
                "model_service_pb2_grpc",
                "predict_pb2",
                "prediction_service_pb2_grpc",
            )
        }
        options = [
            ("grpc.service_config", json.dumps(_policy(retries))),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Of a longer request than 256 KiB it would keep no copy, and so not try again.
            ("grpc.per_rpc_retry_buffer_size", _MAX_INT),
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

        response = self._metadata(servable)
        definitions = self._apis["get_model_metadata_pb2"].SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        as_json = json_format.MessageToDict(
            definitions, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return signatures_of(as_json)

    def version(self, servable: Servable) -> int:
        """Returns the version that answers for a model, as `Rest.version` does.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        return self._metadata(servable).model_spec.version.value

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

    def _metadata(self, servable):
        request = self._request("get_model_metadata_pb2", "GetModelMetadataRequest", servable)
        request.metadata_field.append("signature_def")
        return self._ask(self._prediction.GetModelMetadata, request)

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


def _policy(retries):
    services = ("PredictionService", "ModelService")
    config = {"name": [{"service": f"tensorflow.serving.{name}"} for name in services]}
    if retries:
        config["retryPolicy"] = {
            "maxAttempts": retries + 1,
            "initialBackoff": f"{BACKOFF_SECONDS}s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": list(_RETRIED),
        }
    return {"methodConfig": [config]}
