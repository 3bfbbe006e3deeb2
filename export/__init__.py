"""Models on their way out: SavedModel, ONNX and LiteRT, each proved against the model."""

import importlib

# Loaded on first use: a client of a server, `keras_vae.export.client`, should not wait for
# TensorFlow, nor need it.
_PUBLIC = {
    "ExportError": "proof",
    "Float16": "quantization",
    "Int8": "quantization",
    "Parity": "proof",
    "find_exports": "verification",
    "to_litert": "litert",
    "to_onnx": "onnx",
    "to_saved_model": "saved_model",
    "verify": "verification",
}
_SUBMODULES = ("client", "litert", "onnx", "saved_model", "serving", "signatures")

__all__ = [*_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"keras_vae.export.{_PUBLIC[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_vae.export.{name}")
    raise AttributeError(f"module 'keras_vae.export' has no attribute {name!r}")


def __dir__():
    return [*__all__, *_SUBMODULES]
