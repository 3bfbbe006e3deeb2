"""Figures of training: the values given are the values drawn, in nats."""

import numpy as np
import pytest

from keras_vae import callbacks, models, plots


@pytest.fixture
def nats():
    """Nats of so many latents over epochs; the last latent ends with most."""

    def make(epochs, latent_dim):
        return np.linspace(0.0, 1.0, epochs)[:, np.newaxis] * np.arange(latent_dim)

    return make


def test_few_latents_are_lines_with_most_nats_first(nats):
    values = nats(7, 4)
    (axes,) = plots.kl_over_training(values).axes
    for line, latent in zip(axes.lines, (3, 2, 1, 0), strict=True):
        assert line.get_label() == f"latent {latent}"
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 8))
        np.testing.assert_array_equal(line.get_ydata(), values[:, latent])
    styles = {(line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == 4


def test_many_latents_are_a_heat_map_with_most_nats_at_the_top(nats):
    values = nats(7, 30)
    axes, bar = plots.kl_over_training(values).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), values.T[::-1])
    assert axes.get_yticklabels()[0].get_text() == "29"
    assert "(nats)" in bar.get_ylabel()
    assert axes.get_xlabel() == "epoch"


def test_pixels_of_the_heat_map_stand_on_their_epochs(nats):
    image = plots.kl_over_training(nats(7, 30)).axes[0].images[0]
    assert image.get_extent() == [0.5, 7.5, 29.5, -0.5]


@pytest.mark.parametrize("latent_dim", [4, 30])
def test_title_is_the_total_after_the_last_epoch(nats, latent_dim):
    title = plots.kl_over_training(nats(7, latent_dim)).axes[0].get_title()
    total = latent_dim * (latent_dim - 1) / 2
    assert title == f"{total:.2f} nats in all latents after epoch 7"


def test_what_a_latent_monitor_gathers_is_drawn(vectors):
    monitor = callbacks.LatentMonitor(vectors)
    vae = models.DenseVAE((7,), 2, hidden_units=(8,))
    vae.compile(run_eagerly=True)
    vae.fit(vectors, epochs=2, callbacks=[monitor], verbose=0)
    (axes,) = plots.kl_over_training(monitor.kl_per_latent).axes
    drawn = sorted(line.get_ydata()[-1] for line in axes.lines)
    np.testing.assert_allclose(drawn, sorted(monitor.kl_per_latent[-1]))


@pytest.mark.parametrize("values", [[], [1.0, 2.0], np.zeros((2, 0))])
def test_nats_of_another_shape_are_refused(values):
    with pytest.raises(ValueError, match=r"shape \(epochs, latent_dim\). Received: shape="):
        plots.kl_over_training(values)


def test_nats_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="should be finite"):
        plots.kl_over_training([[1.0, np.nan]])


RATES, DISTORTIONS, BETAS = [20.0, 30.0, 5.0], [80.0, 75.0, 120.0], [1.0, 0.5, 4.0]


def test_models_are_points_labelled_by_beta():
    (axes,) = plots.rate_distortion(RATES, DISTORTIONS, BETAS).axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[30, 75], [20, 80], [5, 120]])
    labels = {text.get_text(): text.xy for text in axes.texts}
    assert labels == {
        r"$\beta$ = 0.5": (30, 75),
        r"$\beta$ = 1": (20, 80),
        r"$\beta$ = 4": (5, 120),
    }
    assert axes.get_xlabel().endswith("(nats)")
    assert axes.get_ylabel() == "distortion (nats)"


def test_line_of_constant_elbo_goes_through_the_best_model():
    (axes,) = plots.rate_distortion(RATES, DISTORTIONS, BETAS).axes
    line = axes.lines[1]
    assert (line.get_xy1(), line.get_slope()) == ((20, 80), -1)
    assert line.get_label() == "ELBO = -100.0 nats"


@pytest.mark.parametrize("betas", [[], [1.0]])
def test_betas_are_one_for_each_model(betas):
    with pytest.raises(ValueError, match=f"Received: 3 rates, 3 distortions, {len(betas)} betas"):
        plots.rate_distortion(RATES, DISTORTIONS, betas)


@pytest.mark.parametrize(
    ("epochs", "latent_dim"), [(1, 1), (1, 11), (100, 2), (100, 10), (100, 50), (100, 200)]
)
def test_pages_of_nats_hold_their_text(nats, check_page, epochs, latent_dim):
    check_page(plots.kl_over_training(nats(epochs, latent_dim)))


def test_pages_of_rate_and_distortion_hold_their_text(check_page):
    check_page(plots.rate_distortion(RATES, DISTORTIONS, BETAS))
    check_page(plots.rate_distortion(RATES[:1], DISTORTIONS[:1], BETAS[:1]))
