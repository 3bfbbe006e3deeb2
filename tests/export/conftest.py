"""Tiny models to export, one of each kind."""

import pytest

from keras_vae import BetaVAE, ConvVAE, DenseVAE
from keras_vae.distributions import (
    ContinuousBernoulli,
    FullCovarianceNormal,
    PerValueScaleNormal,
    SharedScaleNormal,
)
from keras_vae.export import verification

IMAGE = {"event_shape": (9, 7, 1), "latent_dim": 3}
BUILDERS = {
    "dense": lambda: DenseVAE(**IMAGE, hidden_units=(8,)),
    "conv": lambda: ConvVAE(**IMAGE, filters=(4, 8), hidden_units=8),
    "beta": lambda: BetaVAE(
        **IMAGE, filters=(4,), hidden_units=8, likelihood=ContinuousBernoulli()
    ),
    "series": lambda: ConvVAE((11, 2), 3, filters=(4,), likelihood=SharedScaleNormal(0.5)),
    "full_covariance": lambda: DenseVAE(
        **IMAGE,
        hidden_units=(8,),
        gated=True,
        posterior=FullCovarianceNormal(),
        likelihood=PerValueScaleNormal(),
    ),
}


def _build(name):
    model = BUILDERS[name]()
    model.step.assign(1)  # what is untrained is refused
    return model


@pytest.fixture(autouse=True)
def _timed_shortly(monkeypatch):
    # Half a second each adds up to minutes; what is tested is not how long a call takes.
    monkeypatch.setattr(verification, "_TIMED_SECONDS", 0.0)


@pytest.fixture
def build():
    """Returns a function from the name of a kind to a new model that passes for a trained one."""
    return _build


@pytest.fixture(scope="session")
def models():
    """A model of each kind, for tests that leave it as it is."""
    return {name: _build(name) for name in BUILDERS}


@pytest.fixture(params=list(BUILDERS))
def model(request, models):
    """Each kind in turn."""
    return models[request.param]


@pytest.fixture
def dense(models):
    return models["dense"]
