"""Figures of what a VAE has learnt. They are returned, never shown or saved."""

from keras_vae.plots.codes import encoded, posteriors
from keras_vae.plots.images import contact_sheet, reconstructions, samples
from keras_vae.plots.latents import arithmetic, interpolation, latent_grid, traversal
from keras_vae.plots.lessons import lesson_models, three_lessons
from keras_vae.plots.summaries import latent_nats, score_histogram
from keras_vae.plots.training import kl_over_training, rate_distortion

__all__ = [
    "arithmetic",
    "contact_sheet",
    "encoded",
    "interpolation",
    "kl_over_training",
    "latent_grid",
    "latent_nats",
    "lesson_models",
    "posteriors",
    "rate_distortion",
    "reconstructions",
    "samples",
    "score_histogram",
    "three_lessons",
    "traversal",
]
