"""The three lessons: what happens to the codes of digits without one term of the ELBO."""

import numpy as np
import pytest

from keras_vae import data, metrics, plots


@pytest.fixture(scope="module")
def digits():
    splits = data.load("digits")
    return splits.train.images, splits.test.images


@pytest.fixture(scope="module")
def labels():
    return data.load("digits").test.labels


@pytest.fixture(scope="module")
def lessons(digits):
    return plots.lesson_models(digits[0], epochs=8, seed=0)


@pytest.fixture(scope="module")
def figure(lessons, digits, labels):
    return plots.three_lessons(lessons, digits[1], labels)


def test_each_term_teaches_its_lesson(lessons, digits):
    nats = {
        name: metrics.kl_per_latent(model, digits[1]).sum(axis=1).mean()
        for name, model in lessons.items()
    }
    elbo = {name: np.mean(model.elbo(digits[1], seed=0)) for name, model in lessons.items()}
    assert nats["KL divergence only"] < 0.01
    assert nats["reconstruction only"] > 2 * nats["both"] > 1.0
    assert max(elbo, key=elbo.get) == "both"


def test_panels_show_where_each_model_encodes(figure, lessons, digits, labels):
    for axes, model in zip(figure.axes, lessons.values(), strict=True):
        means = model.encode(digits[1]).mean().numpy()
        for label, group in enumerate(axes.collections):
            np.testing.assert_allclose(group.get_offsets(), means[labels == label], rtol=1e-4)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list("0123456789")


def test_titles_tell_the_nats_of_both_terms(figure, lessons, digits):
    for axes, (name, model) in zip(figure.axes, lessons.items(), strict=True):
        kl = metrics.kl_per_latent(model, digits[1]).sum(axis=1).mean()
        reconstruction = -np.mean(model.elbo(digits[1], seed=0)) - kl
        expected = f"{name}\nreconstruction {reconstruction:.1f} nats, KL {kl:.1f} nats"
        assert axes.get_title() == expected


def test_circles_are_the_standard_deviations_of_the_prior(figure):
    for axes in figure.axes:
        assert [(circle.width, circle.height) for circle in axes.patches] == [
            (2, 2),
            (4, 4),
            (6, 6),
        ]
        assert axes.get_aspect() == 1.0
        assert np.abs([axes.get_xlim(), axes.get_ylim()]).min() > 3.0


def test_lessons_need_two_latents(vae, images):
    with pytest.raises(ValueError, match="Received: latent_dim=3 in 'mine'"):
        plots.three_lessons({"mine": vae}, images, np.zeros(24))


def test_lessons_need_a_model(images):
    with pytest.raises(ValueError, match="at least one model"):
        plots.three_lessons({}, images, np.zeros(24))


def test_the_same_seed_gives_all_models_the_same_start(digits):
    def start(seed):
        models = plots.lesson_models(digits[0], epochs=0, seed=seed)
        return [np.concatenate([w.ravel() for w in vae.get_weights()]) for vae in models.values()]

    first, *others = [*start(3), *start(3)]
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert np.abs(first - start(4)[0]).max() > 0.01


def test_page_of_lessons_holds_its_text(figure, vector_vae, vectors, check_page):
    check_page(figure)
    check_page(plots.three_lessons({"one": vector_vae}, vectors, np.arange(24) % 2))
