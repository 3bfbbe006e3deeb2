"""Models on their way out: SavedModel and ONNX, each proved against the model it came from."""

from keras_vae.export.onnx import to_onnx
from keras_vae.export.saved_model import to_saved_model
from keras_vae.export.verify import ExportError, Parity, check_onnx, check_saved_model

__all__ = [
    "ExportError",
    "Parity",
    "check_onnx",
    "check_saved_model",
    "to_onnx",
    "to_saved_model",
]
