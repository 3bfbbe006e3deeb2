"""Figures of images: they show the images that the model gives, and are only returned."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_vae import plots


def test_reconstructions_stand_below_their_inputs(vae, images, shown):
    figure = plots.reconstructions(vae, images[:5])
    assert isinstance(figure, Figure)
    np.testing.assert_allclose(shown(figure, 0, 2), images[2, ..., 0])
    np.testing.assert_allclose(shown(figure, 1, 2), vae.reconstruct(images[2:3])[0, ..., 0], 1e-5)


def test_samples_are_those_of_the_seed(vae, shown):
    expected = vae.sample(72, seed=5)[13, ..., 0]
    np.testing.assert_allclose(shown(plots.samples(vae, seed=5), 1, 1), expected, rtol=1e-5)


def test_color_images_keep_their_channels(color_vae, color_images, shown):
    figure = plots.reconstructions(color_vae, color_images[:5])
    np.testing.assert_allclose(shown(figure, 0, 4), color_images[4])


def test_contact_sheet_has_four_titled_pictures(vae, images, tmp_path):
    figure = plots.contact_sheet(vae, images, seed=0)
    assert all(axes.get_title() for axes in figure.axes)
    assert len(figure.axes) == 4
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_contact_sheet_says_how_many_examples_it_needs(vae, images):
    with pytest.raises(ValueError, match="at least 24 examples. Received: 3"):
        plots.contact_sheet(vae, images[:3])


@pytest.mark.parametrize(
    "draw",
    [
        lambda vae, x: plots.arithmetic(vae, x, x, x),
        lambda vae, x: plots.contact_sheet(vae, x),
        lambda vae, x: plots.interpolation(vae, x, x),
        lambda vae, x: plots.latent_grid(vae, x),
        lambda vae, x: plots.reconstructions(vae, x),
        lambda vae, x: plots.samples(vae),
        lambda vae, x: plots.traversal(vae, x),
    ],
)
def test_what_is_no_image_is_refused(vector_vae, vectors, draw):
    with pytest.raises(ValueError, match=r"\(height, width, 1\).*event_shape=\(7,\)"):
        draw(vector_vae, vectors)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_pages_of_reconstructions_hold_their_text(vae, images, check_page, count):
    check_page(plots.reconstructions(vae, images[:count]))


def test_pages_of_images_hold_their_text(vae, color_vae, images, color_images, check_page):
    check_page(plots.samples(color_vae))
    check_page(plots.contact_sheet(vae, images))
    check_page(plots.contact_sheet(color_vae, color_images))


def test_figures_leave_pyplot_alone(vae, images):
    plots.reconstructions(vae, images[:2])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_missing_matplotlib_is_answered_with_how_to_install_it(vae, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[plots\]"'):
        plots.samples(vae)
