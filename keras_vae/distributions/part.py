"""What priors, posteriors and likelihoods have in common."""

import abc

import keras


class Part(keras.layers.Layer, abc.ABC):
    """A layer so that Keras tracks and saves its weights, should it have any; it is never called.

    It is float32 whatever the global policy, and so are its weights within a model of mixed
    precision: operations of TensorFlow Probability must not meet two dtypes.
    """

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name, dtype="float32")

    def add_weight(self, *args, autocast: bool = False, **kwargs):
        """Adds a weight as a Keras layer does, but for `autocast`, which is off if not given."""
        return super().add_weight(*args, autocast=autocast, **kwargs)
