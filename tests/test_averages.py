"""Validation with averaged weights: what is measured, what is saved, and what is trained."""

import keras
import numpy as np
import pytest

from keras_vae.averages import EvaluateAverages

MOMENTUM = 0.8


def compiled(make_vae):
    keras.utils.set_random_seed(0)
    vae = make_vae()
    vae.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=MOMENTUM))
    return vae


class Recorder(keras.callbacks.Callback):
    """Averages by hand, and keeps what the model's weights are when an epoch ends."""

    def on_train_begin(self, logs=None):
        self.average, self.raw, self.at_epoch_end = None, [], []

    def on_train_batch_end(self, batch, logs=None):
        weights = [keras.ops.convert_to_numpy(w).copy() for w in self.model.trainable_weights]
        old = weights if self.average is None else self.average
        self.average = [
            MOMENTUM * a + (1 - MOMENTUM) * w for a, w in zip(old, weights, strict=True)
        ]
        self.raw.append(weights)

    def on_epoch_end(self, epoch, logs=None):
        self.at_epoch_end.append(
            [keras.ops.convert_to_numpy(w).copy() for w in self.model.trainable_weights]
        )
        self.expected = [np.array(a) for a in self.average]


def fit(vae, images, callbacks, epochs=2):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epochs}
    return vae.fit(images, validation_data=images[:8], callbacks=callbacks, **options).history


def test_epochs_are_measured_and_saved_with_averages(make_vae, images, tmp_path):
    vae, recorder = compiled(make_vae), Recorder()
    best = keras.callbacks.ModelCheckpoint(tmp_path / "last.weights.h5", save_weights_only=True)
    history = fit(vae, images, [recorder, best, EvaluateAverages()])
    for average, seen in zip(recorder.expected, recorder.at_epoch_end[-1], strict=True):
        np.testing.assert_allclose(seen, average, rtol=1e-5, atol=1e-7)
    saved = make_vae()
    saved.load_weights(tmp_path / "last.weights.h5")
    saved.compile()
    for average, weight in zip(recorder.expected, saved.trainable_weights, strict=True):
        np.testing.assert_allclose(weight, average, rtol=1e-5, atol=1e-7)
    # The noise of the posterior is another: the KL has none.
    kl = saved.evaluate(images[:8], verbose=0, return_dict=True)["kl"]
    assert history["val_kl"][-1] == pytest.approx(kl, rel=1e-5)
    np.testing.assert_array_equal(vae.get_weights()[1], saved.get_weights()[1])


def test_training_goes_on_from_the_very_same_weights(make_vae, images):
    plain, watched = Recorder(), Recorder()
    fit(compiled(make_vae), images, [plain])
    fit(compiled(make_vae), images, [watched, EvaluateAverages()])
    # Validation draws noise of its own either way.
    for one, other in zip(plain.raw, watched.raw, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_evaluate_puts_the_weights_back(make_vae, images):
    vae, averages = compiled(make_vae), EvaluateAverages()
    vae.train_on_batch(images)
    vae.train_on_batch(images)
    before = vae.get_weights()
    with_averages = vae.evaluate(images, verbose=0, callbacks=[averages], return_dict=True)["kl"]
    for one, other in zip(before[1:], vae.get_weights()[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    assert with_averages != vae.evaluate(images, verbose=0, return_dict=True)["kl"]


def test_weights_survive_a_validation_that_is_broken_off(make_vae, images):
    class Interrupt(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            raise KeyboardInterrupt

    vae, averages = compiled(make_vae), EvaluateAverages()
    vae.train_on_batch(images)
    vae.train_on_batch(images)
    before = [weight.numpy() for weight in vae.trainable_weights]
    with pytest.raises(KeyboardInterrupt):
        vae.evaluate(images, verbose=0, callbacks=[Interrupt(), averages])
    averages.on_train_begin()
    for one, other in zip(before, vae.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluate_puts_the_weights_back_after_a_training_that_was_broken_off(make_vae, images):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    vae, averages = compiled(make_vae), EvaluateAverages()
    with pytest.raises(KeyboardInterrupt):
        fit(vae, images, [averages, Interrupt()])
    before = vae.get_weights()
    vae.evaluate(images, verbose=0, callbacks=[averages])
    for one, other in zip(before[1:], vae.get_weights()[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_without_averages_is_refused(make_vae, images):
    vae = make_vae()
    vae.compile("adam")
    with pytest.raises(ValueError, match=r"Adam\(use_ema=True\).*Received: a Adam"):
        fit(vae, images, [EvaluateAverages()])
