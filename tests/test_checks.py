import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.checks import check_data

UNIT = (0.0, 1.0)
REALS = (-np.inf, np.inf)


def check(data, event_shape=(8, 8, 1), support=UNIT):
    return check_data(data, event_shape, support)


def dataset_of(array):
    return tf.data.Dataset.from_tensor_slices(array).batch(4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64", "bool"])
def test_good_arrays_come_back_as_they_are(dtype):
    array = np.ones((3, 8, 8, 1), dtype)
    assert check(array) is array


def test_good_tensors_come_back_as_they_are():
    tensor = tf.ones((3, 8, 8, 1))
    assert check(tensor) is tensor


def test_lists_become_arrays():
    np.testing.assert_array_equal(check([[0.0, 1.0]], (2,)), [[0.0, 1.0]])


def test_what_cannot_be_looked_at_is_left_to_the_network():
    generator = iter([])
    assert check(generator) is generator
    assert check(None) is None


def test_symbolic_tensors_have_their_shape_checked():
    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1))])
    def traced(x):
        return check(x)

    assert traced(tf.zeros((2, 8, 8, 1))).shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match=r"Data should have shape \(batch, 5\)"):
        tf.function(lambda x: check(x, (5,)))(tf.zeros((2, 4)))


@pytest.mark.parametrize("make", [np.zeros, tf.zeros], ids=["array", "tensor"])
class TestWrongShapes:
    def test_say_what_was_expected_and_received(self, make):
        with pytest.raises(
            ValueError,
            match=r"should have shape \(batch, 8, 8, 1\). Received: shape=\(3, 8, 9, 1\).$",
        ):
            check(make((3, 8, 9, 1)))
        with pytest.raises(ValueError, match=r"\(batch, 8, 8, 1\). Received: shape=\(3, 64\).$"):
            check(make((3, 64)))
        with pytest.raises(ValueError, match=r"\(batch, 5\). Received: shape=\(3,\)."):
            check(make((3,)), (5,))

    def test_a_missing_channel_axis_is_named(self, make):
        with pytest.raises(ValueError, match=r"\(3, 8, 8\). .* `images\[..., np.newaxis\]`"):
            check(make((3, 8, 8)))

    def test_a_missing_batch_axis_is_named(self, make):
        with pytest.raises(ValueError, match=r"\(8, 8, 1\). Batch it; .* `images\[np.newaxis\]`"):
            check(make((8, 8, 1)))

    def test_no_examples_are_refused(self, make):
        with pytest.raises(ValueError, match=r"at least one example. Received: shape=\(0, 8, 8, 1"):
            check(make((0, 8, 8, 1)))


class TestWrongValues:
    @pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
    def test_pixels_of_0_to_255_say_how_to_scale(self, dtype):
        pixels = np.arange(256, dtype=dtype).reshape(4, 8, 8, 1)
        with pytest.raises(
            ValueError,
            match=r"lie in \[0, 1\] .* Received: values from 0 to 255. Scale it: .* / 255`",
        ):
            check(pixels)

    @pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 256.0), (-0.5, 200.0)])
    def test_other_values_outside_of_the_support_are_shown(self, low, high):
        array = np.linspace(low, high, 64, dtype="float32").reshape(1, 8, 8, 1)
        with pytest.raises(ValueError, match=f"Received: values from {low:g} to {high:g}.$"):
            check(array)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("support", [UNIT, REALS])
    def test_values_that_are_not_finite_are_counted(self, bad, support):
        array = np.zeros((3, 8, 8, 1), "float32")
        array[1, 2, 3:6] = bad
        with pytest.raises(ValueError, match="should be finite. Received: 3 values that are NaN"):
            check(array, support=support)

    def test_any_finite_value_is_good_for_a_likelihood_of_reals(self):
        array = np.full((1, 8, 8, 1), -1e30)
        assert check(array, support=REALS) is array

    def test_tensors_are_looked_at_too(self):
        with pytest.raises(ValueError, match="values from 0 to 2."):
            check(tf.constant([[0.0, 2.0]]), (2,))


class TestDatasets:
    @pytest.mark.parametrize("num_parts", [1, 2, 3])
    def test_good_elements_pass_through_unchanged(self, num_parts):
        images = np.random.default_rng(0).uniform(size=(10, 8, 8, 1)).astype("float32")
        parts = (images, np.arange(10), np.ones(10))[:num_parts]
        dataset = dataset_of(parts if num_parts > 1 else images)
        checked = check(dataset)
        assert checked.cardinality() == 3
        for got, expected in zip(checked, dataset, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, got, expected)

    def test_structures_other_than_tensors_are_left_to_the_network(self):
        dataset = dataset_of({"x": np.zeros((4, 3))})
        assert check(dataset) is dataset

    def test_wrong_shapes_are_found_before_anything_runs(self):
        with pytest.raises(ValueError, match=r"\(batch, 8, 8, 1\). Received: shape=\(batch, 64\)."):
            check(dataset_of(np.zeros((4, 64))))
        with pytest.raises(ValueError, match=r"\(batch, 8, 8, 1\). Received: shape=\(batch, 5\)."):
            check(dataset_of((np.zeros((4, 5)), np.zeros(4))))

    def test_a_missing_batch_axis_is_named(self):
        with pytest.raises(ValueError, match=r"Received: shape=\(8, 8, 1\). Batch it"):
            check(dataset_of(np.zeros((4, 8, 8, 1))).unbatch())

    def test_a_missing_channel_axis_is_named(self):
        with pytest.raises(ValueError, match=r"shape=\(batch, 8, 8\). .* `images\[..., np.newaxis"):
            check(dataset_of(np.zeros((4, 8, 8))))

    def test_an_empty_one_is_refused(self):
        with pytest.raises(ValueError, match="should hold at least one batch. Received: an empty"):
            check(dataset_of(np.zeros((0, 8, 8, 1))))

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_pixels_of_0_to_255_say_how_to_scale(self, dtype):
        pixels = np.arange(256, dtype=dtype).reshape(4, 8, 8, 1)
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"lie in \[0, 1\] .* Received: values from 0 to 255. Scale it: .* / 255`",
        ):
            list(check(dataset_of(pixels)))

    def test_other_values_outside_of_the_support_are_shown(self):
        array = np.linspace(-1.5, 1.0, 64, dtype="float32").reshape(1, 8, 8, 1)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"Received: values from -1.5 to 1.\]"
        ):
            list(check(dataset_of(array)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("support", [UNIT, REALS])
    def test_values_that_are_not_finite_are_refused(self, bad, support):
        array = np.zeros((10, 8, 8, 1), "float32")
        array[9, 2, 3] = bad
        batches = iter(check(dataset_of(array), support=support))
        next(batches)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Data should be finite."):
            list(batches)


def test_batches_of_images_were_checked_when_they_were_made():
    batches = data.batches(np.zeros((8, 8, 8, 1), np.uint8), 4, binarization="dynamic")
    assert check(batches) is batches
    assert check(batches, support=REALS) is batches


def test_batches_are_checked_against_a_narrower_support_and_after_a_change():
    batches = data.batches(np.full((8, 8, 8, 1), 255, np.uint8), 4)
    for changed, support in ((batches, (0.0, 0.5)), (batches.map(lambda x: 2 * x), UNIT)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="should lie in"):
            list(check(changed, support=support))
