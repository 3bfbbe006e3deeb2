"""What an export says of itself: where it is from, and the proof that it still is what it was."""

import base64
import hashlib
import importlib.metadata
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vae.export.proof import ExportError, Proof
from keras_vae.vae import VAE

_FOLDER = Path("assets.extra", "keras_vae")
_METADATA, _PROOF = "metadata.json", "proof.npz"


class Carried(NamedTuple):
    """Metadata, text by name, and the proof."""

    metadata: dict[str, str]
    proof: Proof


def describe(
    model: VAE, part: str, signature: str, *, uint8_images: bool, metadata: Mapping[str, str] | None
) -> dict[str, str]:
    """Returns what every export says: model, part, range and dtype of images, and the weights.

    `weights_sha256` is that of the part's weights, each as little-endian float32, in Keras' order.

    Args:
        model: The model.
        part: "decoder", "encoder" or "vae".
        signature: Name of the signature that is served by default.
        uint8_images: Whether images come as uint8.
        metadata: What the caller adds, such as a licence. It may not replace what is said here.

    Raises:
        ValueError: If it would.
    """
    low, high = (-np.inf, np.inf) if part == "decoder" else model.likelihood.support
    uint8_images = uint8_images and part != "decoder"  # which takes none
    own = {
        "name": model.name,
        "class": type(model).__name__,
        "part": part,
        "signature": signature,
        "event_shape": json.dumps(list(model.event_shape)),
        "latent_dim": str(model.latent_dim),
        "likelihood": type(model.likelihood).__name__,
        "input_range": "0 to 255" if uint8_images else f"{low:g} to {high:g}",
        "image_dtype": "uint8" if uint8_images else "float32",
        "weights_sha256": weights_sha256(model, part),
        "keras_vae_version": importlib.metadata.version("keras-vae"),
    }
    added = {key: str(value) for key, value in (metadata or {}).items()}
    if taken := sorted((set(own) - {"name"} | {"proof"}) & set(added)):
        raise ValueError(f"`metadata` cannot replace what the export says. Received: {taken[0]!r}.")
    return own | added


def weights_sha256(model: VAE, part: str) -> str:
    """Returns the sha256 of all weights that a part's answers depend on, in hexadecimal digits."""
    encoder, decoder = [model.encoder, model.posterior], [model.decoder, model.likelihood]
    layers = {"decoder": decoder, "encoder": encoder}.get(part, [*encoder, *decoder])
    digest = hashlib.sha256()
    for layer in (*layers, model.prior):
        for weight in layer.get_weights():
            digest.update(np.ascontiguousarray(weight, "<f4").tobytes())
    return digest.hexdigest()


def write_into_saved_model(folder: Path, carried: Carried) -> None:
    """Writes it where a SavedModel keeps what the server passes over."""
    (folder / _FOLDER).mkdir(parents=True)
    (folder / _FOLDER / _METADATA).write_text(json.dumps(carried.metadata, indent=2) + "\n")
    (folder / _FOLDER / _PROOF).write_bytes(carried.proof.to_bytes())


def write_into_onnx(proto, carried: Carried) -> None:
    """Writes it among the properties of an ONNX model, the proof in base64."""
    import onnx

    proto.producer_name = "keras-vae"
    proto.producer_version = carried.metadata["keras_vae_version"]
    proof = base64.b64encode(carried.proof.to_bytes()).decode()
    onnx.helper.set_model_props(proto, {**carried.metadata, "proof": proof})


def append_to_litert(path: Path, carried: Carried) -> None:
    """Appends it as an archive, as LiteRT models carry their associated files."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_METADATA, json.dumps(carried.metadata, indent=2))
        archive.writestr(_PROOF, carried.proof.to_bytes())


def read_carried(format: str, path: Path) -> Carried:
    """Reads what an export carries.

    Raises:
        ExportError: If it carries nothing that can be read.
    """
    try:
        metadata, proof = _READERS[format](path)
        return Carried(metadata, Proof.from_bytes(proof))
    except Exception as error:  # onnx and zipfile raise whatever they stumble over.
        raise ExportError(
            f"{path} carries no proof of what it should answer, or is broken: export it again "
            f"({type(error).__name__}: {error})."
        ) from error


def read_metadata_of_saved_model(folder: Path) -> dict[str, str]:
    """Reads what a version says of itself.

    Raises:
        OSError: If it says nothing.
        ValueError: If that is no JSON.
    """
    return json.loads((folder / _FOLDER / _METADATA).read_text())


def _read_saved_model(folder):
    metadata = read_metadata_of_saved_model(folder)
    return metadata, (folder / _FOLDER / _PROOF).read_bytes()


def _read_onnx(path):
    import onnx

    proto = onnx.load(path, load_external_data=False)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return metadata, base64.b64decode(metadata.pop("proof"), validate=True)


def _read_litert(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(_METADATA)), archive.read(_PROOF)


_READERS = {"saved_model": _read_saved_model, "onnx": _read_onnx, "litert": _read_litert}
