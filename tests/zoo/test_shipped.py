"""Every shipped model: whole, small, golden, and as good as its results.json says."""

import keras
import numpy as np
import pytest

import keras_vae.zoo
from keras_vae.zoo import store
from keras_vae.zoo.card import card
from keras_vae.zoo.evaluation import held_out, measure_slice

SHIPPED = keras_vae.zoo.list_models()


def test_the_promised_models_are_shipped():
    assert {"dense_digits", "dense_mnist", "conv_mnist", "beta_mnist"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_file_has_the_recorded_sha256(name):
    info = keras_vae.zoo.info(name)
    store.check_files(info.folder, info.results["files"])


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_stay_below_six_megabytes(name):
    assert (keras_vae.zoo.info(name).folder / store.WEIGHTS).stat().st_size < 6e6


@pytest.mark.parametrize("name", SHIPPED)
def test_golden_outputs_are_reproduced(name):
    vae = keras_vae.zoo.load(name)
    golden = np.load(keras_vae.zoo.info(name).folder / "golden.npz")
    posterior = vae.encode(golden["x"])
    # Other processors sum in another order: 1e-3 of a latent, 1e-4 of a grey level.
    np.testing.assert_allclose(posterior.mean(), golden["loc"], atol=1e-3)
    np.testing.assert_allclose(posterior.stddev(), golden["scale"], rtol=1e-3)
    np.testing.assert_allclose(vae.reconstruct(golden["x"]), golden["reconstruction"], atol=1e-4)
    np.testing.assert_allclose(vae.decode(golden["z"]).mean(), golden["image"], atol=1e-4)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_loaded_network_is_described_as_a_fresh_one(name):
    # What is loaded was never drawn, but whoever copies or saves a network alone gets it drawn.
    loaded, fresh = (keras_vae.zoo.load(name, weights=weights) for weights in (True, False))
    for part in ("encoder", "decoder"):
        kernels = [
            [
                layer.get_config()["kernel_initializer"]
                for layer in getattr(vae, part).layers
                if "kernel_initializer" in layer.get_config()
            ]
            for vae in (loaded, fresh)
        ]
        assert kernels[0] == kernels[1] != []
        copy = keras.models.clone_model(getattr(loaded, part))
        assert all(np.any(weight) for weight in copy.get_weights() if weight.ndim > 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_card_is_what_its_sources_generate(name):
    info = keras_vae.zoo.info(name)
    pictures = [path.name for path in info.folder.glob("*.png")]
    assert info.card == card(info.recipe, info.results, address=name, pictures=pictures)


def test_a_card_tells_what_else_was_tried():
    text = keras_vae.zoo.info("dense_binarized_mnist").card
    (row,) = (line for line in text.splitlines() if "pythae's script" in line)
    assert row.endswith("| 92.75 |")
    assert "What else was tried" not in keras_vae.zoo.info("conv_digits").card


@pytest.mark.parametrize("name", ["dense_mnist", "conv_mnist"])
def test_mnist_models_pass_their_quality_bar(name):
    assert keras_vae.zoo.info(name).results["test"]["elbo"]["mean"] > -95


@pytest.fixture(scope="module")
def images_of():
    """From a recipe to its test images, read once for all models of the same data."""
    read = {}

    def images_of(recipe):
        key = repr(recipe.data)
        if key not in read:
            read[key] = held_out(recipe)[1]
        return read[key]

    return images_of


@pytest.mark.data
@pytest.mark.parametrize("name", SHIPPED)
def test_a_slice_of_the_results_can_be_measured_again(name, images_of):
    info = keras_vae.zoo.info(name)
    try:
        images = images_of(info.recipe)
    except RuntimeError as error:
        pytest.skip(f"{info.recipe.data.name} is not in TFDS_DATA_DIR: {error}")
    stored = info.results["slice"]
    vae = keras_vae.zoo.load(name)
    measured = measure_slice(vae, images, slice=stored)
    for key in ("elbo", "log_likelihood"):
        assert measured[key] == pytest.approx(stored[key], abs=0.05)
