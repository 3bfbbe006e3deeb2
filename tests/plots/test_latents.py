"""Walks through the latents: what is decoded where, and the arc between two codes."""

import numpy as np
import pytest
import scipy.spatial
import scipy.stats

from keras_vae import metrics, plots
from keras_vae.plots.latents import slerp
from tests.plots.conftest import binary, pronounced


def decoded(vae, z):
    return vae.decode(np.float32(z)[np.newaxis]).mean()[0, ..., 0]


def mean_code(vae, x):
    return vae.encode(x).mean().numpy().mean(axis=0)


def order_by_nats(vae, x):
    return np.argsort(-metrics.kl_per_latent(vae, x).mean(axis=0))


def angle(one, other):
    return np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_interpolation_ends_at_the_reconstruction_of_the_second_image(vae, images, shown):
    figure = plots.interpolation(vae, images[:2], images[2:4])
    expected = vae.reconstruct(images[3:4])[0, ..., 0]
    np.testing.assert_allclose(shown(figure, 1, 11), expected, rtol=1e-4)


def test_spherical_interpolation_shows_points_on_the_arc(vae, images, shown):
    figure = plots.interpolation(vae, images[:12], images[12:], spherical=True)
    codes = vae.encode(images).mean().numpy()
    turns = [angle(*pair) for pair in zip(codes[:12], codes[12:], strict=True)]
    row, turn = np.argmax(turns), np.max(turns)
    weights = np.sin([8 / 11 * turn, 3 / 11 * turn]) / np.sin(turn)
    expected = decoded(vae, weights @ codes[[row, row + 12]])
    np.testing.assert_allclose(shown(figure, row, 3), expected, rtol=1e-4)
    straight = shown(plots.interpolation(vae, images[:12], images[12:]), row, 3)
    assert np.abs(straight - expected).max() > 0.01


def test_interpolation_needs_as_many_ends_as_starts(vae, images):
    with pytest.raises(ValueError, match=r"len\(x_start\)=2, len\(x_end\)=3"):
        plots.interpolation(vae, images[:2], images[:3])


def test_slerp_is_that_of_scipy_on_the_unit_sphere():
    start, end = np.random.default_rng(0).normal(size=(2, 5))
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    weights = np.linspace(0, 1, 9)
    expected = scipy.spatial.geometric_slerp(start, end, weights)
    np.testing.assert_allclose(slerp(start, end, weights[:, np.newaxis]), expected, atol=1e-12)


def test_slerp_keeps_the_norm_and_turns_at_constant_speed():
    start, end = np.array([3.0, 0.0, 4.0]), np.array([0.0, -5.0, 0.0])
    points = slerp(start, end, np.linspace(0, 1, 12)[:, np.newaxis])
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 5.0)
    turns = [angle(*pair) for pair in zip(points[:-1], points[1:], strict=True)]
    np.testing.assert_allclose(turns, np.pi / 2 / 11)


@pytest.mark.parametrize("factor", [1.0, 2.0, 1.0 + 1e-9, 0.0, -1.0])
def test_slerp_of_parallel_vectors_is_a_straight_line(factor):
    start, weights = np.array([1.0, -2.0]), np.linspace(0, 1, 5)[:, np.newaxis]
    points = slerp(start, factor * start, weights)
    np.testing.assert_allclose(points, (1 + weights * (factor - 1)) * start, atol=1e-12)


def test_slerp_of_nearly_opposite_vectors_is_finite():
    points = slerp(np.array([1.0, 0.0]), np.array([-1.0, 1e-4]), np.array([[0.5]]))
    np.testing.assert_allclose(points, [[0.0, 1.0]], atol=1e-4)


def test_grid_varies_the_two_latents_with_most_nats_by_quantiles(vae, images, shown):
    figure = plots.latent_grid(vae, images, size=4)
    first, second = order_by_nats(vae, images)[:2]
    z = np.zeros(3)
    z[first], z[second] = scipy.stats.norm.ppf([0.65, 0.95])
    np.testing.assert_allclose(shown(figure, 0, 2), decoded(vae, z), rtol=1e-4)
    assert figure.axes[0].get_xlabel() == f"latent {first}"


def test_a_single_latent_goes_along_the_rows_of_the_grid(shown):
    vae, images = pronounced((6, 5, 1), 1), binary((24, 6, 5, 1))
    figure = plots.latent_grid(vae, images, size=4)
    code = scipy.stats.norm.ppf([0.05 + 0.9 * 6 / 15])  # the seventh of 16
    np.testing.assert_allclose(shown(figure, 1, 2), decoded(vae, code), rtol=1e-4)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latent 0, row by row", "")
    titles = [axes.get_title() for axes in plots.contact_sheet(vae, images).axes]
    assert "latent 0, row by row, 5% to 95% of the prior" in titles


def test_traversal_moves_one_latent_of_one_example_at_a_time(vae, images, shown):
    figure = plots.traversal(vae, images, num_steps=7, example=4)
    for row, latent in enumerate(order_by_nats(vae, images)):
        z = mean_code(vae, images[4:5])
        z[latent] = -2.0
        np.testing.assert_allclose(shown(figure, row, 1), decoded(vae, z), rtol=1e-4)


def test_traversal_labels_rows_by_nats_and_columns_by_standard_deviations(vae, images):
    (axes,) = plots.traversal(vae, images, num_latents=2, num_steps=5).axes
    nats = metrics.kl_per_latent(vae, images).mean(axis=0)
    expected = [f"latent {index}: {nats[index]:.2f} nats" for index in order_by_nats(vae, images)]
    assert [label.get_text() for label in axes.get_yticklabels()] == expected[:2]
    assert [float(label.get_text()) for label in axes.get_xticklabels()] == [-3, -1.5, 0, 1.5, 3]
    assert "standard deviations of the prior" in axes.get_xlabel()


@pytest.mark.parametrize("numbers", [{"num_latents": 0}, {"num_steps": 1}])
def test_traversal_says_which_number_is_too_small(vae, images, numbers):
    (name, value), *_ = numbers.items()
    with pytest.raises(ValueError, match=f"`{name}` should be .* Received: {name}={value}"):
        plots.traversal(vae, images, **numbers)


def test_arithmetic_decodes_the_sum_of_mean_codes(vae, images):
    a, b, c = images[:1], images[1:4], images[4:10]
    figure = plots.arithmetic(vae, a, b, c)
    pictures = {axes.get_label(): axes.images[0].get_array() for axes in figure.axes}
    result = mean_code(vae, a) - mean_code(vae, b) + mean_code(vae, c)
    expected = {
        "b": b.mean(axis=0)[..., 0],
        "code b": decoded(vae, mean_code(vae, b)),
        "result": decoded(vae, result),
    }
    for name, picture in expected.items():
        np.testing.assert_allclose(pictures[name][1:-1, 1:-1], picture, rtol=1e-4, err_msg=name)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["a", "$-$ b\nmean of 3", "$+$ c\nmean of 6", "$=$ result"]


@pytest.mark.parametrize("pairs", [1, 4])
def test_pages_of_interpolations_hold_their_text(vae, images, check_page, pairs):
    check_page(plots.interpolation(vae, images[:pairs], images[-pairs:], spherical=True))


@pytest.mark.parametrize("sizes", [{}, {"num_latents": 1, "num_steps": 2}, {"num_steps": 25}])
def test_pages_of_traversals_hold_their_text(vae, images, check_page, sizes):
    check_page(plots.traversal(vae, images, **sizes))


def test_pages_of_latents_hold_their_text(color_vae, color_images, check_page):
    check_page(plots.latent_grid(color_vae, color_images, size=3))
    check_page(plots.arithmetic(color_vae, *color_images[:3, np.newaxis]))
    check_page(plots.arithmetic(color_vae, *np.split(color_images, 3)))
