"""Codes: densities of single posteriors, and maps of where a data set is encoded."""

import sys

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_rgb

from keras_vae import metrics, models, plots
from keras_vae.distributions import FullCovarianceNormal


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(figure, axes=0):
    return [np.asarray(group.get_offsets()) for group in figure.axes[axes].collections]


@pytest.mark.parametrize("posterior", [None, FullCovarianceNormal()])
def test_posteriors_are_the_marginal_densities_of_each_example(images, posterior):
    vae = models.DenseVAE((6, 5, 1), 3, hidden_units=(8,), posterior=posterior)
    figure = plots.posteriors(vae, images[:4], latents=[2, 0])
    q = vae.encode(images[:4])
    for axes, latent in zip(figure.axes, (2, 0), strict=True):
        assert len(axes.lines) == 4
        for index, line in enumerate(axes.lines):
            z, density = line.get_data()
            loc, scale = q.mean()[index, latent], q.stddev()[index, latent]
            expected = scipy.stats.norm.pdf(z, loc, scale)
            np.testing.assert_allclose(density, expected, rtol=1e-4)
            assert z.min() < loc - 3 * scale < loc + 3 * scale < z.max()


def test_posteriors_stand_before_the_prior(vae, images):
    figure = plots.posteriors(vae, images[:2])
    (outline,) = figure.axes[0].collections[0].get_paths()
    z, density = outline.vertices.T
    np.testing.assert_allclose(density.max(), scipy.stats.norm.pdf(0), rtol=1e-5)
    assert legend_of(figure) == ["prior", "example 0", "example 1"]


def test_posteriors_choose_the_latents_with_most_nats(vae, images):
    figure = plots.posteriors(vae, images[:5])
    nats = metrics.kl_per_latent(vae, images[:5]).mean(axis=0)
    expected = [f"latent {index}: {nats[index]:.2f} nats" for index in np.argsort(-nats)]
    assert [axes.get_title() for axes in figure.axes] == expected
    assert {axes.get_ylabel() for axes in figure.axes} == {"density"}


def test_markers_stand_on_the_posterior_means(vae, images):
    axes = plots.posteriors(vae, images[:2], latents=[1]).axes[0]
    for line, mean in zip(axes.lines, vae.encode(images[:2]).mean()[:, 1], strict=True):
        (index,) = line.get_markevery()
        np.testing.assert_allclose(line.get_xdata()[index], mean, atol=1e-6)


def test_panels_that_no_latent_needs_are_blank(images):
    vae = models.DenseVAE((6, 5, 1), 4, hidden_units=(8,))
    figure = plots.posteriors(vae, images[:2])
    assert [axes.axison for axes in figure.axes] == [True] * 4 + [False] * 2


def test_posteriors_of_too_many_examples_are_refused(vae, images):
    with pytest.raises(ValueError, match="one to 10 examples. Received: 24"):
        plots.posteriors(vae, images)


@pytest.mark.parametrize("latents", [[3], [-1], []])
def test_posteriors_of_latents_that_are_not_there_are_refused(vae, images, latents):
    with pytest.raises(ValueError, match="from 0 to 2. Received: latents="):
        plots.posteriors(vae, images[:2], latents=latents)


def test_two_latents_are_shown_as_they_are(vector_vae, vectors):
    labels = np.arange(24) % 3
    figure = plots.encoded(vector_vae, vectors, labels)
    means = vector_vae.encode(vectors).mean().numpy()
    for label, drawn in enumerate(points(figure)):
        np.testing.assert_allclose(drawn, means[labels == label], rtol=1e-5)
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latent 0", "latent 1")


def test_more_latents_are_projected_on_their_principal_components(vae, images):
    figure = plots.encoded(vae, images, np.zeros(24))
    means = vae.encode(images).mean().numpy().astype("float64")
    centred = means - means.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    # A component's sign is a convention.
    expected = np.abs(centred @ directions[:2].T)
    np.testing.assert_allclose(np.abs(points(figure)[0]), expected, atol=1e-5)
    share = singular[1] ** 2 / np.sum(singular**2)
    assert figure.axes[0].get_ylabel() == f"PCA 2 ({share:.1%} of the variance)"


class Halves:
    """A projection of one's own: what `fit_transform` gives is what is shown."""

    def fit_transform(self, codes):
        return codes[:, 1:] / 2


def test_a_projection_of_ones_own_is_used_and_named(vae, images):
    figure = plots.encoded(vae, images, np.zeros(24), projection=Halves())
    expected = vae.encode(images).mean().numpy()[:, 1:] / 2
    np.testing.assert_allclose(points(figure)[0], expected, rtol=1e-5)
    assert figure.axes[0].get_xlabel() == "Halves 1"


def test_a_projection_onto_anything_but_two_is_refused(vector_vae, vectors):
    with pytest.raises(ValueError, match=r"shape \(24, 2\). Received: shape=\(24, 1\)"):
        plots.encoded(vector_vae, vectors, np.zeros(24), projection=Halves())


def test_labels_have_names_colors_and_markers_of_their_own(vector_vae, vectors):
    labels = np.array(["cat", "dog", "eel", "fox"])[np.arange(24) % 4]
    figure = plots.encoded(vector_vae, vectors, labels)
    assert legend_of(figure) == ["cat", "dog", "eel", "fox"]
    groups = figure.axes[0].collections
    shapes = {group.get_paths()[0].vertices.round(6).tobytes() for group in groups}
    luminance = [np.dot(to_rgb(group.get_facecolor()[0]), [0.3, 0.6, 0.1]) for group in groups]
    assert len(shapes) == 4
    assert min(np.diff(luminance)) > 0.05


def test_labels_are_one_for_each_example(vector_vae, vectors):
    with pytest.raises(ValueError, match=r"shape \(24,\).* Received: shape=\(3,\)"):
        plots.encoded(vector_vae, vectors, np.zeros(3))


def test_one_latent_makes_no_map(vectors):
    with pytest.raises(ValueError, match="at least two latents. Received: latent_dim=1"):
        plots.encoded(models.DenseVAE((7,), 1, hidden_units=(8,)), vectors, np.zeros(24))


def test_missing_scikit_learn_is_answered_with_how_to_install_it(vae, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[data\]"'):
        plots.encoded(vae, images, np.zeros(24))


@pytest.mark.parametrize(("examples", "latents"), [(1, [0]), (10, [0]), (3, [0, 1, 2, 0, 1])])
def test_pages_of_posteriors_hold_their_text(vae, images, check_page, examples, latents):
    check_page(plots.posteriors(vae, images[:examples], latents=latents))


@pytest.mark.parametrize("classes", [1, 10, 24])
def test_pages_of_codes_hold_their_text(vae, images, check_page, classes):
    labels = [f"class {index}" for index in np.arange(24) % classes]
    check_page(plots.encoded(vae, images, labels))
