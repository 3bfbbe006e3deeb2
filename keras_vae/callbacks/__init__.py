"""Callbacks that watch a VAE while it trains."""

from keras_vae.callbacks.latent_board import LatentBoard
from keras_vae.callbacks.latent_monitor import LatentMonitor
from keras_vae.callbacks.progress_line import ProgressLine

__all__ = ["LatentBoard", "LatentMonitor", "ProgressLine"]
