"""`keras_vae.data.batches` and `binarize`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae.data
from tests.images import (
    gray_images,
    in_new_process,
    numbered_images,
    one_epoch,
    order_of,
    stream_of,
)

BINARIZATIONS = ("none", "fixed", "dynamic")


# Binarization


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("num_examples", [3, 2500])
def test_binarize_is_the_recipe_of_the_literature(num_examples, dtype):
    images = gray_images(num_examples, dtype)
    intensities = images / np.float32(255) if dtype == np.uint8 else images
    np.random.seed(777)
    expected = np.random.binomial(1, intensities)
    binary = keras_vae.data.binarize(images, seed=777)
    assert binary.dtype == np.float32
    np.testing.assert_array_equal(binary, expected)


def test_one_call_binarizes_validation_and_test_as_the_literature_does():
    validation, test = gray_images(30), gray_images(40)[::-1]
    np.random.seed(777)
    expected = [np.random.binomial(1, part / np.float32(255)) for part in (validation, test)]
    both = keras_vae.data.binarize(np.concatenate([validation, test]), seed=777)
    np.testing.assert_array_equal(both, np.concatenate(expected))


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("binarization", ["fixed", "dynamic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_expected_binary_pixel_is_its_intensity(make, binarization, dtype):
    # Pixel p occurs 6,000 times, in distinct images, or equal ones would get equal noise.
    levels = np.array([0, 1, 13, 128, 242, 254, 255], np.uint8)
    images = np.tile(levels.reshape(1, 1, -1, 1), (6000, 1, 1, 1))
    marks = (np.arange(6000)[:, None] // [1, 256] % 256).astype(np.uint8)
    images = np.concatenate([images, marks.reshape(6000, 1, 2, 1)], axis=2)
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    dataset = keras_vae.data.batches(make(images), 1000, binarization=binarization, seed=3)
    binary = one_epoch(dataset)[:, 0, : len(levels), 0]
    assert set(np.unique(binary)) == {0.0, 1.0}
    intensity = levels / 255
    five_sigma = 5 * np.sqrt(intensity * (1 - intensity) / len(images))
    # At 0 and 1 the deviation is zero: black is never on, white never off.
    assert np.all(np.abs(binary.mean(axis=0) - intensity) <= five_sigma)


@pytest.mark.parametrize("make", [np.asarray, stream_of])
def test_dynamic_noise_is_independent_between_pixels_images_batches_and_epochs(make):
    images = np.full((400, 8, 8, 1), 0.5, np.float32)
    dataset = keras_vae.data.batches(make(images), 100, binarization="dynamic", shuffle=True)
    signs = np.concatenate([one_epoch(dataset), one_epoch(dataset)]).reshape(800, 64) * 2 - 1
    assert len(np.unique(signs, axis=0)) == 800
    between_images = (signs @ signs.T / 64)[np.triu_indices(800, 1)]
    between_pixels = (signs.T @ signs / 800)[np.triu_indices(64, 1)]
    # A correlation of n fair coins has variance 1/n; the largest of so many stays below 7 sigma.
    assert np.abs(between_images).max() < 7 / np.sqrt(64)
    assert np.abs(between_pixels).max() < 7 / np.sqrt(800)


def test_fixed_batches_of_an_array_are_binarize():
    images = gray_images()
    dataset = keras_vae.data.batches(images, 8, binarization="fixed", seed=777)
    np.testing.assert_array_equal(one_epoch(dataset), keras_vae.data.binarize(images, seed=777))


@pytest.mark.parametrize("make", [np.asarray, stream_of])
def test_fixed_binarization_depends_on_neither_epoch_order_nor_batch_size(make):
    images = gray_images()
    calm = keras_vae.data.batches(make(images), 50, binarization="fixed", seed=1)
    mixed = keras_vae.data.batches(make(images), 7, binarization="fixed", seed=1, shuffle=True)
    expected = np.sort(one_epoch(calm).reshape(50, -1), axis=0)
    for _ in range(2):
        np.testing.assert_array_equal(np.sort(one_epoch(mixed).reshape(50, -1), axis=0), expected)
    np.testing.assert_array_equal(one_epoch(calm), one_epoch(calm))
    other = keras_vae.data.batches(make(images), 50, binarization="fixed", seed=2)
    assert not np.array_equal(one_epoch(calm), one_epoch(other))


# Batches


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_hold_the_images_in_order_scaled_to_the_unit_interval(make, dtype):
    images = gray_images(dtype=dtype)
    dataset = keras_vae.data.batches(make(images), 8)
    assert dataset.element_spec == tf.TensorSpec((None, 6, 5, 1), tf.float32)
    expected = gray_images() / np.float32(255)
    np.testing.assert_allclose(one_epoch(dataset), expected, rtol=0, atol=1e-7)
    assert one_epoch(dataset).max() == 1.0


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("shuffle", [False, True])
def test_number_and_sizes_of_batches_are_known(make, shuffle):
    images = gray_images(50)
    dataset = keras_vae.data.batches(make(images), 8, shuffle=shuffle)
    assert dataset.cardinality() == 7
    assert [len(batch) for batch in dataset] == [8] * 6 + [2]
    dataset = keras_vae.data.batches(make(images), 8, shuffle=shuffle, drop_remainder=True)
    assert dataset.cardinality() == 6
    assert dataset.element_spec.shape == (8, 6, 5, 1)
    assert [len(batch) for batch in dataset] == [8] * 6


@pytest.mark.parametrize("make", [np.asarray, stream_of])
def test_every_epoch_is_another_permutation_of_all_images(make):
    dataset = keras_vae.data.batches(make(numbered_images(200)), 32, shuffle=True)
    epochs = [order_of(dataset) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(200))
    assert len({tuple(epoch) for epoch in [*epochs, range(200)]}) == 4


def test_every_image_comes_first_equally_often():
    dataset = keras_vae.data.batches(numbered_images(5), 5, shuffle=True).repeat(200)
    first = np.bincount(order_of(dataset)[::5], minlength=5)
    assert np.all(np.abs(first - 40) < 5 * np.sqrt(200 * 0.2 * 0.8))


@pytest.mark.parametrize("make", [np.asarray, stream_of])
def test_no_epoch_waits_for_the_autotuning_of_its_pipeline(make):
    options = keras_vae.data.batches(make(gray_images(10)), 4, binarization="dynamic").options()
    assert options.autotune.enabled is False


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("binarization", BINARIZATIONS)
def test_equal_arguments_give_equal_epochs(make, binarization):
    def three_epochs(seed):
        dataset = keras_vae.data.batches(
            make(gray_images()), 8, binarization=binarization, shuffle=True, seed=seed
        )
        return [one_epoch(dataset) for _ in range(3)]

    first, again, other = three_epochs(4), three_epochs(4), three_epochs(5)
    np.testing.assert_array_equal(first, again)
    for epoch in (first[1], first[2], other[0]):
        assert not np.array_equal(first[0], epoch)


def test_epochs_of_an_array_do_not_depend_on_the_global_seed():
    def epoch(global_seed):
        tf.random.set_seed(global_seed)
        options = {"binarization": "dynamic", "shuffle": True, "seed": 0}
        return one_epoch(keras_vae.data.batches(gray_images(), 8, **options))

    np.testing.assert_array_equal(epoch(1), epoch(2))


def test_a_later_change_of_the_array_does_not_change_the_batches():
    images = gray_images()
    dataset = keras_vae.data.batches(images, 8)
    before = one_epoch(dataset)
    images[:] = 0
    np.testing.assert_array_equal(one_epoch(dataset), before)


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("binarization", BINARIZATIONS)
def test_an_epoch_can_be_asked_for_by_its_number(make, binarization):
    options = {"binarization": binarization, "shuffle": True, "seed": 3}

    def epochs(*numbers):
        epoch = tf.Variable(-1, dtype=tf.int64)
        dataset = keras_vae.data.batches(make(gray_images()), 8, epoch=epoch, **options)
        assert dataset.cardinality() == 7
        for number in numbers:
            epoch.assign(number)
            yield one_epoch(dataset)

    first, second, third = epochs(0, 1, 2)
    again_third, again_first, same = epochs(2, 0, 0)
    np.testing.assert_array_equal(first, again_first)
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(third, again_third)
    for one, other in ((first, second), (second, third), (first, third)):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("make", [np.asarray, stream_of])
def test_every_numbered_epoch_is_a_permutation_of_all_images(make):
    epoch = tf.Variable(0, dtype=tf.int64)
    options = {"shuffle": True, "epoch": epoch}
    dataset = keras_vae.data.batches(make(numbered_images(200)), 32, **options)
    for number in range(3):
        epoch.assign(number)
        assert sorted(order_of(dataset)) == list(range(200))


def test_noise_of_numbered_epochs_is_independent_between_batches_and_epochs():
    epoch = tf.Variable(0, dtype=tf.int64)
    images = np.full((400, 8, 8, 1), 0.5, np.float32)
    dataset = keras_vae.data.batches(images, 100, binarization="dynamic", epoch=epoch)
    first = one_epoch(dataset)
    epoch.assign(1)
    signs = np.concatenate([first, one_epoch(dataset)]).reshape(800, 64) * 2 - 1
    between = (signs @ signs.T / 64)[np.triu_indices(800, 1)]
    assert np.abs(between).max() < 7 / np.sqrt(64)


def test_a_stream_of_unknown_length_can_be_numbered_too():
    epoch = tf.Variable(0, dtype=tf.int64)
    stream = stream_of(numbered_images(20)).filter(lambda image: True)
    dataset = keras_vae.data.batches(stream, 8, shuffle=True, epoch=epoch)
    assert sorted(order_of(dataset)) == list(range(20))


@pytest.mark.parametrize("wrong", [3, tf.Variable(0), tf.Variable([0], dtype=tf.int64)])
def test_an_epoch_that_is_no_int64_scalar_is_refused(wrong):
    with pytest.raises(ValueError, match=r"epoch should be a scalar tf.Variable of int64"):
        keras_vae.data.batches(gray_images(), 8, epoch=wrong)


class Recorder(keras.Model):
    """Reports the checksum of the last batch of each epoch."""

    def train_step(self, images):
        weights = tf.reshape(tf.range(tf.size(images), dtype=tf.float32), tf.shape(images))
        return {"checksum": tf.reduce_sum(images * weights)}


@pytest.mark.parametrize("make", [np.asarray, stream_of])
@pytest.mark.parametrize("steps_per_epoch", [None, 7])
def test_fit_trains_on_fresh_repeatable_epochs(make, steps_per_epoch):
    def checksums():
        dataset = keras_vae.data.batches(
            make(gray_images()), 8, binarization="dynamic", shuffle=True
        )
        if steps_per_epoch:
            dataset = dataset.repeat()
        model = Recorder()
        model.compile()
        options = {"steps_per_epoch": steps_per_epoch, "shuffle": False, "verbose": 0}
        return model.fit(dataset, epochs=3, **options).history["checksum"]

    first = checksums()
    assert len(set(first)) == 3
    assert checksums() == first


def test_replicas_share_out_every_epoch():
    printed = in_new_process("""
        import numpy as np, tensorflow as tf
        import keras_vae.data
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
        dataset = keras_vae.data.batches(images, 4, shuffle=True)
        for _ in range(2):
            for batch in strategy.experimental_distribute_dataset(dataset):
                parts = strategy.experimental_local_results(batch)
                assert len(parts) == 2 and parts[0].shape[0] + parts[1].shape[0] in (4, 2)
                print(*(round(float(x) * 255) for part in parts for x in tf.reshape(part, [-1])))
            print("end")
    """)
    first, second = ([int(x) for x in epoch.split()] for epoch in printed.split("end")[:2])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_shares_of_one_stream_have_noise_and_order_of_their_own():
    def draw(worker, **options):
        context = tf.distribute.InputContext(2, worker, 2)
        gray = np.full((64, 4, 4, 1), 128, np.uint8)
        options = {"seed": 1, "input_context": context, **options}
        return keras_vae.data.batches(stream_of(gray), 16, binarization="dynamic", **options)

    first, second, again = (one_epoch(draw(worker)) for worker in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    # Two independent images agree in half of their pixels, 512 of 1,024, give or take 16.
    assert abs(np.sum(first == second) - 512) < 5 * 16
    policy = draw(0).options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF


def test_an_array_is_shared_out_by_example_whoever_asks():
    context = tf.distribute.InputContext(2, 1, 2)
    dataset = keras_vae.data.batches(numbered_images(20), 8, input_context=context)
    assert order_of(dataset) == list(range(20))
    policy = dataset.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


# Errors


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (gray_images(), {"binarization": "static"}, "one of none, fixed, dynamic.*='static'"),
        (gray_images(), {"batch_size": 0}, "at least 1. Received: batch_size=0"),
        (gray_images(), {"batch_size": -8}, "at least 1. Received: batch_size=-8"),
        (gray_images()[:0], {}, r"at least one example. Received: .*\(0, 6, 5, 1\)"),
        (gray_images()[..., 0], {}, r"Received: images of shape \(50, 6, 5\)"),
        (gray_images().astype(int), {}, "uint8 or float32.*Received: int64"),
        (gray_images().tolist(), {}, "NumPy array.*Received: list"),
        (gray_images() // 128, {}, "multiply binary ones by 255.*from 0 to 1"),
        (gray_images() * np.float32(np.nan), {}, "Received: values from nan to nan"),
        (gray_images().astype(np.float32), {}, "Received: values from 0.0 to 255.0"),
        (gray_images(4), {"drop_remainder": True}, "at most the num.*Received: batch_size=8"),
        (stream_of(gray_images(4)), {"drop_remainder": True}, "at most.*Received: batch_size=8"),
        (stream_of(gray_images()).take(0), {}, "Received: an empty dataset"),
        (stream_of(gray_images()).batch(2), {}, r"single images.*shape=\(None, 6, 5, 1\)"),
        (stream_of((gray_images(), gray_images())), {}, "single images.*Received: elements of"),
        (stream_of(gray_images().astype(int)), {}, "single images.*int64"),
    ],
)
def test_batches_refuses(images, options, message):
    with pytest.raises(ValueError, match=message):
        keras_vae.data.batches(images, **{"batch_size": 8} | options)


@pytest.mark.parametrize("wrong", [np.nan, -0.5, 255.0])
@pytest.mark.parametrize("binarization", BINARIZATIONS)
def test_a_stream_refuses_a_float_outside_of_the_unit_interval(wrong, binarization):
    images = gray_images(dtype=np.float32)
    images[30, 2, 2] = wrong
    dataset = keras_vae.data.batches(stream_of(images), 8, binarization=binarization)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"should lie in \[0, 1\]"):
        one_epoch(dataset)


def test_binarize_refuses_nan():
    with pytest.raises(ValueError, match="Received: values from nan"):
        keras_vae.data.binarize(np.full((2, 4, 4, 1), np.nan, np.float32), seed=0)
