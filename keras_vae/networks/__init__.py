"""Builders of encoders and decoders: each returns a `keras.Model` from tensors to parameters."""

from keras_vae.networks.conv import conv_decoder, conv_encoder
from keras_vae.networks.dense import dense_decoder, dense_encoder

__all__ = ["conv_decoder", "conv_encoder", "dense_decoder", "dense_encoder"]
