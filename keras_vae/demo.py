"""The main job from end to end: load, fine-tune, draw, export, and verify what was exported."""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_vae import data, export, plots, zoo
from keras_vae.files import local_path

_EPOCHS = 12
_SEED = 0


def run(folder: str | Path, say: Callable[[str], None]) -> Path:
    """Runs the demo and leaves what it made in a folder.

    Args:
        folder: Gets `saved_model/`, `decoder.onnx`, `contact_sheet.png` and `report.txt`; those of
            an earlier run are replaced, but for `saved_model/`, which gets one more version.
        say: Called with one line at a time.

    Returns:
        The folder.

    Raises:
        ExportError: If an exported decoder differs from the model.
    """
    start, lines = time.monotonic(), []

    def tell(line):
        lines.append(line)
        say(line)

    folder = local_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(_SEED)
    vae = zoo.load("conv_mnist")
    tell(f"Loaded conv_mnist: {vae.count_params():,} parameters, {vae.latent_dim} latents.")
    train, test = digits()
    tell(
        f"Handwritten digits of scikit-learn at 28x28: {len(train)} to train, {len(test)} to test."
    )

    before = _mean_elbo(vae, test)
    tell(f"ELBO of the test digits before fine-tuning: {before:.1f} nats per image.")
    batches = data.batches(train, 64, binarization="dynamic", shuffle=True, seed=_SEED)
    vae.fit(batches, epochs=_EPOCHS, validation_data=data.batches(test, 300), verbose=2)
    after = _mean_elbo(vae, test)
    tell(f"ELBO after {_EPOCHS} epochs of model.fit: {after:.1f} nats per image.")

    plots.contact_sheet(vae, test[:48], seed=_SEED).savefig(folder / "contact_sheet.png")
    tell(f"Drew {folder / 'contact_sheet.png'}.")

    saved_model = export.to_saved_model(vae, folder / "saved_model", part="decoder")
    onnx = export.to_onnx(vae, folder / "decoder.onnx", part="decoder", overwrite=True)
    for path in (saved_model, onnx):
        parity = export.verify(path, time=True)
        one, many = (f"{parity.milliseconds[size]:.2g}" for size in (1, 64))
        tell(
            f"{path}: run by what serves it, it agrees with the model within {parity.largest:.1g}; "
            f"{one} ms for one image, {many} for 64."
        )
    tell(f"Done in {time.monotonic() - start:.0f} seconds.")
    (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's digits as MNIST has them: 20x20 in the middle of 28x28, and sharp.

    Enlarged from 8x8 they are soft, so their contrast is raised: 0.3 becomes black, 0.7 white.

    Returns:
        Grey training images and test images binarized once, (num_images, 28, 28, 1).
    """
    splits = data.load("digits", image_size=(20, 20))
    border = ((0, 0), (4, 4), (4, 4), (0, 0))
    train, validation, test = (
        np.pad(np.clip((split.images - 0.3) / 0.4, 0.0, 1.0), border) for split in splits
    )
    return np.concatenate([train, validation]), data.binarize(test, seed=777)


def _mean_elbo(vae, images):
    return float(np.mean(vae.elbo(images, num_samples=10, seed=_SEED)))
