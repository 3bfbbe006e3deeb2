"""Models on their way out: SavedModel, ONNX and LiteRT, each proved against the model."""

import importlib

# Loaded on first use: a client of a server, `keras_vae.export.client`, should not wait for
# TensorFlow, nor need it.
_PUBLIC = {
    "ExportError": "verify",
    "Float16": "litert",
    "Int8": "litert",
    "Parity": "verify",
    "check_litert": "verify",
    "check_onnx": "verify",
    "check_saved_model": "verify",
    "to_litert": "litert",
    "to_onnx": "onnx",
    "to_saved_model": "saved_model",
}
_SUBMODULES = ("client", "litert", "onnx", "saved_model", "serving", "signatures", "verify")

__all__ = [*_PUBLIC]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"keras_vae.export.{_PUBLIC[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_vae.export.{name}")
    raise AttributeError(f"module 'keras_vae.export' has no attribute {name!r}")


def __dir__():
    return [*__all__, *_SUBMODULES]
