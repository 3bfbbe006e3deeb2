"""SavedModels against the public methods of the model, loaded as a server loads them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE
from keras_vae.distributions import kl_divergence
from keras_vae.export import ExportError, to_saved_model
from keras_vae.export.signatures import PARTS

# Each of these is computed by the same kernels as in the model: differences are a last bit or two.
EXACT = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture
def x(model):
    """Data that the likelihood allows."""
    return model.decode(model.prior.distribution().sample(5, seed=(1, 2))).sample(seed=(3, 4))


@pytest.fixture
def latents(model):
    return model.prior.distribution().sample(5, seed=(5, 6))


@pytest.fixture
def export(tmp_path):
    """Returns a function that exports a part and loads its signatures."""

    def export(model, part):
        loaded = tf.saved_model.load(to_saved_model(model, tmp_path / part, part))
        export.loaded = loaded  # the functions need their variables alive
        return loaded.signatures

    return export


def assert_close(received, expected):
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], **EXACT)


def describe(model, x):
    posterior = model.encode(x)
    kl = kl_divergence(posterior, model.prior.distribution(), None)
    return {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}


def test_decoder_decodes_and_samples_as_the_model_does(model, latents, export):
    signatures = export(model, "decoder")
    assert set(signatures) == {"serving_default", "decode", "sample"}
    likelihood = model.decode(latents)
    expected = {"image": likelihood.mean()}
    if "Normal" in type(model.likelihood).__name__:
        expected["scale"] = likelihood.stddev()
    assert_close(signatures["decode"](z=latents), expected)
    assert_close(signatures["serving_default"](z=latents), expected)
    sampled = signatures["sample"](num_samples=tf.constant(4), seed=tf.constant([11, 0]))
    assert_close(sampled, {"image": model.sample(4, seed=11)})


def test_encoder_encodes_as_the_model_does(model, x, export):
    signatures = export(model, "encoder")
    assert set(signatures) == {"serving_default", "encode"}
    assert_close(signatures["encode"](image=x), describe(model, x))
    assert_close(signatures["serving_default"](image=x), describe(model, x))


def test_vae_offers_what_its_parts_do_and_reconstructs_and_scores(model, x, latents, export):
    signatures = export(model, "vae")
    assert set(signatures) == {"serving_default", *PARTS["vae"]}
    assert_close(signatures["reconstruct"](image=x), {"image": model.reconstruct(x)})
    assert_close(signatures["serving_default"](image=x), {"image": model.reconstruct(x)})
    assert_close(signatures["encode"](image=x), describe(model, x))
    np.testing.assert_allclose(
        signatures["decode"](z=latents)["image"], model.decode(latents).mean(), **EXACT
    )
    score = signatures["score"](image=x)
    reconstruction = -model.decode(model.encode(x).mean()).log_prob(x)
    np.testing.assert_allclose(score["reconstruction"], reconstruction, **EXACT)
    np.testing.assert_allclose(score["kl"], describe(model, x)["kl"], **EXACT)
    np.testing.assert_allclose(score["elbo"], -(score["reconstruction"] + score["kl"]), **EXACT)
