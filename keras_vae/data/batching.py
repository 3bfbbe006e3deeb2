"""Images -> `tf.data` batches, each epoch in an order and with noise of its own."""

import numpy as np
import tensorflow as tf

from keras_vae.data.autotuning import without_autotuning
from keras_vae.data.binarization import (
    BINARIZATIONS,
    bernoulli,
    binarize_by_content,
    binomial,
    check_array,
    unit_interval,
)
from keras_vae.data.rows import PREFETCHED_BATCHES, batch_rows
from keras_vae.data.seeds import EPOCH, NOISE, SHUFFLE, seed_of_epoch, seeds_of_batches

_SHUFFLE_BUFFER_BYTES = 2**28
_TENSOR_BYTES = 160  # of each image that waits in a buffer, besides its pixels; measured


def batches(
    images: np.ndarray | tf.data.Dataset,
    batch_size: int,
    *,
    binarization: str = "none",
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
    epoch: tf.Variable | None = None,
    input_context: tf.distribute.InputContext | None = None,
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

    Where several workers train, each takes its part of every batch. Arrays, and streams without
    `input_context`, are sharded by example: every worker goes through all of them, and batches are
    the same whatever the number of workers. A stream with `input_context` is this worker's share
    already, and gives its part of each batch, with noise of its own; `load` shards by file.

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
        input_context: The worker that a stream is the share of, as it was given to `load`.

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
    if epoch is not None and not (
        isinstance(epoch, tf.Variable) and epoch.dtype == tf.int64 and epoch.shape.rank == 0
    ):
        raise ValueError(
            f"epoch should be a scalar tf.Variable of int64. Received: epoch={epoch!r}."
        )
    is_share, unmade = False, None
    if isinstance(images, tf.data.Dataset):
        images = _checked_stream(images)
        if binarization == "fixed":
            images = images.map(lambda image: binarize_by_content(image, seed), tf.data.AUTOTUNE)
        is_share = input_context is not None and input_context.num_input_pipelines > 1
        if is_share:
            seed = _seed_of_worker(seed, input_context.input_pipeline_id)
        dataset = _batch_stream(images, batch_size, shuffle, seed, drop_remainder, epoch)
        if binarization == "dynamic":
            dataset = tf.data.Dataset.zip(dataset, seeds_of_batches(seed, NOISE, epoch))
            dataset = dataset.map(_binary_batch, tf.data.AUTOTUNE)
        else:
            dataset = dataset.map(unit_interval, tf.data.AUTOTUNE)
    else:
        check_array(images)
        if images.ndim != 4:
            raise ValueError(
                "images should have shape (num_examples, height, width, channels). "
                f"Received: images of shape {images.shape}."
            )
        if binarization == "fixed":
            images = binomial(images, seed)
        is_random = shuffle or binarization == "dynamic"
        unmade = batch_rows(
            images,
            batch_size,
            _binary_batch if binarization == "dynamic" else _gray_batch,
            seed=seed_of_epoch(seed, EPOCH, epoch) if is_random else None,
            shuffle=shuffle,
            drop_remainder=drop_remainder,
        )
        dataset = unmade.made()
    if dataset.cardinality() == 0:
        raise ValueError(
            "batch_size should be at most the number of images, when the remainder is dropped. "
            f"Received: batch_size={batch_size}."
        )
    policies = tf.data.experimental.AutoShardPolicy
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = policies.OFF if is_share else policies.DATA
    if is_share:  # The longest share decides how many there are.
        dataset = _without_cardinality(dataset)
    dataset = without_autotuning(dataset.with_options(options)).prefetch(PREFETCHED_BATCHES)
    dataset.value_range = (0.0, 1.0)  # `checks.check_data` need not look again
    dataset.unmade = unmade
    return dataset


def _gray_batch(images, seed):
    return unit_interval(images)


def _binary_batch(images, seed):
    return bernoulli(unit_interval(images), seed)


def _batch_stream(images, batch_size, shuffle, seed, drop_remainder, epoch):
    if shuffle:
        spec = images.element_spec
        image_bytes = spec.shape.num_elements() * spec.dtype.size + _TENSOR_BYTES
        buffer_size = max(1, _SHUFFLE_BUFFER_BYTES // image_bytes)
        if epoch is None:
            images = images.shuffle(buffer_size, seed=seed)
        else:
            calm, num_images = images, images.cardinality()
            images = seed_of_epoch(seed, SHUFFLE, epoch)
            images = images.flat_map(lambda seeds: _shuffled_once(calm, buffer_size, seeds))
            if num_images >= 0:
                images = images.apply(tf.data.experimental.assert_cardinality(num_images))
    return images.batch(batch_size, drop_remainder)


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


def _seed_of_worker(seed, worker):
    return int(np.random.SeedSequence([seed, worker]).generate_state(1)[0])


def _without_cardinality(dataset):
    return tf.data.Dataset.range(1).flat_map(lambda _: dataset)


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
