"""What tests of the client share: models on a stand-in for TF Serving, and ways to ask it."""

import contextlib

import keras
import numpy as np
import pytest

from keras_vae import DenseVAE
from keras_vae.export import to_saved_model
from keras_vae.export.client import ServingClient
from tests.export.client.stand_in import TRANSPORTS, StandIn


@pytest.fixture(params=list(TRANSPORTS))
def transport(request, server):
    """Returns a builder of each transport to the stand-in in turn."""
    build = TRANSPORTS[request.param]
    return lambda **options: build(server, **options)


@pytest.fixture
def connect(transport):
    """Returns a builder of clients, which are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, *, version=None, label=None, **options: stack.enter_context(
            ServingClient(name, transport(**options), version=version, label=label)
        )


@pytest.fixture(scope="package")
def exported(models, tmp_path_factory):
    """Folders of two versions of one model, and of one of another likelihood."""
    base = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(1)
    wide = DenseVAE((9, 7, 1), 4, hidden_units=(8,))
    to_saved_model(models["dense"], base / "dense", "vae")
    to_saved_model(wide, base / "dense", "vae", force=True)
    to_saved_model(models["full_covariance"], base / "full_covariance", "vae")
    return base, {1: models["dense"], 2: wide}


@pytest.fixture(scope="module")
def running(exported):
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def server(running, exported):
    """The stand-in with version 1 of `dense` and one of `full_covariance`, and nothing asked."""
    base, _ = exported
    for name in ("dense", "full_covariance"):
        if name not in running.models:
            running.load(name, base / name / "1")
    running.labels = {}
    running.asked, running.failures, running.delay = [], [], 0.0
    yield running
    running.models["dense"].pop(2, None)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 2, (5, 9, 7, 1)).astype(np.float32)


@pytest.fixture
def z():
    return np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
