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
    "anomaly",
    "averages",
    "callbacks",
    "data",
    "disentanglement",
    "distributions",
    "explore",
    "export",
    "metrics",
    "models",
    "networks",
    "objectives",
    "optimizers",
    "plots",
    "random",
    "report",
    "representation",
    "resume",
    "schedules",
    "sprites",
    "stability",
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


# What the variants are made of, and what must be whole before they can be imported.
_VARIANTS_NEED = (
    "checks",
    "data",
    "distributions",
    "executions",
    "extras",
    "feeding",
    "networks",
    "objectives",
    "optimizers",
    "parts",
    "random",
    "replicas",
    "schedules",
    "scoring",
    "stability",
    "trainer",
    "tuning",
    "vae",
)


def _register_with_keras(imported):
    # `keras.saving.load_model` finds our classes by their registered names, so they must be
    # registered wherever Keras is in use; where it is not (`keras-vae list`), nothing is loaded.
    # While a module that the variants need is on its way, this waits for that module's own hook.
    on_the_way = [
        module
        for module in map(sys.modules.get, _HOOKED)
        if module is not None and module.__spec__._initializing
    ]
    if "keras" in sys.modules and on_the_way in ([], [imported]):
        importlib.import_module("keras_vae.models")


_HOOKED = ("tensorflow", "keras", *(f"keras_vae.{name}" for name in _VARIANTS_NEED))
for _name in _HOOKED:
    wrapt.register_post_import_hook(_register_with_keras, _name)
