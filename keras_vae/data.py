"""Data sets: a name -> train, validation and test images -> `tf.data` batches."""

import difflib
import importlib
import itertools
import os
import textwrap
from typing import NamedTuple

import numpy as np
import tensorflow as tf

BINARIZATIONS = ("none", "fixed", "dynamic")

# What no feature of TFDS tells. Here, gray is one channel, 255 is on, ink is bright, text upright.
_TFDS_PIXELS = {
    "binarized_mnist": lambda image: image * 255,
    "dsprites": lambda image: image * 255,
    "emnist": lambda image: tf.transpose(image, [1, 0, 2]),
    "omniglot": lambda image: 255 - image[..., :1],
}
_SHUFFLE_BUFFER_BYTES = 2**28
_SHUFFLE, _NOISE = 1, 2  # purposes: one seed gives an independent stream of seeds to each


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
    if image_size is not None and (len(image_size) != 2 or min(image_size) < 1):
        raise ValueError(
            "image_size should be (height, width) in pixels, or None. "
            f"Received: image_size={image_size}."
        )
    if name == "digits":
        return _load_digits(split_seed, image_size)
    return _load_tfds(name, split_seed, image_size, max_in_memory_bytes, repeatable)


def batches(
    images: np.ndarray | tf.data.Dataset,
    batch_size: int,
    *,
    binarization: str = "none",
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    epoch: tf.Variable | None = None,
) -> tf.data.Dataset:
    """Turns images into batches for `fit`, `evaluate` and `predict`.

    Gray images become binary in one of two ways, and likelihoods under one do not compare with
    those under the other (Burda et al.). `"fixed"` rounds each image at random once and for all, as
    in the binarized MNIST of Larochelle & Murray: for an array it is `binarize(images, seed=seed)`.
    `"dynamic"` draws every pixel from Bernoulli(intensity) afresh in every epoch, as Salakhutdinov
    & Murray do, and so keeps a model from learning the noise by heart.

    An array is shuffled as a whole and gathered batch by batch. A stream is shuffled through a
    buffer of 256 MiB, and its fixed binarization depends on the seed and the image's content alone,
    so it holds whatever the order.

    Every epoch has another order and other noise, and epoch n is the same in every dataset made
    with equal arguments. For streams, that holds as far as the stream itself repeats, and under one
    `tf.random.set_seed`.

    Training that is to go on after an interruption needs any epoch at will: with a variable as
    `epoch`, an iteration gives the epoch whose number the variable holds when it starts. Whoever
    iterates sets it; in `fit`, `ExactResume` does.

    Args:
        images: (num_examples, height, width, channels), uint8 from 0 to 255 or float32 in [0, 1],
            or a `tf.data.Dataset` of single such images.
        batch_size: Images in a batch, over all replicas.
        binarization: `"none"`, `"fixed"` or `"dynamic"`.
        shuffle: Whether every epoch comes in another random order.
        seed: Decides order and noise. From 0 to 2**32 - 1.
        drop_remainder: Whether to leave out a smaller last batch.
        epoch: The number of the epoch to give, a scalar variable, int64. If not given, iterations
            give one epoch after the other.

    Returns:
        A dataset of float32 images in [0, 1], (batch, height, width, channels).

    Raises:
        ValueError: If an argument is not as described. Float values of a stream are checked as they
            pass: there it is a `tf.errors.InvalidArgumentError`.

    Example:

    >>> gray = np.full((10, 8, 8, 1), 128, np.uint8)
    >>> dataset = batches(gray, 4, binarization="dynamic", shuffle=True)
    >>> [batch.shape[0] for batch in dataset]
    [4, 4, 2]
    >>> np.unique(next(iter(dataset))).tolist()
    [0.0, 1.0]

    References:
        Salakhutdinov & Murray 2008, "On the Quantitative Analysis of Deep Belief Networks".
        Larochelle & Murray 2011, "The Neural Autoregressive Distribution Estimator".
        Burda et al. 2016, "Importance Weighted Autoencoders", appendix D.
    """
    if binarization not in BINARIZATIONS:
        raise ValueError(
            f"binarization should be one of {', '.join(BINARIZATIONS)}. "
            f"Received: binarization={binarization!r}."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size should be at least 1. Received: batch_size={batch_size}.")
    if epoch is not None and (epoch.dtype != tf.int64 or epoch.shape.rank != 0):
        raise ValueError(
            "epoch should be a scalar variable of int64. "
            f"Received: {epoch.dtype.name} of shape {epoch.shape}."
        )
    if isinstance(images, tf.data.Dataset):
        images = _checked_stream(images)
        if binarization == "fixed":
            images = images.map(lambda image: _binarize_by_content(image, seed), tf.data.AUTOTUNE)
        dataset = _batch_stream(images, batch_size, shuffle, seed, drop_remainder, epoch)
    else:
        _check_array(images)
        if images.ndim != 4:
            raise ValueError(
                "images should have shape (num_examples, height, width, channels). "
                f"Received: images of shape {images.shape}."
            )
        if binarization == "fixed":
            images = _binomial(images, seed)
        dataset = _batch_array(images, batch_size, shuffle, seed, drop_remainder, epoch)
    if dataset.cardinality() == 0:
        raise ValueError(
            "batch_size should be at most the number of images, when the remainder is dropped. "
            f"Received: batch_size={batch_size}."
        )
    if binarization == "dynamic":
        dataset = tf.data.Dataset.zip(dataset, _seeds(seed, _NOISE, epoch))
        dataset = dataset.map(_bernoulli, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def binarize(images: np.ndarray, *, seed: int) -> np.ndarray:
    """Rounds every pixel at random to 0 or 1, with its intensity as the probability of 1.

    The literature's recipe is `np.random.seed(777)`, then `np.random.binomial(1, images)` for the
    validation images and after it, from the same stream, for the test images. With `seed=777` this
    gives the same bits; concatenate the two first, where both are wanted.

    Args:
        images: (num_examples, ...), uint8 from 0 to 255 or float32 in [0, 1].
        seed: From 0 to 2**32 - 1.

    Returns:
        Zeros and ones, float32, of the same shape.

    Example:

    >>> binarize(np.array([[0.0, 0.5, 0.5, 0.5, 1.0]], np.float32), seed=777)
    array([[0., 0., 0., 0., 1.]], dtype=float32)

    References:
        Tomczak & Welling 2018, "VAE with a VampPrior", the authors' code, `utils/load_data.py`.
    """
    _check_array(images)
    return _binomial(images, seed).astype(np.float32)


def _load_digits(split_seed, image_size):
    digits = _import_extra("sklearn.datasets", "scikit-learn").load_digits()
    images = (digits.images[..., np.newaxis] / 16).astype(np.float32)
    if image_size is not None:
        images = _resize(images, image_size).numpy()
    everything = Split(images, digits.target.astype(np.int64))
    validation, test, train = _cut(everything, [200, 300], split_seed)
    return Splits(train, validation, test)


def _load_tfds(name, split_seed, image_size, max_in_memory_bytes, repeatable):
    tfds = _import_extra("tensorflow_datasets", "tensorflow-datasets")
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

    def read(split, shuffle_files=False):
        if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            return _read_array_records(builder, split).map(prepare, tf.data.AUTOTUNE)
        config = tfds.ReadConfig(
            shuffle_seed=split_seed,
            shuffle_reshuffle_each_iteration=not repeatable,
            try_autocache=False,
        )
        examples = builder.as_dataset(split=split, shuffle_files=shuffle_files, read_config=config)
        return examples.map(prepare, tf.data.AUTOTUNE)

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
        streams = {part: read(rule, part == "train") for part, rule in rules.items()}
        images = {part: stream.map(lambda image, *_: image) for part, stream in streams.items()}
        return Splits(**{part: Split(images[part], None) for part in images})

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


def _read_array_records(builder, split):
    # TFDS reads them by index only.
    source = builder.as_data_source(split)
    known = {"image", "label"} & set(builder.info.features)
    specs = builder.info.features.get_tensor_spec()

    def examples():
        for index in range(len(source)):
            yield {key: value for key, value in source[index].items() if key in known}

    dataset = tf.data.Dataset.from_generator(
        examples, output_signature={key: specs[key] for key in known}
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(len(source)))


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
    except tfds.core.DatasetNotFoundError:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name, known)
        hint = f", such as {' or '.join(map(repr, near))}" if near else ""
        raise ValueError(
            f"name should be 'digits' or an image set of TFDS{hint}. Received: name={name!r}."
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


def _import_extra(module, package):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'This data set needs {package}: pip install "keras-vae[data]" ({error}).'
        ) from error


def _cut(split, sizes, seed):
    order = np.random.RandomState(seed).permutation(len(split.images))
    parts = np.split(order, np.cumsum(sizes))
    return [Split(*(None if x is None else x[rows] for x in split)) for rows in parts]


def _resize(images, image_size):
    images = _unit_interval(images)
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


def _unit_interval(images):
    floats = tf.cast(images, tf.float32)
    return floats / 255 if images.dtype == tf.uint8 else floats


def _batch_array(images, batch_size, shuffle, seed, drop_remainder, epoch):
    num_images = len(images)
    num_batches = num_images // batch_size if drop_remainder else -(-num_images // batch_size)
    with tf.device("CPU:0"):
        images = tf.constant(images)

    # Element by element, tf.data costs as much as a small model: whole batches are sliced from one
    # permutation of the indices, drawn when an epoch starts.
    def index_batches(epoch_seed):
        order = tf.range(num_images)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, epoch_seed)
        starts = tf.data.Dataset.range(num_batches).map(lambda batch: batch * batch_size)
        return starts.map(lambda start: order[start : start + batch_size])

    def gather(rows):
        rows = tf.ensure_shape(rows, [batch_size if drop_remainder else None])
        return _unit_interval(tf.gather(images, rows))

    indices = _seeds(seed, _SHUFFLE, epoch).take(1).flat_map(index_batches)
    indices = indices.apply(tf.data.experimental.assert_cardinality(num_batches))
    return indices.map(gather, tf.data.AUTOTUNE)


def _batch_stream(images, batch_size, shuffle, seed, drop_remainder, epoch):
    if shuffle:
        spec = images.element_spec
        buffer_size = max(1, _SHUFFLE_BUFFER_BYTES // (spec.shape.num_elements() * spec.dtype.size))
        if epoch is None:
            images = images.shuffle(buffer_size, seed=seed)
        else:
            calm, num_images = images, images.cardinality()
            images = _seeds(seed, _SHUFFLE, epoch).take(1)
            images = images.flat_map(lambda seeds: _shuffled_once(calm, buffer_size, seeds))
            if num_images >= 0:
                images = images.apply(tf.data.experimental.assert_cardinality(num_images))
    return images.batch(batch_size, drop_remainder).map(_unit_interval, tf.data.AUTOTUNE)


def _shuffled_once(images, buffer_size, seeds):
    # `shuffle` itself takes no tensor as a seed.
    variant = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(images),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=seeds[0],
        seed2=seeds[1],
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        output_types=[images.element_spec.dtype],
        output_shapes=[images.element_spec.shape],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, images.element_spec)


def _seeds(seed, purpose, epoch=None):
    """Returns an endless dataset of seeds, (2,), int64: new ones in each iteration.

    `tf.data.Dataset.random` does the same, but mixes in the global seed; this one repeats whatever
    `tf.random.set_seed` was told. With `epoch`, they are those of the epoch that it holds.
    """
    if epoch is not None:
        return _seeds_of_epoch(seed, purpose, epoch)
    scalar = tf.TensorSpec([], tf.int64)
    variant = tf.raw_ops.RandomDatasetV2(
        seed=tf.constant(seed, tf.int64),
        seed2=tf.constant(purpose, tf.int64),
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        rerandomize_each_iteration=True,
        output_types=[scalar.dtype],
        output_shapes=[scalar.shape],
    )
    return tf.data.experimental.from_variant(variant, scalar).batch(2, drop_remainder=True)


def _seeds_of_epoch(seed, purpose, epoch):
    fold_in = tf.random.experimental.stateless_fold_in

    def one_epoch(number):
        seeds = fold_in(tf.constant([seed, purpose], tf.int64), number)
        return tf.data.Dataset.counter().map(lambda batch: fold_in(seeds, batch))

    # Read once, when an iteration asks for its first batch.
    seeds = tf.data.Dataset.range(1).map(lambda _: epoch.read_value()).flat_map(one_epoch)
    return seeds.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _bernoulli(images, seed):
    return tf.cast(tf.random.stateless_uniform(tf.shape(images), seed) < images, tf.float32)


def _binarize_by_content(image, seed):
    content = tf.bitcast(tf.fingerprint(tf.reshape(image, [1, -1])), tf.int64)
    return _bernoulli(_unit_interval(image), tf.concat([content, [seed]], axis=0))


def _binomial(images, seed):
    random_state = np.random.RandomState(seed)
    binary = np.empty(images.shape, bool)
    for start in range(0, len(images), 1024):  # one stream in pieces, so that float64 stays small
        rows = images[start : start + 1024].astype(np.float32)
        rows = rows / 255 if images.dtype == np.uint8 else rows
        binary[start : start + 1024] = random_state.binomial(1, rows.astype(np.float64))
    return binary


def _check_array(images):
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        received = getattr(images, "dtype", type(images).__name__)
        raise ValueError(
            "images should be a NumPy array of uint8 or float32, or a tf.data.Dataset of single "
            f"images. Received: {received}."
        )
    if not images.size:
        raise ValueError(
            f"images should hold at least one example. Received: images of shape {images.shape}."
        )
    smallest, largest = images.min(), images.max()
    if images.dtype == np.float32 and not (smallest >= 0 and largest <= 1):
        raise ValueError(
            "Float images should lie in [0, 1]; uint8 ones are scaled for you. "
            f"Received: values from {smallest} to {largest}."
        )
    if images.dtype == np.uint8 and largest == 1:
        raise ValueError(
            "uint8 images should go from 0 to 255: multiply binary ones by 255. "
            "Received: values from 0 to 1."
        )


def _checked_stream(images):
    spec = images.element_spec
    if (
        not isinstance(spec, tf.TensorSpec)
        or spec.dtype not in (tf.uint8, tf.float32)
        or spec.shape.rank != 3
        or not spec.shape.is_fully_defined()
    ):
        raise ValueError(
            "A stream should yield single images of uint8 or float32 and one fixed shape (height, "
            f"width, channels). Received: elements of {spec}."
        )
    if images.cardinality() == 0:
        raise ValueError("images should hold at least one example. Received: an empty dataset.")

    def checked(image):
        smallest, largest = tf.reduce_min(image), tf.reduce_max(image)
        message = "Float images should lie in [0, 1]. Received: values from"
        tf.debugging.Assert((smallest >= 0) & (largest <= 1), [message, smallest, "to", largest])
        return image

    return images if spec.dtype == tf.uint8 else images.map(checked, tf.data.AUTOTUNE)
