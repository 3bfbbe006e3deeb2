"""A local page to play with a model: samples, reconstructions, latents, interpolations, anomalies.

The page needs the extra `explore`; `keras-vae explore NAME` starts it.
"""

from keras_vae.explore.inputs import image_from_drawing, image_from_file
from keras_vae.explore.server import serve

__all__ = ["image_from_drawing", "image_from_file", "serve"]
