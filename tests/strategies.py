"""The strategies that tests share."""

import functools

import tensorflow as tf


@functools.cache
def mirrored():
    """Returns the one strategy of two logical CPUs.

    One for all tests: strategies of one process number their collective operations alike, and
    TensorFlow refuses a number that comes back with another shape.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@functools.cache
def mirrored_alone():
    """Returns a strategy like it that has a single replica, as on a machine with one GPU."""
    return tf.distribute.MirroredStrategy(["CPU:0"])
