"""Several steps in one call: `executions.in_one_loop`, and `fit` and `evaluate` with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.data.rows import batch_rows
from keras_vae.data.seeds import EPOCH, seed_of_epoch
from keras_vae.executions import in_one_loop
from tests.strategies import mirrored, mirrored_alone


class Counter:
    """A step that adds up what it is given, and says how far it has come."""

    def __init__(self):
        self.total = tf.Variable(0.0)

    def step(self, batch):
        self.total.assign_add(tf.reduce_sum(batch))
        return {"total": self.total.read_value(), "sides": {"size": tf.size(batch)}}


def loop(counter, num_steps, jit_compile=False):
    def keras_function(batches):
        return {"keras": next(batches)}

    return in_one_loop(keras_function, counter.step, num_steps=num_steps, jit_compile=jit_compile)


def numbers(count):
    return tf.data.Dataset.range(1, count + 1).map(lambda n: tf.cast(n, tf.float32)).batch(2)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_as_many_steps_are_taken_at_a_time_as_there_are_batches(jit_compile):
    counter = Counter()
    take, iterator = loop(counter, 3, jit_compile), iter(numbers(9).take(5))
    logs = take(iterator)
    assert float(counter.total) == float(logs["total"]) == 1 + 2 + 3 + 4 + 5 + 6
    assert int(logs["sides"]["size"]) == 2
    logs = take(iterator)  # two batches are left, the second of a single number
    assert float(counter.total) == float(logs["total"]) == 45
    assert int(logs["sides"]["size"]) == 1
    with pytest.raises(StopIteration):
        take(iterator)
    assert float(counter.total) == 45


def test_no_batch_is_taken_from_the_next_execution():
    taken, iterator = loop(Counter(), 2), iter(numbers(6))
    taken(iterator)
    np.testing.assert_array_equal(next(iterator), [5, 6])


def test_what_is_no_iterator_of_tf_data_is_left_to_keras():
    assert loop(Counter(), 2)(iter([7])) == {"keras": 7}


def noisy_rows():
    def finish(rows, seed):
        return rows + tf.random.stateless_uniform(tf.shape(rows), seed)

    seed = seed_of_epoch(3, EPOCH)
    return batch_rows(np.arange(70.0, dtype=np.float32), 16, finish, seed=seed, shuffle=True)


def test_batches_are_made_in_the_loop_as_in_tf_data():
    seen = []

    def step(batch):
        tf.numpy_function(lambda batch: seen.append(batch.copy()), [batch], [])
        return {"size": tf.size(batch)}

    batches = noisy_rows()
    take = in_one_loop(None, step, num_steps=3, jit_compile=False, make_batch=batches.make)
    iterator = iter(batches.parts)
    assert int(take(iterator)["size"]) == 16
    assert len(seen) == 3
    assert int(take(iterator)["size"]) == 70 - 4 * 16
    with pytest.raises(StopIteration):
        take(iterator)
    assert len(seen) == 5
    for batch, expected in zip(seen, noisy_rows().made(), strict=True):
        np.testing.assert_array_equal(batch, expected)


def recorder(vae):
    """Returns a model of the same kind, and the batches that its steps will have seen."""
    seen = []

    class Recorder(type(vae)):
        def train_step(self, data):
            tf.numpy_function(lambda batch: seen.append(batch.copy()), [data], [])
            return {"loss": tf.constant(0.0)}

    return Recorder((8, 8, 1), 2, hidden_units=(8,)), seen


def gray_batches(batch_size, binarization="dynamic"):
    images = np.random.default_rng(0).integers(0, 256, (35, 8, 8, 1)).astype(np.uint8)
    return data.batches(images, batch_size, binarization=binarization, shuffle=True)


@pytest.mark.parametrize(
    "options",
    [{}, {"steps_per_execution": 3}, {"steps_per_execution": 1}, {"run_eagerly": True}],
    ids=["auto", "3", "1", "eager"],
)
def test_fit_sees_the_batches_of_the_data(make_vae, options):
    vae, seen = recorder(make_vae())
    vae.compile(**options)
    vae.fit(gray_batches(8), epochs=2, verbose=0)
    again = gray_batches(8)
    expected = [*again, *again]
    assert len(seen) == len(expected) == 10
    for batch, other in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(batch, other)


def test_one_fit_after_the_other_sees_its_own_batches(make_vae):
    vae, seen = recorder(make_vae())
    vae.compile(steps_per_execution=2)
    kinds = [(8, "dynamic"), (8, "none"), (5, "none"), (5, "none"), (8, "dynamic")]
    for arguments in kinds:
        seen.clear()
        vae.fit(gray_batches(*arguments), verbose=0)
        for batch, other in zip(seen, gray_batches(*arguments), strict=True):
            np.testing.assert_allclose(batch, other, atol=1e-6)
        seen.clear()
        vae.fit(gray_batches(*arguments).map(lambda batch: 1 - batch), verbose=0)
        for batch, other in zip(seen, gray_batches(*arguments), strict=True):
            np.testing.assert_allclose(batch, 1 - other.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "strategy", [lambda: tf.distribute.OneDeviceStrategy("CPU:0"), mirrored_alone]
)
def test_strategies_of_one_device_take_made_batches(make_noiseless_vae, strategy):
    def trained():
        keras.utils.set_random_seed(0)
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.02), steps_per_execution=2)
        vae.fit(gray_batches(8), verbose=0)
        assert int(vae.step.numpy()) == 5
        return vae.get_weights()

    expected = trained()
    with strategy().scope():
        got = trained()
    for weight, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)


def test_a_train_step_of_ones_own_is_taken(make_vae, images):
    # The engine's own is a method, so that it can be replaced as in any Keras model.
    class Idle(type(make_vae())):
        def train_step(self, data):
            self.step.assign_add(100)
            return {"steps": self.step.value}

    vae = Idle((8, 8, 1), 2, hidden_units=(8,))
    vae.compile(steps_per_execution=2)
    assert vae.fit(images, batch_size=10, verbose=0).history == {"steps": [400]}


def test_a_train_step_of_ones_own_is_refused_where_replicas_take_another(make_vae, images):
    class Idle(type(make_vae())):
        def train_step(self, data):
            return {}

    class Other(Idle):
        def _backward(self, data):
            return super()._backward(data)

    for kind in (Idle, Other):
        with mirrored().scope():
            vae = kind((8, 8, 1), 2, hidden_units=(8,))
            vae.compile()
        if kind is Idle:
            with pytest.raises(ValueError, match="Idle should define these and not `train_step`"):
                vae.fit(images, verbose=0)
        else:
            assert "elbo" in vae.fit(images, verbose=0).history


class Halves(keras.utils.PyDataset):
    """Data that come from Python, two batches of 16."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.images[16 * index : 16 * (index + 1)]


def test_data_from_python_train_alike(make_noiseless_vae, images):
    def train(data, **options):
        keras.utils.set_random_seed(0)
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.02), **options)
        vae.fit(data, epochs=2, batch_size=16, shuffle=False, verbose=0)
        return vae

    expected = train(images, steps_per_execution=1)
    got = train(Halves(images), steps_per_execution=2)
    assert int(got.step) == 4
    for weight, other in zip(got.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rest", [(None,), (None, None), (None, np.full(16, 2.0, np.float32))])
def test_what_a_generator_leaves_out_is_left_out(make_noiseless_vae, images, rest):
    weights = []
    for steps in (1, 2):
        keras.utils.set_random_seed(0)
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.02), steps_per_execution=steps)
        batches = ((half, *rest) for half in (images[:16], images[16:]))
        vae.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)
        assert int(vae.step) == 2
        weights.append(vae.get_weights())
    for weight, other in zip(*weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)
