"""What "auto" picks, and that results do not depend on it."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import BetaVAE, ConvVAE, DenseVAE, data, tuning
from keras_vae.objectives import IWAE
from keras_vae.stability import Guard
from keras_vae.tuning import picked_dtype, picked_steps_per_execution


def picked(vae, batch_size=128, callbacks=()):
    vae.compile()
    return picked_steps_per_execution(vae, np.zeros((1, 8, 8, 1)), batch_size, callbacks)


def dense(width=512, **options):
    return DenseVAE((28, 28, 1), 16, hidden_units=(width, width), **options)


def expected(num_products, batch_size=128):
    return round(1e10 / (6 * batch_size * num_products))


def test_a_call_is_worth_so_many_multiplications_of_dense_layers():
    num_products = 784 * 512 + 512 * 512 + 512 * 32 + 16 * 512 + 512 * 512 + 512 * 784
    assert picked(dense()) == expected(num_products) == 10
    assert picked(dense(), batch_size=512) == expected(num_products, 512) == 2


def test_a_kernel_counts_wherever_it_is_applied():
    vae = ConvVAE((28, 28, 1), 16, filters=(32, 64), hidden_units=256)
    encoder = 14 * 14 * 9 * 32 + 7 * 7 * 9 * 32 * 64 + 3136 * 256 + 256 * 32
    decoder = 16 * 256 + 256 * 3136 + 7 * 7 * 9 * 64 * 32 + 14 * 14 * 9 * 32
    assert picked(vae) == expected(encoder + decoder) == 4
    with_samples = ConvVAE(
        (28, 28, 1), 16, filters=(32, 64), hidden_units=256, objective=IWAE(num_samples=3)
    )
    assert picked(with_samples) == expected(encoder + 3 * decoder) == 2


def test_neither_tiny_nor_huge_networks_go_beyond_the_limits():
    assert picked(dense(width=2)) == 32
    assert picked(dense(width=4096)) == 1


def test_a_dataset_says_how_large_its_batches_are():
    vae = dense()
    vae.compile()
    for drop_remainder, size in ((True, 512), (False, 128)):  # unknown: the usual
        batches = data.batches(
            np.zeros((1024, 28, 28, 1), np.float32), 512, drop_remainder=drop_remainder
        )
        assert picked_steps_per_execution(vae, batches, None, ()) == picked(dense(), size)


class Listener(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


class ListeningBoard(keras.callbacks.TensorBoard):
    def on_train_batch_begin(self, batch, logs=None):
        pass


class PatientListener(Listener):
    listens_to_steps = False


@pytest.mark.parametrize(
    ("callback", "is_one"),
    [
        (Listener, True),
        (lambda: keras.callbacks.ModelCheckpoint("x.weights.h5", save_freq=5), True),
        (lambda: keras.callbacks.TensorBoard(update_freq="batch"), True),
        (lambda: keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
        (lambda: keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (PatientListener, False),
        (lambda: keras.callbacks.ModelCheckpoint("x.keras"), False),
        (lambda: keras.callbacks.TensorBoard(), False),
        (ListeningBoard, True),
        (lambda: keras.callbacks.TensorBoard(profile_batch=(2, 5)), True),
        (lambda: keras.callbacks.EarlyStopping("loss"), False),
    ],
)
def test_a_callback_that_listens_to_batches_hears_of_each(callback, is_one):
    assert (picked(dense(), callbacks=[callback()]) == 1) == is_one


def test_eager_execution_takes_single_steps():
    vae = dense()
    vae.compile(run_eagerly=True)
    assert picked_steps_per_execution(vae, np.zeros((1, 28, 28, 1)), 128, ()) == 1


def test_what_is_picked_changes_no_result(make_vae, images, caplog):
    def train(**options):
        keras.utils.set_random_seed(0)
        vae = make_vae()
        vae.compile(**options)
        history = vae.fit(images, batch_size=5, epochs=2, validation_data=images, verbose=0)
        return vae, history.history

    with caplog.at_level(logging.INFO, "keras_vae"):
        vae, history = train()
    assert vae.steps_per_execution == 32
    assert "Training in float32, XLA off, 32 step(s) per execution." in caplog.text
    other, other_history = train(jit_compile=False, steps_per_execution=1)
    assert int(vae.step) == int(other.step) == 14
    for name, values in other_history.items():
        assert history[name] == pytest.approx(values, rel=1e-5)
    for got, expected in zip(vae.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_as_many_steps_are_taken_as_fit_is_told(make_vae, images):
    vae = make_vae()
    vae.compile()
    batches = tf.data.Dataset.from_tensor_slices(images).batch(4).repeat()
    vae.fit(batches, epochs=2, steps_per_epoch=6, verbose=0)
    assert int(vae.step) == 12


def test_as_many_steps_are_taken_as_evaluate_and_predict_are_told(make_vae, images):
    vae = make_vae()
    vae.compile()
    vae.fit(images, batch_size=4, verbose=0)
    assert vae.steps_per_execution > 8
    vae.evaluate(images, batch_size=4, verbose=0)
    picked_by_fit, function = vae.steps_per_execution, vae.test_function
    assert function is not None
    endless = tf.data.Dataset.from_tensor_slices(images).batch(4).repeat()
    assert len(vae.predict(endless, steps=3, verbose=0)) == 12
    logs = vae.evaluate(endless, steps=3, verbose=0)
    assert int(vae.metrics[0].count) == 12
    assert len(logs) == 4
    assert len(vae.predict(images, batch_size=4, verbose=0)) == 32
    vae.evaluate(images, batch_size=4, verbose=0)
    assert int(vae.metrics[0].count) == 32
    assert vae.steps_per_execution == picked_by_fit
    assert vae.test_function is function


def test_evaluate_is_traced_once_for_all_calls_of_as_many_steps(make_vae, images):
    vae = make_vae()
    vae.compile()
    vae.fit(images, batch_size=4, verbose=0)
    traced = []
    test_step = vae.test_step
    vae.test_step = lambda data: traced.append(1) or test_step(data)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(4, drop_remainder=True).repeat()
    for steps in (3, 5, 3, 5, 3):
        vae.evaluate(batches, steps=steps, verbose=0)
        assert int(vae.metrics[0].count) == 4 * steps
    once = len(traced)
    vae.evaluate(batches, steps=3, verbose=0)
    assert len(traced) == once <= 4


def test_arguments_are_taken_in_keras_own_order(make_noiseless_vae, images):
    vae = make_noiseless_vae()
    vae.compile()
    weights, heard = np.arange(32.0), []
    by_order = vae.evaluate(images, None, 16, 0, weights, 1)
    assert int(vae.metrics[0].count) == weights[:16].sum()
    assert by_order == vae.evaluate(images[:16], sample_weight=weights[:16], verbose=0)
    listener = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: heard.append(epoch))
    history = vae.fit(images, None, 8, 2, 0, [listener], 0.5).history
    assert heard == [0, 1]
    assert len(history["val_elbo"]) == 2
    with pytest.raises(TypeError, match="multiple values for argument 'batch_size'"):
        vae.fit(images, None, 8, batch_size=8)
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'"):
        vae.fit(images, batchsize=8)


def test_predict_is_traced_once_for_all_calls(make_vae, images):
    vae = make_vae()
    vae.compile()
    vae.fit(images, batch_size=4, verbose=0)
    vae.predict(images, batch_size=4, verbose=0)
    function = vae.predict_function
    vae.predict(images[:12], batch_size=4, verbose=0)
    assert vae.predict_function is function


def test_a_list_of_callbacks_of_keras_own_is_taken(make_vae, images):
    vae = make_vae()
    vae.compile(guard=Guard())
    heard = []
    listener = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: heard.append(batch)
    )
    callbacks = keras.callbacks.CallbackList([listener], model=vae, add_history=True)
    for _ in range(2):
        vae.fit(images, batch_size=8, callbacks=callbacks, verbose=0)
    assert heard == [0, 1, 2, 3] * 2
    assert [type(each).__name__ for each in callbacks.callbacks].count("CheckGuard") == 1


def test_fit_picks_anew_for_other_data_and_keeps_what_it_is_told(make_vae, images):
    vae = make_vae()
    vae.compile()
    vae.fit(images, verbose=0)
    vae.fit(images, verbose=0, callbacks=[Listener()])
    assert vae.steps_per_execution == 1
    vae.compile(steps_per_execution=3)
    vae.fit(images, verbose=0, callbacks=[Listener()])
    assert vae.steps_per_execution == 3
    assert len(vae.predict(images, batch_size=4, verbose=0)) == len(images)


def test_a_saved_model_picks_anew_too(make_vae, tmp_path):
    vae = make_vae()
    vae.compile()
    vae.save(tmp_path / "vae.keras")
    config = keras.models.load_model(tmp_path / "vae.keras").get_compile_config()
    assert (config["jit_compile"], config["steps_per_execution"]) == ("auto", "auto")


class Devices:
    """Stands in for a machine: its processor's flags, its GPUs' capabilities, its TPUs."""

    def __init__(self, monkeypatch, folder):
        self.flags, self.capabilities, self.num_tpus = "fpu sse avx512f", [], 0
        self.file = folder / "cpuinfo"
        monkeypatch.setattr(tuning, "_PROCESSOR_FILE", self.file)
        answers = {
            "list_logical_devices": lambda kind: range(self.num_tpus * (kind == "TPU")),
            "list_physical_devices": lambda kind: range(len(self.capabilities)),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(tf.config, name, answer)
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {"compute_capability": self.capabilities[gpu]},
        )

    def picked(self):
        if self.flags is not None:
            processor = f"model name\t: some\nflags\t\t: {self.flags}\n"
            self.file.write_text(f"processor\t: 0\n{processor}\nprocessor\t: 1\n{processor}")
        return picked_dtype("auto")


@pytest.fixture
def devices(monkeypatch, tmp_path):
    return Devices(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        ({}, "float32"),
        ({"flags": "fpu avx512_bf16 gfni"}, "mixed_bfloat16"),
        ({"flags": "fpu amx_bf16 amx_tile"}, "mixed_bfloat16"),
        ({"flags": None}, "float32"),  # not Linux
        ({"capabilities": [(8, 0)]}, "mixed_bfloat16"),
        ({"capabilities": [(9, 0), (7, 5)]}, "float32"),
        ({"capabilities": [(7, 5)], "flags": "avx512_bf16"}, "float32"),  # the GPU does the work
        ({"num_tpus": 1}, "mixed_bfloat16"),
    ],
)
def test_precision_is_picked_by_device(devices, change, dtype):
    vars(devices).update(change)
    assert devices.picked() == dtype


@pytest.mark.parametrize("dtype", [None, "float32", "mixed_float16"])
def test_a_precision_that_is_named_is_left_alone(devices, dtype):
    devices.num_tpus = 1
    assert picked_dtype(dtype) == dtype


@pytest.mark.parametrize("variant", [DenseVAE, ConvVAE, BetaVAE])
def test_a_variant_is_built_in_the_precision_picked_and_keeps_it(devices, variant):
    devices.flags = "avx512_bf16"
    devices.picked()
    vae = variant((8, 8, 1), 2, dtype="auto")
    policies = {layer.dtype_policy.name for layer in vae.encoder.layers if layer.weights}
    assert policies == {"mixed_bfloat16", "float32"}  # the latents' parameters are float32
    devices.flags = "sse"
    devices.picked()
    again = variant.from_config(vae.get_config())
    assert again.dtype_policy.name == vae.dtype_policy.name == "mixed_bfloat16"


def test_the_elbo_after_equal_epochs_does_not_depend_on_the_precision():
    splits = data.load("digits")
    train = data.batches(splits.train.images, 64, binarization="dynamic", shuffle=True)
    test = data.batches(splits.test.images, 64, binarization="fixed")
    elbos = {}
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        vae = DenseVAE((8, 8, 1), 8, hidden_units=(128, 128), dtype=dtype)
        vae.compile()
        vae.fit(train, epochs=20, verbose=0)
        elbos[dtype] = vae.evaluate(test, return_dict=True, verbose=0)["elbo"]
    assert elbos["float32"] > -30  # it has learned
    assert elbos["mixed_bfloat16"] == pytest.approx(elbos["float32"], abs=0.3)
