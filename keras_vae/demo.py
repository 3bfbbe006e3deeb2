"""The main job from end to end: load, fine-tune, draw, export, and serve from fresh processes."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_vae import data, export, plots, zoo

_EPOCHS = 12
_SEED = 0

# What each fresh process runs: only the runtime that will serve the file, never keras_vae.
_RUNTIMES = {
    "saved_model": """
import sys, numpy as np, tensorflow as tf
decode = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
image = decode(z=tf.constant(np.load(sys.argv[2])))["image"].numpy()
""",
    "onnx": """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = session.run(["image"], {"z": np.load(sys.argv[2])})[0]
""",
}
_EPILOGUE = """
assert "keras_vae" not in sys.modules
np.save(sys.argv[3], image)
"""


def run(folder: str | Path, say: Callable[[str], None]) -> Path:
    """Runs the demo and leaves what it made in a folder.

    Args:
        folder: Gets `saved_model/`, `decoder.onnx`, `contact_sheet.png` and `report.txt`; what an
            earlier run left there is replaced.
        say: Called with one line at a time.

    Returns:
        The folder.

    Raises:
        RuntimeError: If an exported decoder differs from the model.
    """
    start, lines = time.monotonic(), []

    def tell(line):
        lines.append(line)
        say(line)

    folder = Path(folder)
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
    z = vae.prior.distribution().sample(64, seed=(_SEED, 0)).numpy()
    expected = vae.decode(z).mean().numpy()
    for runtime, path in (("saved_model", saved_model), ("onnx", onnx)):
        difference = np.abs(_serve(runtime, path, z) - expected).max()
        if not difference < 1e-5:
            raise RuntimeError(f"{path} differs from the model by {difference:.2g}.")
        tell(f"{path}: a fresh process without keras_vae agrees within {difference:.1g}.")
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


def _serve(runtime, path, z):
    """Returns what a fresh process decodes from `z` with the exported file at `path`."""
    with tempfile.TemporaryDirectory() as scratch:
        latents, images = Path(scratch, "z.npy"), Path(scratch, "image.npy")
        np.save(latents, z)
        program = _RUNTIMES[runtime] + _EPILOGUE
        command = [sys.executable, "-c", program, str(path), str(latents), str(images)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{path} cannot be served:\n{result.stderr}")
        return np.load(images)
