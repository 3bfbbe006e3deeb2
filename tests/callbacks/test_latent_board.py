"""What TensorBoard is given, read back from its files."""

import io
import sys

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from keras_vae import metrics, models
from keras_vae.callbacks import LatentBoard
from keras_vae.plots.canvas import tile

pytest.importorskip("tensorboard", reason='No board: pip install "keras-vae[tensorboard]".')

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from tensorboard.plugins import projector  # noqa: E402
from tensorboard.util import tensor_util  # noqa: E402

LABELS = np.arange(32) % 10


@pytest.fixture(scope="module")
def trained(images, make_vae, tmp_path_factory):
    """A model after three epochs, its history, and the folder of its logs."""
    vae, folder = make_vae(), tmp_path_factory.mktemp("logs")
    vae.compile()
    board = LatentBoard(folder, images, labels=LABELS, every=2)
    history = vae.fit(
        images, validation_data=images, epochs=3, batch_size=8, callbacks=[board], verbose=0
    )
    return vae, history.history, folder


def read(folder, tag):
    """Returns (epoch, value) of every event of a tag."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return [
        (event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)
    ]


@pytest.mark.parametrize("name", ["elbo", "reconstruction", "kl"])
def test_scalars_are_those_of_the_history(trained, name):
    _, history, folder = trained
    for run, prefix in (("train", ""), ("validation", "val_")):
        events = read(folder / run, f"epoch_{name}")
        assert [step for step, _ in events] == [0, 1, 2]
        values = [float(value) for _, value in events]
        np.testing.assert_allclose(values, history[prefix + name], rtol=1e-6)


def test_latents_are_measured_after_every_epoch(trained, images):
    vae, _, folder = trained
    summary = metrics.latent_summary(vae, images)
    active = read(folder / "latents", "active_units")
    assert [step for step, _ in active] == [0, 1, 2]
    assert active[-1][1] == summary.active_units
    for name in ("mutual_information", "marginal_kl"):
        measured = read(folder / "latents", f"{name}_nats")[-1][1]
        assert measured == pytest.approx(summary.information[name], abs=1e-5)


def test_the_histogram_counts_the_nats_of_each_latent(trained, images):
    vae, _, folder = trained
    nats = metrics.kl_per_latent(vae, images).mean(axis=0)
    _, buckets = read(folder / "latents", "kl_per_latent_nats")[-1]
    assert buckets[:, 2].sum() == len(nats)
    filled = buckets[buckets[:, 2] > 0]
    assert filled[0, 0] <= nats.min() + 1e-6
    assert filled[-1, 1] >= nats.max() - 1e-6


def test_images_come_every_other_epoch_and_are_those_of_the_model(trained, images):
    vae, _, folder = trained
    sheets = {
        "reconstructions": tile(np.stack([images[:12], vae.reconstruct(images[:12])])),
        "samples": tile(np.reshape(vae.sample(48, seed=0), (4, 12, 8, 8, 1))),
    }
    for tag, expected in sheets.items():
        events = read(folder / "latents", tag)
        assert [step for step, _ in events] == [0, 2]
        width, height, png = events[-1][1]
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        assert (int(height), int(width)) == pixels.shape == expected.shape[:2]
        np.testing.assert_allclose(pixels / 255, expected[..., 0], atol=1 / 255)


def test_the_projector_finds_codes_labels_and_images(trained, images):
    vae, _, folder = trained
    config = projector.ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (embedding,) = config.embeddings
    codes = np.loadtxt(folder / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(codes, metrics.posterior_means(vae, images), rtol=1e-6)
    labels = (folder / embedding.metadata_path).read_text().split()
    assert labels == [str(label) for label in LABELS]
    assert list(embedding.sprite.single_image_dim) == [8, 8]
    sprites = np.asarray(Image.open(folder / embedding.sprite.image_path))
    assert sprites.shape == (48, 48)  # 32 images of 8x8, six in a row
    np.testing.assert_array_equal(sprites[8:16, 16:24] / 255, images[6 + 2, ..., 0])


def test_what_is_no_image_has_numbers_and_codes(tmp_path):
    x = np.zeros((5, 7), np.float32)
    vae = models.DenseVAE((7,), 2, hidden_units=(4,))
    vae.compile()
    vae.fit(x, verbose=0, callbacks=[LatentBoard(tmp_path, x)])
    assert len(read(tmp_path / "latents", "active_units")) == 1
    assert (tmp_path / "codes.tsv").exists()
    assert not (tmp_path / "sprites.png").exists()


@pytest.mark.parametrize("wrong", [{"every": 0}, {"labels": [1, 2]}])
def test_settings_that_do_not_fit_are_refused(images, tmp_path, wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` should"):
        LatentBoard(tmp_path, images, **wrong)


def test_a_missing_tensorboard_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"keras-vae\[tensorboard\]"):
        LatentBoard(tmp_path, images)
