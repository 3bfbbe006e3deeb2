"""Evaluation with the moving averages of the weights."""

import keras
import numpy as np

from keras_vae.optimizers import without_loss_scale


class EvaluateAverages(keras.callbacks.Callback):
    """Evaluates, during `fit`, with the averages of the weights that the optimizer keeps.

    An optimizer with `use_ema=True` averages the weights exponentially as it goes, and Keras puts
    the averages in their place when `fit` ends. With this callback, what is measured and saved at
    the end of each epoch that has a validation is that same averaged model: from the start of the
    validation until the callbacks before it in the list are through with the epoch. Training then
    goes on from the very same weights as before (Keras' own `SwapEMAWeights` rounds them).

    In the list for `fit` it stands behind `ModelCheckpoint`, and before `ExactResume`.

    Raises:
        ValueError: If the optimizer keeps no averages.

    Example:

    >>> import tensorflow as tf
    >>> from keras_vae import DenseVAE
    >>> vae = DenseVAE(event_shape=(8, 8, 1), latent_dim=2)
    >>> vae.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.999))
    >>> images = tf.zeros((4, 8, 8, 1))
    >>> averages = EvaluateAverages()
    >>> history = vae.fit(images, validation_data=images, callbacks=[averages], verbose=0)

    References:
        Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging".
    """

    def __init__(self):
        super().__init__()
        self._raw = None
        self._is_fitting = False

    def set_model(self, model):
        super().set_model(model)
        self._is_fitting = False  # an `evaluate` of its own begins with this, too

    def on_train_begin(self, logs=None):
        _, averages = self._averages()
        if self._raw is not None and all(map(_equal, [v for v, _ in self._raw], averages)):
            self._put_back()  # a validation was broken off, and nothing has been loaded since
        self._raw, self._is_fitting = None, True

    def on_test_begin(self, logs=None):
        if self._raw is not None:
            return
        optimizer, averages = self._averages()
        variables = optimizer._trainable_variables
        self._raw = [(v, keras.ops.convert_to_numpy(v)) for v in variables]
        values = [keras.ops.convert_to_numpy(average) for average in averages]
        self._assign(zip(variables, values, strict=True))

    def on_test_end(self, logs=None):
        if not self._is_fitting:
            self._put_back()

    def on_epoch_end(self, epoch, logs=None):
        self._put_back()

    def _averages(self):
        optimizer = self.model.optimizer
        optimizer = without_loss_scale(optimizer)
        if not optimizer.use_ema:
            raise ValueError(
                "The optimizer should keep averages: `Adam(use_ema=True)`. "
                f"Received: a {type(optimizer).__name__} with use_ema=False."
            )
        return optimizer, optimizer._model_variables_moving_average

    def _put_back(self):
        if self._raw is not None:
            self._assign(self._raw)
            self._raw = None

    def _assign(self, pairs):
        with self.model.distribute_strategy.scope():
            for variable, value in pairs:
                variable.assign(np.asarray(value))


def _equal(one, other):
    return np.array_equal(*map(keras.ops.convert_to_numpy, (one, other)))
