"""Variational autoencoders for Keras: train, verify, export, serve."""

import importlib
import sys

import wrapt

_PUBLIC = {
    "VAE": "keras_vae.vae",
    "DenseVAE": "keras_vae.models",
    "ConvVAE": "keras_vae.models",
    "BetaVAE": "keras_vae.models",
}
_SUBMODULES = (
    "data",
    "distributions",
    "export",
    "metrics",
    "models",
    "networks",
    "objectives",
    "plots",
    "random",
    "schedules",
    "zoo",
)

__all__ = ["__version__", *_PUBLIC, *_SUBMODULES]


def __getattr__(name):
    if name == "__version__":
        from importlib.metadata import version

        return version("keras-vae")
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_vae.{name}")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'keras_vae' has no attribute {name!r}")


def __dir__():
    return __all__


@wrapt.when_imported("keras")
def _register_with_keras(keras):
    # `keras.saving.load_model` finds our classes by their registered names, so they must be
    # registered wherever Keras is in use; where it is not (`keras-vae list`), nothing is loaded.
    # If Keras comes in through one of our own modules, that module is on the way already.
    if not any(name.startswith("keras_vae.") for name in sys.modules):
        importlib.import_module("keras_vae.models")
