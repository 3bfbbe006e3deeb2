"""Watches the latents while a VAE trains, and warns if they collapse."""

import logging

import keras
import numpy as np

from keras_vae import metrics

_logger = logging.getLogger(__name__)


class LatentMonitor(keras.callbacks.Callback):
    """Measures each latent at the end of every epoch, and warns if the code collapses.

    It adds `active_units` and `mutual_information` to the logs, where `CSVLogger`, `TensorBoard`
    and the like find them if they stand after it in the list. A code has collapsed when the
    posterior has become the prior, so that latents say nothing of the data: a decoder that models
    the data without them, or a KL term that weighs too much too early, leads there.

    Args:
        x: A few hundred held-out examples. Shape (num_examples, *event_shape).
        patience: Epochs without an active unit, or with less mutual information than `min_nats`,
            before it warns, once.
        min_nats: Mutual information, in nats, below which a code counts as collapsed.

    Attributes:
        kl_per_latent: Mean KL divergence of each latent, nats, one array of shape (latent_dim,) for
            each epoch.

    Raises:
        ValueError: If `patience` is below 1 or `min_nats` below 0.

    References:
        Bowman et al. 2016, "Generating Sentences from a Continuous Space".
        He et al. 2019, "Lagging Inference Networks and Posterior Collapse in VAEs".
    """

    def __init__(self, x: np.ndarray, *, patience: int = 5, min_nats: float = 0.1):
        super().__init__()
        if patience < 1:
            raise ValueError(f"`patience` should be at least 1. Received: patience={patience!r}.")
        if not min_nats >= 0:
            raise ValueError(f"`min_nats` should be at least 0. Received: min_nats={min_nats!r}.")
        self.x = x
        self.patience = patience
        self.min_nats = min_nats

    def on_train_begin(self, logs=None):
        self.kl_per_latent = []
        self._epochs_collapsed = 0

    def on_epoch_end(self, epoch, logs=None):
        summary = metrics.latent_summary(self.model, self.x)
        kl, active = summary.kl_per_latent.mean(axis=0), summary.active_units
        mutual = summary.information["mutual_information"]
        self.kl_per_latent.append(kl)
        if logs is not None:
            logs |= {"active_units": active, "mutual_information": mutual}
        self._epochs_collapsed += 1
        if active > 0 and mutual >= self.min_nats:
            self._epochs_collapsed = 0
        if self._epochs_collapsed == self.patience:
            _logger.warning(
                "The latents have collapsed onto the prior: after epoch %d, %d of %d are active "
                "and tell %.3f nats about an example (KL per latent at most %.3f nats), for %d "
                "epochs now. What helps: warm up the KL term (`ELBO(beta=Linear(num_steps=...))`), "
                "give each latent some nats for free (`ELBO(free_bits=0.1)`), lower beta, or take "
                "a smaller decoder.",
                epoch + 1,
                active,
                len(kl),
                mutual,
                kl.max(),
                self.patience,
            )
