"""Builds a model that is about to get its weights, without drawing any first."""

import keras
import numpy as np

from keras_vae.zoo.recipe import Recipe


class _Undrawn(keras.initializers.GlorotUniform):
    """Zeros where Keras would draw."""

    def __call__(self, shape, dtype=None):
        return np.zeros(shape, dtype)


class _Zeros(keras.initializers.Zeros):
    """Zeros that take no operation of TensorFlow's."""

    def __call__(self, shape, dtype=None):
        return np.zeros(shape, dtype)


_USUAL = {_Undrawn: keras.initializers.GlorotUniform, _Zeros: keras.initializers.Zeros}


def build(recipe: Recipe):
    """Returns the model of a recipe with zeros for kernels, for weights to be loaded into.

    Keras has no way to make a layer without drawing its weights, which are a sixth of the time that
    loading takes: 28 of 175 ms for conv_mnist. To fill the biases took another 5.

    Raises:
        ValueError: If the recipe cannot be built.
    """
    with keras.saving.custom_object_scope({"glorot_uniform": _Undrawn, "zeros": _Zeros}):
        model = recipe.build()
    for network in (model.encoder, model.decoder):
        for layer in network._flatten_layers():
            for name in ("kernel_initializer", "bias_initializer"):
                if usual := _USUAL.get(type(getattr(layer, name, None))):
                    setattr(layer, name, usual())
    return model
