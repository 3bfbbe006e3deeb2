"""Checks of the data that a VAE is given, before any of it reaches the network."""

import numpy as np
import tensorflow as tf

_SCALE_HINT = " Scale it: `images.astype('float32') / 255`."


def check_data(data, event_shape: tuple[int, ...], support: tuple[float, float]):
    """Returns `data`, checked as far as can be done before it is used.

    Arrays and tensors are checked at once. A `tf.data.Dataset` has its shape checked at once and
    gets its values checked as they stream by. Anything else (generators, `PyDataset`s, data that a
    strategy has distributed already) is left to the network.

    Args:
        data: An array or tensor, (batch, *event_shape), or a dataset of them, alone or as the
            first of a tuple.
        event_shape: Shape of one example.
        support: Smallest and largest value allowed.

    Raises:
        ValueError: If the shape is wrong, there are no examples, or a value is not finite or
            outside of `support`. Values that stream by raise TensorFlow's `InvalidArgumentError`.
    """
    if isinstance(data, tf.data.Dataset):
        return _check_dataset(data, event_shape, support)
    if isinstance(data, list | tuple):
        data = np.asarray(data)
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        _check_shape(tuple(data.shape), event_shape)
        if not (tf.is_tensor(data) and not hasattr(data, "numpy")):  # not a symbolic tensor
            _check_values(np.asarray(data), support)
    return data


def _check_dataset(dataset, event_shape, support):
    spec = dataset.element_spec
    spec = spec[0] if isinstance(spec, tuple) else spec
    if not isinstance(spec, tf.TensorSpec):
        return dataset
    _check_shape(spec.shape, event_shape)
    if dataset.cardinality() == 0:
        raise ValueError("The data set should hold at least one batch. Received: an empty one.")
    known = getattr(dataset, "value_range", None)  # `data.batches` has checked its images
    if known is not None and support[0] <= known[0] and known[1] <= support[1]:
        return dataset

    def check(first, *others):
        first = tf.ensure_shape(first, (None, *event_shape))
        values = tf.cast(first, tf.float32)
        smallest, largest = tf.reduce_min(values), tf.reduce_max(values)
        is_pixels = (smallest >= 0) & (largest <= 255) & (support == (0.0, 1.0))
        hint = tf.where(is_pixels, _SCALE_HINT, "")
        message = tf.strings.format("Received: values from {} to {}.", (smallest, largest)) + hint
        tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(values)), ["Data should be finite."])
        good = (smallest >= support[0]) & (largest <= support[1])
        tf.debugging.Assert(good, [f"{_range(support)} " + message])
        return (first, *others) if others else first

    return dataset.map(check)


def _check_shape(shape, event_shape):
    shape = tf.TensorShape(shape)
    expected = tf.TensorShape((None, *event_shape))
    if not shape.is_compatible_with(expected):
        message = f"Data should have shape {_show(expected)}. Received: shape={_show(shape)}."
        if shape.is_compatible_with(event_shape):
            message += " Batch it; for one example, `images[np.newaxis]`."
        elif event_shape[-1] == 1 and shape.is_compatible_with((None, *event_shape[:-1])):
            message += " For one channel, add the axis: `images[..., np.newaxis]`."
        raise ValueError(message)
    if shape.rank and shape[0] == 0:
        raise ValueError(f"Data should hold at least one example. Received: shape={_show(shape)}.")


def _show(shape):
    if shape.rank is None:
        return "unknown"
    names = ["batch" if size is None else str(size) for size in shape]
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _check_values(values, support):
    smallest, largest = values.min(), values.max()
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        bad = int(np.size(values) - np.isfinite(values).sum())
        raise ValueError(
            f"Data should be finite. Received: {bad} values that are NaN or infinite, "
            "such as a division by zero leaves behind."
        )
    if smallest < support[0] or largest > support[1]:
        message = f"{_range(support)} Received: values from {smallest:g} to {largest:g}."
        if support == (0.0, 1.0) and smallest >= 0 and largest <= 255:
            message += _SCALE_HINT
        raise ValueError(message)


def _range(support):
    return f"Data should lie in [{support[0]:g}, {support[1]:g}] for this likelihood."
