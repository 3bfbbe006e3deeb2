"""Data sets: a name -> train, validation and test images -> `tf.data` batches."""

from keras_vae.data.batching import batches
from keras_vae.data.binarization import BINARIZATIONS, binarize
from keras_vae.data.sets import Split, Splits, load

__all__ = ["BINARIZATIONS", "Split", "Splits", "batches", "binarize", "load"]
