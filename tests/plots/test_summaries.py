"""Figures of numbers: bars in order, outlines that are densities."""

import numpy as np
import pytest

from keras_vae import plots


def test_bars_are_the_mean_nats_with_most_at_the_left():
    nats = np.array([[0.0, 2.0, 1.0], [0.2, 4.0, 1.0]])
    (axes,) = plots.latent_nats(nats).axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([3.0, 1.0, 0.1])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "0"]
    assert axes.get_title() == "4.10 nats in 3 latents"
    assert "(nats)" in axes.get_ylabel()


def test_bars_of_latents_that_are_not_active_are_hollow():
    (axes,) = plots.latent_nats(np.ones((2, 3)), is_active=[True, False, True]).axes
    filled = [bar.get_facecolor() != (1.0, 1.0, 1.0, 1.0) for bar in axes.patches]
    assert filled == [True, False, True]
    assert "the 1 that are not active" in axes.get_title()


def test_shapes_of_nats_are_checked():
    with pytest.raises(ValueError, match=r"Received: shape=\(3,\)"):
        plots.latent_nats(np.ones(3))
    with pytest.raises(ValueError, match=r"Received: shape=\(2,\)"):
        plots.latent_nats(np.ones((5, 3)), is_active=[True, False])


def test_outlines_are_densities_and_the_threshold_stands_where_it_is():
    rng = np.random.default_rng(0)
    scores = {"clean": rng.normal(90.0, 5.0, 5000), "odd": rng.normal(120.0, 10.0, 500)}
    figure = plots.score_histogram(scores, x_label="-ELBO (nats)", threshold=104.0)
    (axes,) = figure.axes
    for line in axes.lines[:2]:
        x, density = line.get_data()
        # All but the thousandth at either end, which may belong to one of the sets alone.
        assert np.sum(density) * (x[1] - x[0]) == pytest.approx(1.0, abs=0.02)
    assert axes.lines[0].get_xdata()[np.argmax(axes.lines[0].get_ydata())] == pytest.approx(
        90, abs=4
    )
    assert list(axes.lines[2].get_xdata()) == [104.0, 104.0]
    assert len({(line.get_linestyle(), line.get_marker()) for line in axes.lines[:2]}) == 2


@pytest.mark.parametrize(
    ("scores", "message"),
    [({}, "Received: 0"), ({"a": [np.nan]}, "1 not finite"), ({"a": [[1.0]]}, r"shape \(1, 1\)")],
)
def test_scores_that_cannot_be_drawn_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        plots.score_histogram(scores, x_label="nats")


@pytest.mark.parametrize("latent_dim", [1, 12, 40, 200])
def test_pages_hold_their_text(check_page, latent_dim):
    nats = np.random.default_rng(0).random((5, latent_dim))
    check_page(plots.latent_nats(nats, is_active=nats[0] > 0.5))
    scores = {name: nats.ravel() for name in ("test images", "samples", "upside down")}
    check_page(plots.score_histogram(scores, x_label="-ELBO (nats)", threshold=0.5))
