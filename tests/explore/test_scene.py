"""What the tabs show, against the model itself."""

import sys

import numpy as np
import pytest

from keras_vae import metrics, models, zoo
from keras_vae.explore import serve
from keras_vae.explore.scene import NUM_EXAMPLES, Scene, on_screen


@pytest.fixture(scope="module")
def vae():
    vae = models.DenseVAE((4, 4, 1), 3, hidden_units=(8,))
    for weight in vae.decoder.trainable_variables:
        weight.assign(3.0 * weight)
    return vae


@pytest.fixture(scope="module")
def scene(vae):
    examples = np.float32(np.random.default_rng(0).random((60, 4, 4, 1)) > 0.5)
    return Scene(vae, examples, "noise")


def test_sliders_are_ordered_by_nats(scene, vae):
    nats = metrics.kl_per_latent(vae, scene.examples).mean(axis=0)
    assert list(scene.latents) == sorted(range(3), key=lambda latent: -nats[latent])


def test_a_slider_moves_its_latent_and_no_other(scene, vae):
    z = np.zeros((1, 3))
    z[0, scene.latents[0]] = 2.0
    expected = on_screen(vae.decode(z).mean().numpy()[np.newaxis])
    np.testing.assert_array_equal(scene.decoded(scene.start(), 2.0, 0.0, 0.0), expected)
    assert (scene.decoded(scene.start(), 2.0) != scene.decoded(scene.start(), -2.0)).any()


def test_an_example_starts_at_its_reconstruction(scene, vae):
    expected = on_screen(vae.reconstruct(scene.examples[7:8]).numpy()[np.newaxis])
    difference = np.abs(scene.decoded(scene.start(7)).astype(int) - expected)
    assert difference.max() <= 1


@pytest.mark.parametrize("arc", [False, True])
def test_an_interpolation_goes_from_one_to_the_other(scene, vae, arc):
    start, end = vae.encode(scene.examples[[3, 4]]).mean().numpy()
    middle = (start + end) / 2
    if arc:  # in the direction of the straight line, and at the distance of the circle
        cosine = start @ end / np.linalg.norm(start) / np.linalg.norm(end)
        middle = middle / np.sqrt((1 + cosine) / 2)
    expected = on_screen(vae.decode(np.stack([start, middle, end])).mean().numpy()[np.newaxis])

    def differs(picture):
        return np.abs(picture.astype(int) - expected).max() > 1

    assert not differs(scene.interpolation(3, 4, 3, arc))
    assert differs(scene.interpolation(3, 4, 3, not arc))


def test_words_hold_the_elbo_and_its_parts(scene, vae):
    x = scene.examples[:1]
    _, words = scene.reconstruction(x)
    elbo = float(vae.elbo(x, 20, seed=0)[0])
    kl = float(metrics.kl_per_latent(vae, x).sum())
    assert f"ELBO {elbo:.1f} nats: reconstruction {-elbo - kl:.1f}, KL {kl:.1f}." in words


def test_an_image_is_an_anomaly_above_the_threshold(make_noiseless_vae, images):
    scene = Scene(make_noiseless_vae(), images, "halves")
    order = np.argsort(scene.scores)
    assert scene.threshold == scene.scores.max()  # one in a hundred of 32 is none
    scene.threshold = float(np.median(scene.scores))
    strange, figure = scene.anomaly(images[order[-1:]])
    plain, _ = scene.anomaly(images[order[:1]])
    assert strange.startswith("An anomaly")
    assert plain.startswith("No anomaly")
    assert f"the threshold {scene.threshold:.1f}" in plain
    marked = figure.axes[0].lines[-1].get_xdata()[0]
    assert marked == pytest.approx(scene.scores.max(), abs=1e-3)


def test_any_number_of_samples_makes_a_sheet(scene):
    one, many = scene.samples(1, 0), scene.samples(11, 0)
    assert one.ndim == many.ndim == 3
    assert min(one.shape[:2]) >= 320
    np.testing.assert_array_equal(scene.samples(11, 0), many)


def test_a_model_without_data_is_explored_by_its_samples(vae, tmp_path):
    scene = Scene.load(zoo.save(vae, tmp_path / "mine"))
    assert scene.origin == "samples of the model"
    assert scene.examples.shape == (NUM_EXAMPLES, 4, 4, 1)
    assert set(np.unique(scene.examples)) == {0.0, 1.0}


def test_models_of_anything_but_images_are_refused():
    vae = models.DenseVAE((7,), 2, hidden_units=(4,))
    with pytest.raises(ValueError, match=r"Received: event_shape=\(7,\)"):
        Scene(vae, np.zeros((5, 7), np.float32), "vectors")


def test_a_missing_gradio_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"keras-vae\[explore\]"):
        serve("dense_digits")
