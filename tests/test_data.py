"""`keras_vae.data`: splits, binarization, and batches."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae.data

BINARIZATIONS = ("none", "fixed", "dynamic")


def gray_images(num_examples=50, dtype=np.uint8):
    images = np.random.RandomState(0).randint(0, 256, (num_examples, 6, 5, 1), dtype=np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype)


def numbered_images(num_examples):
    """Image i is filled with the intensity i / 255, so that a batch says which images it holds."""
    return np.tile(np.arange(num_examples, dtype=np.uint8).reshape(-1, 1, 1, 1), (1, 4, 4, 1))


def stream_of(images):
    return tf.data.Dataset.from_tensor_slices(images)


def one_epoch(dataset):
    return np.concatenate(list(dataset.as_numpy_iterator()))


def order_of(dataset):
    return np.rint(one_epoch(dataset)[:, 0, 0, 0] * 255).astype(int).tolist()


def in_new_process(code):
    paths = [str(Path(keras_vae.data.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


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


@pytest.mark.parametrize("wrong", [tf.Variable(0), tf.Variable([0], dtype=tf.int64)])
def test_an_epoch_that_is_no_int64_scalar_is_refused(wrong):
    with pytest.raises(ValueError, match="epoch should be a scalar variable of int64"):
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


# Data sets


def test_importing_data_imports_no_extra():
    in_new_process("""
        import sys
        import keras_vae.data
        # Keras itself imports `sklearn`, where there is one.
        assert not {"sklearn.datasets", "tensorflow_datasets"} & set(sys.modules)
    """)


def test_digits_are_split_at_random_without_overlap():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    digits = keras_vae.data.load("digits")
    assert [split.images.shape for split in digits] == [(n, 8, 8, 1) for n in (1297, 200, 300)]
    for split in digits:
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int64
        assert split.labels.shape == split.images.shape[:1]
        assert (split.images.min(), split.images.max()) == (0.0, 1.0)
        assert set(split.labels) == set(range(10))

    def rows(images, labels):
        columns = np.concatenate([images.reshape(-1, 64) * 16, labels[:, None]], axis=1)
        return sorted(map(tuple, columns.astype(int)))

    source = sklearn_datasets.load_digits()
    everything = [np.concatenate(parts) for parts in zip(*digits, strict=True)]
    assert rows(*everything) == rows(source.images / 16, source.target)


def test_split_seed_alone_decides_the_split():
    pytest.importorskip("sklearn")
    first, again = (keras_vae.data.load("digits", split_seed=3) for _ in range(2))
    other = keras_vae.data.load("digits", split_seed=4)
    np.testing.assert_array_equal(first.test.images, again.test.images)
    np.testing.assert_array_equal(first.test.labels, again.test.labels)
    assert not np.array_equal(first.test.images, other.test.images)


def test_smaller_pixels_are_means_over_their_area():
    whole = keras_vae.data.load("digits").train.images
    halves = keras_vae.data.load("digits", image_size=(4, 4)).train.images
    blocks = whole.reshape(-1, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(halves, blocks, atol=1e-6)


def test_digits_are_resized():
    pytest.importorskip("sklearn")
    images = keras_vae.data.load("digits", image_size=(4, 6)).train.images
    assert images.shape == (1297, 4, 6, 1)
    assert images.dtype == np.float32
    original = keras_vae.data.load("digits").train.images
    # Averages of pixels: the mean intensity stays, up to the weight of the border.
    np.testing.assert_allclose(images.mean(), original.mean(), rtol=0.05)


@pytest.fixture
def tfds():
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def mock_set(tfds, tmp_path):
    """Returns a function that puts random images in place of a TFDS set."""

    def mock(name, version, splits, num_examples=60):
        folder = tmp_path / name / version
        folder.mkdir(parents=True)
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        info = {
            "name": name,
            "version": version,
            "fileFormat": "tfrecord",
            "splits": [
                {
                    "name": split,
                    "shardLengths": [str(num_examples)],
                    "numBytes": "1",
                    "filepathTemplate": template,
                }
                for split in splits
            ],
        }
        (folder / "dataset_info.json").write_text(json.dumps(info))
        return tfds.testing.mock_data(num_examples=num_examples, data_dir=str(tmp_path))

    return mock


def test_cifar10_loads_with_a_sixth_of_train_for_validation(mock_set):
    with mock_set("cifar10", "3.0.2", ["train", "test"]):
        splits = keras_vae.data.load("cifar10")
    assert [len(split.images) for split in splits] == [50, 10, 60]
    for split in splits:
        assert split.images.shape[1:] == (32, 32, 3)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images)
    parts = np.concatenate([splits.train.images, splits.validation.images])
    np.testing.assert_array_equal(  # the mock's test images are its train images
        np.unique(parts.reshape(60, -1), axis=0),
        np.unique(splits.test.images.reshape(60, -1), axis=0),
    )


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("omniglot", "3.0.0", lambda raw: 255 - raw[..., :1]),  # black ink on white, three channels
        ("dsprites", "2.0.0", lambda raw: raw * 255),  # 0 and 1
        ("emnist/letters", "3.1.0", lambda raw: np.swapaxes(raw, 1, 2)),  # lying on their side
    ],
)
def test_pixels_mean_the_same_in_every_set(mock_set, tfds, name, version, expected):
    with mock_set(name, version, ["train", "validation", "test"], num_examples=6):
        loaded = keras_vae.data.load(name).test.images
        raw = tfds.load(name, split="test", batch_size=-1)["image"].numpy()
    np.testing.assert_array_equal(loaded, expected(raw))


def test_a_set_without_any_split_is_cut_in_three(mock_set):
    with mock_set("dsprites", "2.0.0", ["train"]):
        splits = keras_vae.data.load("dsprites")
    assert [len(split.images) for split in splits] == [40, 10, 10]
    assert all(split.labels is None for split in splits)


def test_a_set_with_its_own_validation_keeps_it(mock_set):
    with mock_set("binarized_mnist", "1.0.0", ["train", "validation", "test"]):
        splits = keras_vae.data.load("binarized_mnist")
    assert [len(split.images) for split in splits] == [60, 60, 60]


def test_a_large_set_is_streamed(mock_set, tfds, monkeypatch):
    with mock_set("cifar10", "3.0.2", ["train", "test"]):
        read = {}
        as_dataset = tfds.core.DatasetBuilder.as_dataset

        def spy(self, split, *, shuffle_files, **kwargs):
            read[split] = shuffle_files
            return as_dataset(self, split=split, shuffle_files=shuffle_files, **kwargs)

        monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", spy)
        splits = keras_vae.data.load("cifar10", max_in_memory_bytes=100_000)
        assert all(isinstance(split.images, tf.data.Dataset) for split in splits)
        assert all(split.labels is None for split in splits)
        rules = {"train[:83%]": True, "train[83%:100%]": False, "test": False}
        assert {rule: read[rule] for rule in rules} == rules
        spec = splits.train.images.element_spec
        assert spec == tf.TensorSpec((32, 32, 3), tf.uint8)
        dataset = keras_vae.data.batches(splits.test.images, 32)
        streamed = one_epoch(dataset)
        in_memory = keras_vae.data.load("cifar10").test.images
    np.testing.assert_allclose(streamed, in_memory / np.float32(255), rtol=0, atol=1e-7)


@pytest.fixture
def own_set(tfds, tmp_path):
    """Returns a function that writes a small set in a format of TFDS, and gives its folder."""

    class Bars(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(4, 4, 1))
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=3)}
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(60), "test": self._generate_examples(20)}

        def _generate_examples(self, num_examples):
            for i in range(num_examples):
                yield i, {"image": np.full((4, 4, 1), i, np.uint8), "label": i % 3}

    def write(file_format):
        builder = Bars(data_dir=str(tmp_path), file_format=file_format)
        builder.download_and_prepare()
        return str(builder.data_dir)

    return write


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("max_in_memory_bytes", [2**30, 100])
def test_a_set_of_ones_own_is_read_from_its_folder(own_set, file_format, max_in_memory_bytes):
    folder = own_set(file_format)
    options = {"max_in_memory_bytes": max_in_memory_bytes, "repeatable": True}
    splits = keras_vae.data.load(folder, **options)
    if max_in_memory_bytes == 100:
        assert isinstance(splits.train.images, tf.data.Dataset)
        epochs = [np.stack(list(splits.train.images)) for _ in range(2)]
        np.testing.assert_array_equal(*epochs)
        images = np.concatenate([epochs[0], np.stack(list(splits.validation.images))])
    else:
        assert len(splits.validation.images) == 10
        np.testing.assert_array_equal(splits.test.labels, splits.test.images[:, 0, 0, 0] % 3)
        images = np.concatenate([splits.train.images, splits.validation.images])
    assert sorted(images[:, 0, 0, 0]) == list(range(60))


@pytest.mark.parametrize("max_in_memory_bytes", [2**30, 1])
def test_resized_images_are_floats_in_the_unit_interval(mock_set, max_in_memory_bytes):
    with mock_set("cifar10", "3.0.2", ["train", "test"]):
        splits = keras_vae.data.load(
            "cifar10", image_size=(16, 8), max_in_memory_bytes=max_in_memory_bytes
        )
        images = one_epoch(keras_vae.data.batches(splits.validation.images, 4))
    assert images.shape[1:] == (16, 8, 3)
    assert images.min() >= 0
    assert images.max() <= 1


def test_images_of_many_sizes_need_an_image_size(mock_set):
    with mock_set("tf_flowers", "3.0.1", ["train"], num_examples=12):
        with pytest.raises(ValueError, match=r"image_size=\(64, 64\)\. Received: image_size=None"):
            keras_vae.data.load("tf_flowers")
        splits = keras_vae.data.load("tf_flowers", image_size=(16, 16))
    assert splits.train.images.shape == (8, 16, 16, 3)


def test_a_set_without_images_is_refused(mock_set):
    splits = ["train", "validation", "test"]
    with mock_set("tiny_shakespeare", "1.0.0", splits):
        with pytest.raises(ValueError, match=r"Received: name='tiny_shakespeare'.*\['text'\]"):
            keras_vae.data.load("tiny_shakespeare")


@pytest.mark.usefixtures("tfds")
def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"such as .*'mnist'.* Received: name='mnits'\."):
        keras_vae.data.load("mnits")


def test_a_set_that_cannot_be_had_names_the_data_folder(tfds, tmp_path, monkeypatch):
    def offline(self):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    message = rf"{tmp_path}.*\(ConnectionError: no route to host and more\).*TFDS_DATA_DIR"
    with pytest.raises(RuntimeError, match=message):
        keras_vae.data.load("mnist")


@pytest.mark.parametrize(
    ("name", "module"), [("digits", "sklearn.datasets"), ("mnist", "tensorflow_datasets")]
)
def test_a_missing_extra_is_named_with_its_installation(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[data\]"'):
        keras_vae.data.load(name)


@pytest.fixture
def real(tfds):
    """Returns a function that skips the test where TFDS_DATA_DIR does not hold a set."""
    folder = Path(os.environ.get("TFDS_DATA_DIR", "/nonexistent"))

    def require(name):
        if not list(folder.glob(f"{name}/*/dataset_info.json")):
            pytest.skip(f"TFDS_DATA_DIR does not hold {name}")

    return require


@pytest.mark.data
def test_mnist_is_50000_10000_10000_and_complete(real):
    real("mnist")
    mnist = keras_vae.data.load("mnist")
    assert [len(split.images) for split in mnist] == [50_000, 10_000, 10_000]
    assert mnist.train.images.dtype == np.uint8
    train = np.concatenate([mnist.train.images, mnist.validation.images])
    labels = np.concatenate([mnist.train.labels, mnist.validation.labels])
    # Known of MNIST's 60,000 training images: counts by class, mean and deviation.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    assert train.mean() == pytest.approx(33.318, abs=1e-3)
    assert train.std(dtype=np.float64) == pytest.approx(78.567, abs=1e-3)


@pytest.mark.data
def test_binarized_mnist_batches_are_zeros_and_ones(real):
    real("binarized_mnist")
    test = keras_vae.data.load("binarized_mnist").test
    assert test.labels is None
    images = one_epoch(keras_vae.data.batches(test.images, 1000))
    assert np.unique(images).tolist() == [0.0, 1.0]
    assert images.mean() == pytest.approx(0.13251, abs=1e-5)


@pytest.mark.data
def test_streamed_mnist_has_every_test_image(real, tfds):
    real("mnist")
    stream = keras_vae.data.load("mnist", max_in_memory_bytes=2**20).test.images
    streamed = one_epoch(keras_vae.data.batches(stream, 1000))
    original = tfds.load("mnist", split="test", batch_size=-1, download=False)["image"].numpy()
    np.testing.assert_allclose(streamed, original / np.float32(255), rtol=0, atol=1e-7)


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


@pytest.mark.parametrize("image_size", [(28,), (0, 28), (28, 28, 1)])
def test_load_refuses_an_image_size_that_is_none(image_size):
    with pytest.raises(ValueError, match=r"\(height, width\).*Received: image_size="):
        keras_vae.data.load("digits", image_size=image_size)
