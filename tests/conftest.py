"""What tests share: two logical CPUs, seeds, tiny data and models, and fresh processes."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import wrapt


@wrapt.when_imported("tensorflow")
def _split_cpu_in_two(tensorflow):
    # For the tests of `tf.distribute`. It must happen before TensorFlow is used for the first time;
    # everything else runs on the first of the two as before.
    tensorflow.config.set_logical_device_configuration(
        tensorflow.config.list_physical_devices("CPU")[0],
        [tensorflow.config.LogicalDeviceConfiguration()] * 2,
    )


@wrapt.when_imported("keras.src.trainers.data_adapters.array_data_adapter")
def _turn_off_autotuning(module):
    # Of what Keras makes of arrays: an iterator that a failed `fit` has left behind may keep a
    # later test waiting for more than a minute.
    get_tf_dataset = module.ArrayDataAdapter.get_tf_dataset

    def without_autotuning(adapter):
        from keras_vae.data import autotuning

        return autotuning.without_autotuning(get_tf_dataset(adapter))

    module.ArrayDataAdapter.get_tf_dataset = without_autotuning


def _seed():
    # Tests that need no Keras should not wait for it.
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    # What is made once for many tests is made before the first of them is seeded.
    if fixturedef.scope != "function":
        _seed()


@pytest.fixture(autouse=True)
def _seeded():
    _seed()


@pytest.fixture(scope="session")
def images():
    """Binary images with structure to learn: one bright half, upper or lower, and some noise."""
    rng = np.random.default_rng(0)
    upper = rng.uniform(size=(32, 1, 1, 1)) < 0.5
    bright = np.arange(8).reshape(8, 1, 1) < 4
    return np.float32((bright == upper) ^ (rng.uniform(size=(32, 8, 8, 1)) < 0.05))


@pytest.fixture(scope="session")
def make_vae():
    """Returns a builder of tiny, uncompiled models of images of 8x8x1."""
    from keras_vae import DenseVAE

    def make(**changes):
        return DenseVAE(
            **({"event_shape": (8, 8, 1), "latent_dim": 2, "hidden_units": (8,)} | changes)
        )

    return make


@pytest.fixture(scope="session")
def make_noiseless_vae(make_vae):
    """Returns a builder of tiny models whose posterior is so narrow that samples are its mean."""
    from keras_vae.distributions import DiagonalNormal

    def make(kind=make_vae, **changes):
        # A scale of exp(-40) is lost in float32, and this far out it has no gradient either.
        vae = kind(posterior=DiagonalNormal(max_log_variance=80.0), **changes)
        kernel, bias = vae.encoder.layers[-1].get_weights()
        kernel[:, vae.latent_dim :], bias[vae.latent_dim :] = 0.0, -1e4
        vae.encoder.layers[-1].set_weights([kernel, bias])
        return vae

    return make


@pytest.fixture
def run_python(tmp_path):
    """Returns a function that runs code in a fresh process, in `tmp_path`, and gives its output."""

    def run(code, *arguments):
        process = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by Playwright; skips, and says so, where one of them is missing.

    `CHROMIUM` may name the program.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="No browser is driven: pip install playwright."
    )
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    if not any(found):
        pytest.skip("There is no Chromium to look at pages with: apt-get install chromium.")
    with playwright.sync_playwright() as driver:
        # Without a sandbox of its own, which containers deny it: all pages are ours.
        chromium = driver.chromium.launch(
            executable_path=next(filter(None, found)), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()
