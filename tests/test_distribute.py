"""Training on two replicas, here two logical CPUs, against training on one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import ConvVAE, data
from keras_vae.objectives import ELBO
from keras_vae.schedules import Linear
from tests.strategies import mirrored


def one_replica():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def train(strategy, make, images, *, batch_size, epochs=1, optimizer=None, **changes):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        vae = make(**changes)
        vae.compile(optimizer or keras.optimizers.SGD(0.01))
    vae.fit(images, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return vae


def assert_equal_weights(first, second, **tolerance):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def steps_of(vae):
    return int(keras.ops.convert_to_numpy(vae.step))


@pytest.mark.parametrize(
    ("num_examples", "batch_size"),
    [(8, 8), (13, 4)],
    # The last batch of 13 is a single example: the second replica gets nothing.
    ids=["even", "uneven"],
)
def test_two_replicas_take_the_same_steps_as_one(
    make_noiseless_vae, images, num_examples, batch_size
):
    x = images[:num_examples]
    one = train(one_replica(), make_noiseless_vae, x, batch_size=batch_size)
    two = train(mirrored(), make_noiseless_vae, x, batch_size=batch_size)
    assert_equal_weights(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_a_convolutional_model_does_without_examples_too(make_noiseless_vae, steps_per_execution):
    small = {"event_shape": (8, 8, 1), "latent_dim": 2, "filters": (3, 4), "hidden_units": 8}
    x = np.float32(
        np.random.default_rng(0).random((5, 8, 8, 1)) < 0.4
    )  # a batch of 4, and one of 1

    def train_noiseless(strategy):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            vae = make_noiseless_vae(ConvVAE, **small)
            vae.compile(keras.optimizers.SGD(0.01), steps_per_execution=steps_per_execution)
        history = vae.fit(x, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        scores = vae.evaluate(x, batch_size=4, verbose=0, return_dict=True)
        return vae, history, scores, vae.predict(x, batch_size=4, verbose=0)

    (one, *expected), (two, *got) = train_noiseless(one_replica()), train_noiseless(mirrored())
    assert_equal_weights(one, two, rtol=0, atol=1e-6)
    for name, values in expected[0].items():
        assert got[0][name] == pytest.approx(values, rel=1e-5)
    assert got[1] == pytest.approx(expected[1], rel=1e-5)
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-5)


def test_weights_and_penalties_count_the_same_in_an_uneven_batch(make_noiseless_vae, images):
    def train_penalised(strategy):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            vae = make_noiseless_vae()
            vae.decoder.layers[1].kernel.regularizer = keras.regularizers.L2(0.5)
            vae.compile(keras.optimizers.SGD(0.01))
        weight = np.linspace(0.0, 2.0, 5)
        vae.fit(images[:5], sample_weight=weight, batch_size=5, shuffle=False, verbose=0)
        return vae

    one, two = train_penalised(one_replica()), train_penalised(mirrored())
    assert_equal_weights(one, two, rtol=0, atol=1e-6)


def test_metrics_are_global_means(make_noiseless_vae, images):
    # 13 examples on two replicas: batches of 2+2, 2+2, 2+2 and 1+0.
    logs = []
    for strategy in (one_replica(), mirrored()):
        vae = train(strategy, make_noiseless_vae, images[:13], batch_size=13)
        logs.append(vae.evaluate(images[:13], batch_size=4, verbose=0))
        history = vae.fit(images[:13], batch_size=4, shuffle=False, verbose=0).history
        logs[-1] += [history[name][0] for name in ("loss", "elbo", "reconstruction", "kl")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_every_replica_has_noise_of_its_own(make_vae, images):
    strategy = mirrored()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        vae = make_vae()
        vae.compile()
    same = strategy.experimental_distribute_values_from_function(lambda _: images[:4])
    # Inside of a replica, a running mean is that of the replica.
    logs = strategy.run(tf.function(vae.test_step), args=((same,),))
    first, second = logs["reconstruction"].values
    assert float(first) != float(second)
    first, second = logs["kl"].values
    assert float(first) == pytest.approx(float(second), rel=1e-6)


def test_same_seed_gives_same_weights_and_fresh_noise_counts(make_vae, images):
    runs = [train(mirrored(), make_vae, images[:8], batch_size=4, epochs=2) for _ in range(2)]
    assert_equal_weights(*runs, rtol=0, atol=0)


def test_schedules_count_global_steps(make_noiseless_vae, images):
    vae = train(
        mirrored(),
        make_noiseless_vae,
        images,
        batch_size=8,
        epochs=2,
        objective=ELBO(Linear(0.0, 1.0, num_steps=16)),
    )
    assert steps_of(vae) == int(keras.ops.convert_to_numpy(vae.optimizer.iterations)) == 8
    logs = vae.evaluate(images, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + 0.5 * logs["kl"], rel=1e-5)


def test_everything_else_works_under_a_strategy(make_vae, images, tmp_path):
    strategy = mirrored()
    with strategy.scope():
        vae = make_vae()
        vae.compile("adam")
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = vae.fit(dataset, validation_data=(images[:5], None), verbose=0).history
    assert np.all(np.isfinite(list(history.values())))
    assert np.all(np.isfinite(vae.evaluate(images[:5], verbose=0)))
    expected = vae(images[:5])
    np.testing.assert_allclose(vae.predict(images[:5], verbose=0), expected, rtol=1e-5)
    assert vae.log_likelihood(images[:5], 3).shape == (5,)
    assert vae.sample(3).shape == (3, 8, 8, 1)
    vae.save(tmp_path / "vae.keras")
    copy = keras.saving.load_model(tmp_path / "vae.keras")
    assert steps_of(copy) == steps_of(vae) == 4
    np.testing.assert_allclose(copy(images[:5]), expected, rtol=1e-5)
    with strategy.scope():
        copy = keras.saving.load_model(tmp_path / "vae.keras")
    copy.fit(images, batch_size=8, verbose=0)
    assert steps_of(copy) == 8


def test_steps_per_execution_changes_nothing(make_noiseless_vae, images):
    # 30 examples: eight batches, the last of two examples, and an execution that is not full.
    def history(steps):
        keras.utils.set_random_seed(0)
        with mirrored().scope():
            vae = make_noiseless_vae()
            vae.compile(keras.optimizers.SGD(0.01), steps_per_execution=steps)
        options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
        return vae.fit(images[:30], validation_data=images[:7], **options).history, vae

    (one_by_one, first), (together, second) = history(1), history(3)
    assert steps_of(second) == 16
    assert_equal_weights(first, second, rtol=0, atol=0)
    for name, values in one_by_one.items():
        assert together[name] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_takes_nearly_the_same_steps(make_noiseless_vae, images, dtype):
    whole = train(mirrored(), make_noiseless_vae, images, batch_size=8)
    mixed = train(mirrored(), make_noiseless_vae, images, batch_size=8, dtype=dtype)
    assert steps_of(mixed) == steps_of(whole) == 4
    # bfloat16 keeps 8 bits: a hundredth of the largest weights.
    assert_equal_weights(whole, mixed, rtol=0, atol=1e-2)


def test_a_single_batch_can_be_trained_on_under_a_strategy(make_noiseless_vae, images):
    with mirrored().scope():
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.01))
    expected = vae.evaluate(images[:8], batch_size=8, verbose=0, return_dict=True)
    assert vae.train_on_batch(images[:8], return_dict=True) == pytest.approx(expected, rel=1e-5)


def test_replicas_see_the_same_epochs_as_one(make_noiseless_vae, images):
    weights = []
    for strategy in (one_replica(), mirrored()):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            vae = make_noiseless_vae()
            vae.compile(keras.optimizers.SGD(0.01))
        batches = data.batches(images, 8, binarization="dynamic", shuffle=True, seed=3)
        vae.fit(batches, epochs=3, verbose=0)
        weights.append(vae)
    assert_equal_weights(*weights, rtol=0, atol=1e-5)
