"""What TensorBoard shows of a VAE while it trains: numbers, nats, images, and the codes."""

import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vae import metrics
from keras_vae.extras import require
from keras_vae.files import atomic_file, local_path
from keras_vae.plots.canvas import tile

_NUM_RECONSTRUCTIONS = 12
_SAMPLE_ROWS, _SAMPLE_COLUMNS = 4, 12
_CODES, _LABELS, _SPRITES = "codes.tsv", "labels.tsv", "sprites.png"
_MAX_SPRITES_SIDE = 8192  # pixels, which is what browsers draw


class LatentBoard(keras.callbacks.TensorBoard):
    """Keras' own TensorBoard callback, and beside it what only a VAE has.

    It adds a run `latents`: active units, mutual information and marginal KL as scalars, the KL
    divergence of each latent as a histogram, reconstructions and samples as images; and, when
    training ends, the codes of the data for the embedding projector, with labels and images.

    Args:
        log_dir: Folder of the logs, of this machine: `tensorboard --logdir` takes it.
        x: A few hundred held-out examples. Shape (num_examples, *event_shape).
        labels: What the projector calls and colours the codes by. Shape (num_examples,).
        every: Epochs between two sets of images.
        seed: Of the samples; they come from the same codes each time.
        **kwargs: As for `keras.callbacks.TensorBoard`.

    Raises:
        ImportError: If the `tensorboard` extra is not installed.
        ValueError: If `every` is below 1, there are not as many labels as examples, or `log_dir` is
            the address of a bucket.

    Example:

    >>> from keras_vae.models import DenseVAE
    >>> vae, x = DenseVAE((8, 8, 1), 2, hidden_units=(8,)), np.zeros((4, 8, 8, 1))
    >>> vae.compile()
    >>> history = vae.fit(x, verbose=0, callbacks=[LatentBoard("logs", x, labels=[5, 0, 4, 1])])
    >>> sorted(path.name for path in Path("logs").iterdir())
    ['codes.tsv', 'labels.tsv', 'latents', 'projector_config.pbtxt', 'sprites.png', 'train']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        x: np.ndarray,
        *,
        labels: np.ndarray | None = None,
        every: int = 1,
        seed: int = 0,
        **kwargs,
    ):
        require("tensorboard", "tensorboard", "A board needs")
        if every < 1:
            raise ValueError(f"`every` should be at least 1. Received: every={every!r}.")
        if labels is not None and np.shape(labels) != (len(x),):
            raise ValueError(
                f"`labels` should have shape ({len(x)},), one for each example. "
                f"Received: shape={np.shape(labels)}."
            )
        # The graph of a model with its own train step shows nothing of it.
        super().__init__(log_dir=os.fspath(local_path(log_dir)), **{"write_graph": False, **kwargs})
        self.x = np.asarray(x)
        self.labels = labels
        self.every = every
        self.seed = seed

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._latents = Path(self.log_dir) / "latents"
        self._writer = tf.summary.create_file_writer(os.fspath(self._latents))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        summary = metrics.latent_summary(self.model, self.x)
        with self._writer.as_default(step=epoch):
            tf.summary.scalar("active_units", summary.active_units)
            for name in ("mutual_information", "marginal_kl"):
                tf.summary.scalar(f"{name}_nats", summary.information[name])
            tf.summary.histogram("kl_per_latent_nats", summary.kl_per_latent.mean(axis=0))
            if self._has_images() and epoch % self.every == 0:
                tf.summary.image("reconstructions", self._reconstructions()[np.newaxis])
                tf.summary.image("samples", self._samples()[np.newaxis])
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._write_codes()
        self._writer.close()
        super().on_train_end(logs)

    def _has_images(self):
        return len(self.model.event_shape) == 3 and self.model.event_shape[-1] in (1, 3)

    def _reconstructions(self):
        x = self.x[:_NUM_RECONSTRUCTIONS]
        return tile(np.stack([x, self.model.reconstruct(x)]))

    def _samples(self):
        images = self.model.sample(_SAMPLE_ROWS * _SAMPLE_COLUMNS, seed=self.seed)
        return tile(np.reshape(images, (_SAMPLE_ROWS, _SAMPLE_COLUMNS, *self.model.event_shape)))

    def _write_codes(self):
        """Writes codes, labels and images as the projector reads them."""
        from tensorboard.plugins import projector

        folder = Path(self.log_dir)
        config = projector.ProjectorConfig()
        embedding = config.embeddings.add(tensor_name="posterior means", tensor_path=_CODES)
        _write_table(folder / _CODES, metrics.posterior_means(self.model, self.x))
        if self.labels is not None:
            embedding.metadata_path = _LABELS
            _write_table(folder / _LABELS, np.asarray(self.labels)[:, np.newaxis])
        if self._has_images():
            self._write_sprites(folder / _SPRITES, embedding.sprite)
        projector.visualize_embeddings(self.log_dir, config)

    def _write_sprites(self, path, sprite):
        """Writes the data as one square of images, row by row."""
        height, width, _ = self.model.event_shape
        side = int(np.ceil(np.sqrt(len(self.x))))
        if side * max(height, width) > _MAX_SPRITES_SIDE:
            return
        empty = np.zeros((side**2 - len(self.x), *self.model.event_shape), np.float32)
        images = np.concatenate([self.x, empty]).reshape(side, side, *self.model.event_shape)
        sheet = images.transpose(0, 2, 1, 3, 4).reshape(side * height, side * width, -1)
        pixels = tf.image.convert_image_dtype(np.float32(sheet), tf.uint8, saturate=True)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
        sprite.image_path = path.name
        sprite.single_image_dim.extend([width, height])


def _write_table(path, rows):
    with atomic_file(path) as draft, draft.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write("\t".join(str(value) for value in row) + "\n")
