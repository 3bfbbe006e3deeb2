"""How `fit` gets its data: `feeding.feed`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.data.rows import Parts
from keras_vae.feeding import feed, take_apart


def fed(x, y=None, validation_data=None, batch_size=None, **options):
    x, validation_data = feed(x, y, validation_data, batch_size, options)
    return x, validation_data, options


def order_of(dataset):
    return np.concatenate([batch.numpy() for batch in dataset]).ravel()


def test_arrays_become_shuffled_batches():
    rows = np.arange(100).reshape(100, 1)
    dataset, _, options = fed(rows, batch_size=30)
    assert [len(batch) for batch in dataset] == [30, 30, 30, 10]
    assert dataset.element_spec == tf.TensorSpec((None, 1), tf.float32)
    assert dataset.options().autotune.enabled is False
    assert options == {"steps_per_epoch": 4}
    first, second = order_of(dataset), order_of(dataset)
    assert sorted(first) == sorted(second) == list(range(100))
    assert len({tuple(order) for order in (first, second, range(100))}) == 3


def test_the_order_follows_the_global_seed():
    def order(seed):
        keras.utils.set_random_seed(seed)
        return order_of(fed(np.arange(50.0)[:, None])[0])

    np.testing.assert_array_equal(order(0), order(0))
    assert not np.array_equal(order(0), order(1))


def test_arrays_stay_in_order_if_asked_to():
    dataset, _, options = fed(np.arange(70.0)[:, None], shuffle=False)
    assert [len(batch) for batch in dataset] == [32, 32, 6]
    np.testing.assert_array_equal(order_of(dataset), np.arange(70))
    assert "shuffle" not in options


def test_validation_arrays_become_batches_in_order():
    rows = np.arange(50.0)[:, None]
    for options, size in (({}, 20), ({"validation_batch_size": 25}, 25)):
        _, dataset, options = fed(rows, validation_data=(rows,), batch_size=20, **options)
        assert len(next(iter(dataset))) == size
        np.testing.assert_array_equal(order_of(dataset), np.arange(50))


def test_steps_without_a_batch_size_share_out_the_examples_as_in_keras():
    rows = np.arange(50.0)[:, None]
    options = {"steps_per_epoch": 4, "validation_steps": 3}
    x, validation_data, left = fed(rows, validation_data=(rows,), shuffle=False, **options)
    assert [len(batch) for batch in x] == [13, 13, 13, 11]
    assert [len(batch) for batch in validation_data] == [17, 17, 16]
    assert left == options


@pytest.mark.parametrize(
    "options",
    [
        {"y": np.zeros(8)},
        {"sample_weight": np.ones(8)},
        {"class_weight": {0: 1.0}},
        {"validation_split": 0.5},
        {"shuffle": "batch"},
    ],
)
def test_what_else_keras_does_with_arrays_is_left_to_it(options):
    rows = np.zeros((8, 1))
    x, _, left = fed(rows, **options)
    assert x is rows
    assert "steps_per_epoch" not in left or left["steps_per_epoch"] is None
    assert {name: left[name] for name in options if name != "y"} == {
        name: value for name, value in options.items() if name != "y"
    }


def test_lengths_that_are_not_known_or_given_are_left():
    dataset = tf.data.Dataset.range(10)
    assert fed(dataset)[2]["steps_per_epoch"] == 10
    assert fed(dataset, steps_per_epoch=3)[2]["steps_per_epoch"] == 3
    assert fed(dataset.repeat())[2]["steps_per_epoch"] is None
    assert fed(dataset.filter(lambda n: n > 3))[2]["steps_per_epoch"] is None


def test_an_epoch_makes_one_iterator(make_vae, images, monkeypatch):
    num_iterators = 0
    make = tf.data.Dataset.__iter__

    def counted(dataset):
        nonlocal num_iterators
        num_iterators += 1
        return make(dataset)

    # `iter` looks at the class that defines it.
    owner = next(
        kind for kind in type(tf.data.Dataset.range(1)).__mro__ if "__iter__" in vars(kind)
    )
    monkeypatch.setattr(owner, "__iter__", counted)
    vae = make_vae()
    vae.compile()
    batches = data.batches(images, 8, shuffle=True)
    vae.fit(batches, epochs=5, verbose=0)
    assert int(vae.step) == 20
    assert num_iterators == 6  # and one behind the last


def test_fit_sees_every_example_of_every_epoch(make_vae, images):
    class Recorder(type(make_vae())):
        seen = []

        def train_step(self, data):
            tf.numpy_function(lambda x: self.seen.extend(x), [data], [])
            return {"loss": 0.0}

    vae = Recorder((8, 8, 1), 2, hidden_units=(8,))
    vae.compile()
    marked = np.float32(np.arange(32) / 32).reshape(-1, 1, 1, 1) * np.ones((8, 8, 1), np.float32)
    vae.fit(marked, batch_size=5, epochs=2, verbose=0)
    seen = np.array([image[0, 0, 0] for image in vae.seen])
    for epoch in (seen[:32], seen[32:]):
        np.testing.assert_array_equal(np.sort(epoch), marked[:, 0, 0, 0])
        assert not np.array_equal(epoch, marked[:, 0, 0, 0])


def test_what_is_made_of_rows_can_be_taken_apart():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1)).astype(np.uint8)

    def binary():
        return data.batches(images, 4, binarization="dynamic", shuffle=True)

    def arrays():
        keras.utils.set_random_seed(0)
        return fed(images.astype(np.float32), batch_size=4)[0]

    for kind in (binary, arrays):
        batches, (parts, make_batch) = kind(), take_apart(kind(), {})
        assert isinstance(parts.element_spec, Parts)
        assert parts.cardinality() == batches.cardinality() == 3
        assert parts.options().autotune.enabled is False
        for part, batch in zip(parts, batches, strict=True):
            np.testing.assert_array_equal(make_batch(part), batch)


def test_what_makes_the_same_batches_is_equal():
    images = np.zeros((10, 4, 4, 1), np.uint8)
    options = [{}, {"seed": 3}, {"binarization": "dynamic"}, {"drop_remainder": True}]
    makers = [take_apart(data.batches(images, 4, **option), {})[1] for option in options]
    assert makers[0] == makers[1]
    assert len(set(makers)) == 3


def test_other_data_are_left_as_they_are():
    images = np.zeros((10, 4, 4, 1), np.uint8)
    stream = data.batches(tf.data.Dataset.from_tensor_slices(images), 4)
    mapped = data.batches(images, 4).map(tf.identity)
    for x in (stream, mapped, images):
        assert take_apart(x, {}) == (x, None)
    batches = data.batches(images, 4)  # Keras maps weights of classes over them
    assert take_apart(batches, {"class_weight": {0: 1.0}}) == (batches, None)
