"""The client against the stand-in, over each transport: its methods give what the model gives."""

import numpy as np
import pytest

from keras_vae.export.client import ServingClient, ServingError
from keras_vae.export.signatures import signatures
from tests.export.client.stand_in import EXACT


@pytest.mark.parametrize("kind", ["dense", "full_covariance"])
def test_every_signature_gives_what_the_model_gives(kind, models, connect, images, z):
    model, client = models[kind], connect(kind)
    likelihood, posterior = model.decode(z), model.encode(images)
    decoded = {"image": likelihood.mean()}
    if kind == "full_covariance":
        decoded["scale"] = likelihood.stddev()
    scores = next(s for s in signatures(model, "vae") if s.name == "score").function(images)
    kl = scores["kl"]
    for received, expected in (
        (client.decode(z), decoded),
        (client.encode(images), {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}),
        (client.reconstruct(images), {"image": model.reconstruct(images)}),
        (client.score(images), scores),
        (client.sample(4, seed=11), {"image": model.sample(4, seed=11)}),
    ):
        assert received.keys() == expected.keys()
        for name in expected:
            assert received[name].dtype == np.float32
            np.testing.assert_allclose(received[name], expected[name], **EXACT)


def test_one_seed_is_that_of_the_model_and_two_are_all_of_it(connect):
    client = connect("dense")
    assert_same(client.sample(2, seed=7), client.sample(2, seed=(7, 0)))
    other = client.sample(2, seed=(7, 1))["image"]
    assert np.abs(other - client.sample(2, seed=7)["image"]).max() > 1e-3


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40, np.uint8(200)])
def test_any_integer_is_the_seed_that_it_is_in_the_model(models, connect, seed):
    received = connect("dense").sample(2, seed=seed)["image"]
    np.testing.assert_allclose(received, models["dense"].sample(2, seed=int(seed)), **EXACT)


class Forgotten(ServingClient):
    """A client in which another thread forgets at once what the server offers."""

    _signatures = property(lambda self: None, lambda self, offered: None)


def test_what_another_thread_forgets_meanwhile_is_known_to_the_end(transport, z):
    with Forgotten("dense", transport()) as client:
        assert client.decode(z)["image"].shape == (5, 9, 7, 1)


def assert_same(received, expected):
    np.testing.assert_array_equal(received["image"], expected["image"])


def test_versions_labels_and_the_newest_are_told_apart(server, exported, connect):
    base, by_version = exported
    server.load("dense", base / "dense" / "2")
    server.labels = {"dense": {"stable": 1, "canary": 2}}
    ask = {
        1: ({"version": 1}, {"label": "stable"}),
        2: ({"version": 2}, {"label": "canary"}, {}),
    }
    for version, ways in ask.items():
        expected = by_version[version].sample(3, seed=5)
        for way in ways:
            received = connect("dense", **way).sample(3, seed=5)["image"]
            np.testing.assert_allclose(received, expected, **EXACT)


def test_a_new_version_of_another_width_is_met_without_a_new_client(server, exported, connect, z):
    base, by_version = exported
    client = connect("dense")
    client.decode(z)
    server.load("dense", base / "dense" / "2")
    wider = np.concatenate([z, z[:, :1]], axis=1)
    received = client.decode(wider)["image"]
    np.testing.assert_allclose(received, by_version[2].decode(wider).mean(), **EXACT)
    with pytest.raises(ValueError, match=r"shape \(batch, 4\)"):
        client.decode(z)


def test_a_width_that_went_out_with_the_old_version_is_refused_by_the_server(
    server, exported, connect, z
):
    client = connect("dense")
    client.decode(z)
    server.load("dense", exported[0] / "dense" / "2")
    with pytest.raises(ServingError, match="shape") as refused:
        client.decode(z)
    assert refused.value.status in (400, "INVALID_ARGUMENT")
    with pytest.raises(ValueError, match=r"shape \(batch, 4\)"):
        client.decode(z)


def test_a_new_version_with_one_more_output_and_back_is_met_too(server, connect, z):
    client = connect("dense")
    assert set(client.decode(z)) == {"image"}
    server.models["dense"][2] = server.models["full_covariance"][1]
    assert set(client.decode(z)) == {"image", "scale"}
    with pytest.raises(ValueError, match="draw"):
        client.predict("draw")  # learns anew what the server offers
    server.models["dense"].pop(2)
    assert set(client.decode(z)) == {"image"}


def test_a_version_and_a_label_together_are_refused():
    with pytest.raises(ValueError, match="version=1, label='stable'"):
        ServingClient("m", version=1, label="stable")
