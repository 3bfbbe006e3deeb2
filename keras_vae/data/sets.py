"""A name -> train, validation and test images."""

import difflib
import itertools
import logging
import numbers
import os
import textwrap
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.data.autotuning import without_autotuning
from keras_vae.data.binarization import unit_interval
from keras_vae.extras import require

# What no feature of TFDS tells. Here, gray is one channel, 255 is on, ink is bright, text upright.
_TFDS_PIXELS = {
    "binarized_mnist": lambda image: image * 255,
    "dsprites": lambda image: image * 255,
    "emnist": lambda image: tf.transpose(image, [1, 0, 2]),
    "omniglot": lambda image: 255 - image[..., :1],
}

_ALONE = tf.distribute.InputContext()  # the only worker

_logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """One part of a data set.

    Attributes:
        images: (num_examples, height, width, channels), uint8 from 0 to 255 or float32 in [0, 1];
            or a `tf.data.Dataset` of single such images, where a set is too large for memory.
        labels: Class numbers, (num_examples,), int64. `None` where a set has none, or is streamed.
    """

    images: np.ndarray | tf.data.Dataset
    labels: np.ndarray | None


class Splits(NamedTuple):
    """The three parts of a data set, with no example in common."""

    train: Split
    validation: Split
    test: Split


def load(
    name: str,
    *,
    split_seed: int = 0,
    image_size: tuple[int, int] | None = None,
    max_in_memory_bytes: int = 2**30,
    repeatable: bool = False,
    input_context: tf.distribute.InputContext | None = None,
) -> Splits:
    """Loads a data set by name: `"digits"`, or any image set of TensorFlow Datasets.

    `"digits"` needs no download: scikit-learn's 1,797 images of 8x8 pixels, cut into 1,297 for
    training, 200 for validation and 300 for testing. Any other name goes to TensorFlow Datasets
    (TFDS), which keeps its data in the folder `TFDS_DATA_DIR`, downloading what is not there yet.
    A set of one's own, written by TFDS as TFRecord or ArrayRecord shards, goes by the folder or
    the bucket of its version, such as `"gs://my-bucket/my_set/1.0.0"`.

    A validation or a test split that TFDS does not define is one sixth of train, chosen by
    `split_seed`: MNIST becomes 50,000, 10,000 and 10,000 images. In a streamed set it is a fixed
    17% of train, whatever the seed.

    Args:
        name: `"digits"`, a TFDS name such as `"mnist"`, `"cifar10"` or `"emnist/letters"`, or a
            folder with a `dataset_info.json`, which `tf.io.gfile` can read.
        split_seed: Which examples are cut from train, from 0 to 2**32 - 1. Same seed, same split.
        image_size: (height, width) in pixels to resize to, which makes the images float32. Where
            they shrink, a pixel is the mean over its area (a box filter); else they are
            interpolated. `None` leaves them as they are.
        max_in_memory_bytes: A set whose images take more than this is streamed from disk, its
            training files in a new order every epoch.
        repeatable: Whether the files of a streamed set should come in the same order in every
            epoch instead, as training that goes on in the midst of one needs.
        input_context: Which of several workers this is. The training images of a streamed set are
            then this worker's share: every n-th file, or where there are fewer files than workers
            or their format is read by index, every n-th example. Whatever is held in memory is held
            whole by each worker. The log says which it is.

    Returns:
        Splits of images, bright on dark where they show ink, and labels.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: If the name is not known, or the set holds no images of one fixed size.
        RuntimeError: If the set is not in `TFDS_DATA_DIR` and cannot be downloaded.

    Example:

    >>> digits = load("digits")
    >>> digits.train.images.shape, digits.validation.images.shape, digits.test.images.shape
    ((1297, 8, 8, 1), (200, 8, 8, 1), (300, 8, 8, 1))
    """
    if image_size is not None and (
        len(image_size) != 2
        or not all(isinstance(size, numbers.Integral) and size >= 1 for size in image_size)
    ):
        raise ValueError(
            "image_size should be (height, width) in pixels, or None. "
            f"Received: image_size={image_size}."
        )
    input_context = input_context or _ALONE
    if name == "digits":
        _say_in_memory(name, input_context)
        return _load_digits(split_seed, image_size)
    return _load_tfds(name, split_seed, image_size, max_in_memory_bytes, repeatable, input_context)


def _load_digits(split_seed, image_size):
    digits = require("sklearn.datasets", "data", "This data set needs").load_digits()
    images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
    if image_size is not None:
        images = _resize(images, image_size).numpy()
    everything = Split(images, digits.target.astype(np.int64))
    validation, test, train = _cut(everything, [200, 300], split_seed)
    return Splits(train, validation, test)


def _load_tfds(name, split_seed, image_size, max_in_memory_bytes, repeatable, input_context):
    tfds = require("tensorflow_datasets", "data", "This data set needs")
    builder = _prepared_builder(tfds, name)
    splits, features = builder.info.splits, dict(builder.info.features.items())
    image = features.get("image")
    if (
        not isinstance(image, tfds.features.Image)
        or image.np_dtype != np.uint8
        or "train" not in splits
    ):
        raise ValueError(
            "A data set should have a split `train` and a feature `image` of 8-bit images. "
            f"Received: name={name!r}, with splits {list(splits)} and features {list(features)}."
        )
    has_labels = isinstance(features.get("label"), tfds.features.ClassLabel)

    def prepare(example):
        image = _TFDS_PIXELS.get(builder.name, tf.identity)(example["image"])
        image = image if image_size is None else _resize(image, image_size)
        return (image, example["label"]) if has_labels else (image,)

    def read(split, shuffle_files=False, input_context=_ALONE):
        if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            examples = _read_by_index(builder, split, input_context)
        else:
            config = tfds.ReadConfig(
                shuffle_seed=split_seed,
                shuffle_reshuffle_each_iteration=not repeatable,
                try_autocache=False,
            )
            options = {"shuffle_files": shuffle_files, "read_config": config}
            examples = _read_files(builder, split, input_context, options)
        return without_autotuning(examples.map(prepare, tf.data.AUTOTUNE))

    spec = read("train").element_spec[0]
    if not spec.shape.is_fully_defined():
        raise ValueError(
            f"The images of {name!r} differ in size: give a size to resize them to, such as "
            "image_size=(64, 64). Received: image_size=None."
        )
    present = [part for part in Splits._fields if part in splits]
    missing = [part for part in Splits._fields if part not in splits]
    num_images = sum(splits[part].num_examples for part in present)
    if num_images * spec.shape.num_elements() * spec.dtype.size > max_in_memory_bytes:
        rules = {part: part for part in present} | _percentages(missing)
        streams = {part: read(rule) for part, rule in rules.items() if part != "train"}
        streams["train"] = read(rules["train"], shuffle_files=True, input_context=input_context)
        images = {part: stream.map(lambda image, *_: image) for part, stream in streams.items()}
        return Splits(**{part: Split(images[part], None) for part in images})

    _say_in_memory(name, input_context)
    parts = {}
    for part in present:
        everything = read(part).batch(splits[part].num_examples)
        columns = [np.array(column) for column in next(everything.as_numpy_iterator())]
        parts[part] = Split(*columns, *([] if has_labels else [None]))
    if missing:
        sizes = [len(parts["train"].images) // 6] * len(missing)
        *cuts, parts["train"] = _cut(parts["train"], sizes, split_seed)
        parts |= zip(missing, cuts, strict=True)
    return Splits(**parts)


def _read_files(builder, split, input_context, options):
    """Returns the examples of a split, or this worker's share of them."""
    worker, workers = input_context.input_pipeline_id, input_context.num_input_pipelines
    if workers == 1:
        return builder.as_dataset(split=split, **options)
    files = builder.info.splits[split].file_instructions
    if len(files) < workers:
        _logger.info(
            "Worker %d of %d reads all %d files of %s and keeps every %d. image, since there are "
            "fewer files than workers: sharded by example.",
            *(worker, workers, len(files), split, workers),
        )
        return builder.as_dataset(split=split, **options).shard(workers, worker)
    own = files[worker::workers]  # as TFDS does
    _logger.info(
        "Worker %d of %d reads %d of the %d files of %s: sharded by file.",
        *(worker, workers, len(own), len(files), split),
    )
    options["read_config"].input_context = input_context
    examples = builder.as_dataset(split=split, **options)
    num_examples = sum(instruction.take for instruction in own)
    return examples.apply(tf.data.experimental.assert_cardinality(num_examples))


def _read_by_index(builder, split, input_context):
    """The same, of a format that TFDS reads by index only."""
    source = builder.as_data_source(split)
    known = {"image", "label"} & set(builder.info.features)
    specs = builder.info.features.get_tensor_spec()
    worker, workers = input_context.input_pipeline_id, input_context.num_input_pipelines
    indices = range(worker, len(source), workers)
    if workers > 1:
        _logger.info(
            "Worker %d of %d reads every %d. image of %s, by index: sharded by example.",
            *(worker, workers, workers, split),
        )

    def examples():
        for index in indices:
            yield {key: value for key, value in source[index].items() if key in known}

    dataset = tf.data.Dataset.from_generator(
        examples, output_signature={key: specs[key] for key in known}
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(len(indices)))


def _say_in_memory(name, input_context):
    if input_context.num_input_pipelines > 1:
        _logger.info(
            "Each of %d workers holds %s in memory and takes its part of every batch: sharded by "
            "example (AutoShardPolicy.DATA).",
            *(input_context.num_input_pipelines, name),
        )


def _percentages(missing):
    """Returns sub-splits of train, in TFDS syntax, for train and each of the missing parts."""
    edges = range(100 - 17 * len(missing), 101, 17)
    cuts = [f"train[{start}%:{stop}%]" for start, stop in itertools.pairwise(edges)]
    return {"train": f"train[:{edges[0]}%]"} | dict(zip(missing, cuts, strict=True))


def _prepared_builder(tfds, name):
    if tf.io.gfile.exists(os.path.join(name, "dataset_info.json")):
        return tfds.builder_from_directory(name)
    try:
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name, known)
        hint = f", such as {' or '.join(map(repr, near))}" if near else ""
        raise ValueError(
            "name should be 'digits', an image set of TFDS, or a folder with the dataset_info.json "
            f"of one{hint}. Received: name={name!r}. {textwrap.shorten(str(error), 200)}"
        ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise RuntimeError(
            f"The data set {name!r} is not in {builder.data_dir} and could not be downloaded "
            f"({reason}). Set TFDS_DATA_DIR to the folder that holds it."
        ) from None  # what TFDS raises is a hundred lines of retries
    return builder


def _cut(split, sizes, seed):
    order = np.random.RandomState(seed).permutation(len(split.images))
    parts = np.split(order, np.cumsum(sizes))
    return [Split(*(None if x is None else x[rows] for x in split)) for rows in parts]


def _resize(images, image_size):
    images = unit_interval(images)
    height, width = images.shape[-3:-1]
    if height is not None and image_size[0] <= height and image_size[1] <= width:
        # `tf.image.resize` takes means over areas of batches only.
        is_single = images.shape.rank == 3
        images = images[tf.newaxis] if is_single else images
        images = tf.image.resize(images, image_size, "area")
        images = images[0] if is_single else images
    else:
        images = tf.image.resize(images, image_size, antialias=True)
    return tf.clip_by_value(images, 0.0, 1.0)  # the filter's weights round to a sum of 1 + 2e-7
