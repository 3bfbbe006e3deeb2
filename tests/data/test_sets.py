"""`keras_vae.data.load`: sets by name, their splits, and the shares of workers."""

import functools
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_vae.data
from tests.images import in_new_process, one_epoch, write_set


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


@pytest.fixture
def own_set(tmp_path):
    """Returns a function that writes a small set in a format of TFDS, and gives its folder."""
    pytest.importorskip("tensorflow_datasets")
    return functools.partial(write_set, tmp_path)


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
        assert all(split.images.options().autotune.enabled is False for split in splits)
        rules = {"train[:83%]": True, "train[83%:100%]": False, "test": False}
        assert {rule: read[rule] for rule in rules} == rules
        spec = splits.train.images.element_spec
        assert spec == tf.TensorSpec((32, 32, 3), tf.uint8)
        dataset = keras_vae.data.batches(splits.test.images, 32)
        streamed = one_epoch(dataset)
        in_memory = keras_vae.data.load("cifar10").test.images
    np.testing.assert_allclose(streamed, in_memory / np.float32(255), rtol=0, atol=1e-7)


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


def shares(folder, workers, **options):
    """Returns the training images of each worker, which are numbers from 0 to 59."""
    return [
        keras_vae.data.load(
            folder,
            repeatable=True,
            input_context=tf.distribute.InputContext(workers, worker, workers),
            **options,
        ).train.images
        for worker in range(workers)
    ]


@pytest.mark.parametrize(
    ("file_format", "num_shards", "message"),
    [
        ("tfrecord", 3, "Worker 1 of 2 reads 1 of the 3 files of train[:83%]: sharded by file."),
        ("tfrecord", 1, "Worker 1 of 2 reads all 1 files of train[:83%] and keeps every 2. image"),
        ("array_record", 1, "Worker 1 of 2 reads every 2. image of train[:83%], by index"),
    ],
)
def test_each_worker_streams_its_own_share(own_set, caplog, file_format, num_shards, message):
    caplog.set_level(logging.INFO, "keras_vae")
    folder = own_set(file_format, num_shards)
    parts = shares(folder, 2, max_in_memory_bytes=100)
    read = [[int(image[0, 0, 0]) for image in part] for part in parts]
    assert [part.cardinality() for part in parts] == [len(numbers) for numbers in read]
    assert min(len(numbers) for numbers in read) > 0
    (whole,) = shares(folder, 1, max_in_memory_bytes=100)
    assert sorted(sum(read, [])) == sorted(int(image[0, 0, 0]) for image in whole)
    assert message in caplog.text


def test_each_worker_holds_a_small_set_whole(own_set, caplog):
    caplog.set_level(logging.INFO, "keras_vae")
    first, second = shares(own_set("tfrecord", 3), 2)
    np.testing.assert_array_equal(first, second)
    assert "in memory and takes its part of every batch: sharded by example" in caplog.text


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


@pytest.mark.parametrize("image_size", [(28,), (0, 28), (28, 28, 1)])
def test_load_refuses_an_image_size_that_is_none(image_size):
    with pytest.raises(ValueError, match=r"\(height, width\).*Received: image_size="):
        keras_vae.data.load("digits", image_size=image_size)
