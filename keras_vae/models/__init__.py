"""The variants: final `VAE`s that name a choice of parts and rebuild from flat arguments."""

from keras_vae.models.beta_vae import BetaVAE
from keras_vae.models.conv_vae import ConvVAE
from keras_vae.models.dense_vae import DenseVAE

__all__ = ["BetaVAE", "ConvVAE", "DenseVAE"]
