"""Figures: they show the images that the model gives, and are only returned."""

import sys

import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure

from keras_vae import metrics, models, plots


@pytest.fixture(scope="module")
def vae():
    return models.DenseVAE((6, 5, 1), 3, hidden_units=(8,))


@pytest.fixture(scope="module")
def images():
    return (np.random.default_rng(0).random((24, 6, 5, 1)) > 0.5).astype("float32")


def shown(figure, row, column, axes=0):
    """Returns the image that a figure shows at a place of its sheet."""
    sheet = np.asarray(figure.axes[axes].images[0].get_array())
    return sheet[8 * row : 8 * (row + 1), 7 * column : 7 * (column + 1)][1:-1, 1:-1]


def test_reconstructions_stand_below_their_inputs(vae, images):
    figure = plots.reconstructions(vae, images[:5])
    assert isinstance(figure, Figure)
    np.testing.assert_allclose(shown(figure, 0, 2), images[2, ..., 0])
    np.testing.assert_allclose(shown(figure, 1, 2), vae.reconstruct(images[2:3])[0, ..., 0], 1e-5)


def test_samples_are_those_of_the_seed(vae):
    expected = vae.sample(72, seed=5)[13, ..., 0]
    np.testing.assert_allclose(shown(plots.samples(vae, seed=5), 1, 1), expected, rtol=1e-5)


def test_interpolation_ends_at_the_reconstruction_of_the_second_image(vae, images):
    figure = plots.interpolation(vae, images[:2], images[2:4])
    expected = vae.reconstruct(images[3:4])[0, ..., 0]
    np.testing.assert_allclose(shown(figure, 1, 11), expected, rtol=1e-4)


def test_grid_varies_the_two_latents_with_most_nats_by_quantiles(vae, images):
    figure = plots.latent_grid(vae, images, size=4)
    first, second = np.argsort(-metrics.kl_per_latent(vae, images).mean(axis=0))[:2]
    z = np.zeros((1, 3), "float32")
    z[0, first], z[0, second] = scipy.stats.norm.ppf([0.65, 0.95])
    expected = vae.decode(z).mean()[0, ..., 0]
    np.testing.assert_allclose(shown(figure, 3, 2), expected, rtol=1e-4)
    assert figure.axes[0].get_xlabel() == f"latent {first}"


def test_contact_sheet_has_four_titled_pictures(vae, images, tmp_path):
    figure = plots.contact_sheet(vae, images, seed=0)
    assert all(axes.get_title() for axes in figure.axes)
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_contact_sheet_says_how_many_examples_it_needs(vae, images):
    with pytest.raises(ValueError, match="at least 24 examples. Received: 3"):
        plots.contact_sheet(vae, images[:3])


def test_missing_matplotlib_is_answered_with_how_to_install_it(vae, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[plots\]"'):
        plots.samples(vae)
