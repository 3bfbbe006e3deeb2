"""A client of TensorFlow Serving for the models that this package exports."""

from keras_vae.export.client.protocol import (
    Servable,
    ServingError,
    SignatureInfo,
    TensorInfo,
    VersionStatus,
)
from keras_vae.export.client.serving_client import ServingClient
from keras_vae.export.client.transport_grpc import Grpc
from keras_vae.export.client.transport_rest import Rest

__all__ = [
    "Grpc",
    "Rest",
    "Servable",
    "ServingClient",
    "ServingError",
    "SignatureInfo",
    "TensorInfo",
    "VersionStatus",
]
