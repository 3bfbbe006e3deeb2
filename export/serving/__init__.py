"""What an operator of TensorFlow Serving copies: configuration, Docker Compose, Kubernetes."""

from keras_vae.export.serving.config import (
    IMAGE,
    Batching,
    ServedModel,
    write_serving_config,
)

__all__ = ["IMAGE", "Batching", "ServedModel", "write_serving_config"]
