"""Model folders: saved whole, loaded checked, never half-written."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vae.zoo
from keras_vae import distributions, models
from keras_vae.zoo import card, store
from keras_vae.zoo import folder as folder_module


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    vae = models.DenseVAE((4, 4, 1), 2, hidden_units=(8,))
    vae.compile(keras.optimizers.Adam(0.01))
    images = (np.random.default_rng(0).random((32, 4, 4, 1)) > 0.5).astype("float32")
    vae.fit(images, batch_size=8, verbose=0)
    return vae


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return keras_vae.zoo.save(model, tmp_path_factory.mktemp("zoo") / "tiny", summary="Tiny.")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "tiny")


def test_the_state_of_the_optimizer_stays_at_home(model, saved, tmp_path):
    model.save_weights(tmp_path / "all.weights.h5")
    size = (saved / store.WEIGHTS).stat().st_size
    assert size < (tmp_path / "all.weights.h5").stat().st_size - 4 * model.count_params()
    loaded = keras_vae.zoo.load(saved)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["me/tiny", "my tiny", "_tiny", "m\u00fcde", "..", "my.tiny-2"])
def test_any_name_will_do(model, tmp_path, name):
    folder = keras_vae.zoo.save(model, tmp_path / "my folder", name=name)
    assert keras_vae.zoo.info(folder).recipe.name == name
    loaded = keras_vae.zoo.load(folder)
    assert loaded.name == keras_vae.zoo.info(folder).recipe.safe_name
    x = np.zeros((2, 4, 4, 1), np.float32)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.reconstruct(x), rtol=1e-6)


def test_a_path_is_never_the_name_of_a_shipped_model():
    with pytest.raises(ValueError, match="give the string, 'conv_mnist'"):
        keras_vae.zoo.load(Path("conv_mnist"))


def test_saved_folder_holds_what_the_design_says(saved):
    assert {path.name for path in saved.iterdir()} == {
        "recipe.toml",
        "model.weights.h5",
        "results.json",
        "README.md",
        "samples.png",
        "grid.png",  # for two latents
        "golden.npz",
    }


def test_loaded_model_equals_the_saved_one(model, saved):
    loaded = keras_vae.zoo.load(saved)
    assert type(loaded) is type(model)
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(loaded.step) == 4
    np.testing.assert_array_equal(loaded.sample(3, seed=1), model.sample(3, seed=1))


def test_loaded_model_can_be_fine_tuned_at_once(saved):
    loaded = keras_vae.zoo.load(str(saved))
    history = loaded.fit(np.zeros((256, 4, 4, 1), "float32"), epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_load_without_weights_is_fresh_and_without_compile_is_not_compiled(model, saved):
    fresh = keras_vae.zoo.load(saved, weights=False, compile=False)
    assert int(fresh.step) == 0
    assert not fresh.compiled
    assert not np.allclose(fresh.weights[0], model.weights[0])


def test_folder_loads_in_a_fresh_process(saved):
    program = (
        "import sys, keras_vae; vae = keras_vae.zoo.load(sys.argv[1]);"
        "print(float(vae.sample(1, seed=0).numpy().sum()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(saved)], capture_output=True, text=True, check=True
    )
    expected = float(np.sum(keras_vae.zoo.load(saved).sample(1, seed=0)))
    assert float(result.stdout) == pytest.approx(expected, rel=1e-6)


def test_golden_outputs_are_those_of_the_model(saved):
    loaded = keras_vae.zoo.load(saved)
    golden = np.load(saved / "golden.npz")
    np.testing.assert_allclose(loaded.decode(golden["z"]).mean(), golden["image"], atol=1e-6)
    np.testing.assert_allclose(loaded.encode(golden["x"]).mean(), golden["loc"], atol=1e-6)


def test_info_reads_recipe_results_and_card(saved):
    info = keras_vae.zoo.info(saved)
    assert info.recipe.summary == "Tiny."
    assert info.results["files"][store.WEIGHTS] == store.sha256(saved / store.WEIGHTS)
    assert info.card.startswith("# tiny\n\nTiny.\n")


def test_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"'conv_mnits'. Did you mean 'conv_mnist'.*list_models"):
        keras_vae.zoo.load("conv_mnits")


def test_folder_without_a_recipe_is_no_model_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no recipe.toml"):
        keras_vae.zoo.load(tmp_path)


def test_truncated_weights_are_refused_by_name(folder):
    path = folder / store.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.weights.h5 is corrupt, truncated or edited"):
        keras_vae.zoo.load(folder)


def test_one_flipped_bit_is_noticed(folder):
    path = folder / store.WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="sha256"):
        keras_vae.zoo.load(folder)


def test_missing_weights_are_refused_by_name(folder):
    (folder / store.WEIGHTS).unlink()
    with pytest.raises(ValueError, match="model.weights.h5 is missing"):
        keras_vae.zoo.load(folder)


def test_edited_recipe_is_refused(folder):
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("latent_dim = 2", "latent_dim = 3"))
    with pytest.raises(ValueError, match="recipe.toml is corrupt, truncated or edited"):
        keras_vae.zoo.load(folder)


def test_weights_that_do_not_fit_the_recipe_are_refused(folder):
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("latent_dim = 2", "latent_dim = 3"))
    results = json.loads((folder / "results.json").read_text())
    results["files"]["recipe.toml"] = store.sha256(path)
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="model.weights.h5 does not hold the weights of its rec"):
        keras_vae.zoo.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "results.json cannot be read"),
        ("[]", "results.json should be a table with the sha256"),
        ('{"files": null}', "results.json should be a table with the sha256"),
    ],
)
def test_unreadable_results_are_named(folder, text, message):
    (folder / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        keras_vae.zoo.load(folder)


def test_a_folder_of_a_shipped_name_is_not_taken_for_it(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "dense_digits")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"write '\./dense_digits' for the folder"):
        keras_vae.zoo.load("dense_digits")
    for address in ("./dense_digits", Path("dense_digits"), tmp_path / "dense_digits"):
        assert keras_vae.zoo.info(address).recipe.name == "tiny"


def test_existing_folder_is_not_overwritten_unasked(model, folder):
    with pytest.raises(FileExistsError):
        keras_vae.zoo.save(model, folder)
    assert keras_vae.zoo.save(model, folder, summary="New.", overwrite=True) == folder
    assert keras_vae.zoo.info(folder).recipe.summary == "New."


@pytest.mark.parametrize("name", ["Bernoulli", "Own"])
def test_a_model_with_parts_of_ones_own_is_sent_to_keras_files(tmp_path, name):
    part = type(name, (distributions.Bernoulli,), {})()
    vae = models.DenseVAE((4, 4, 1), 2, hidden_units=(8,), likelihood=part)
    with pytest.raises(ValueError, match=f"model.save.*Received: likelihood=a {name}"):
        keras_vae.zoo.save(vae, tmp_path / "own")
    assert not list(tmp_path.iterdir())


def test_a_model_may_be_given_another_name(saved):
    assert keras_vae.zoo.info(saved).recipe.build(name="mine").name == "mine"


def test_a_recipe_beside_a_folder_is_not_taken_for_it(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run.toml").write_text('name = "other"', encoding="utf-8")
    assert store.find_recipe(folder) == folder / "recipe.toml"
    assert store.find_recipe(str(folder)) == folder / "recipe.toml"
    assert store.find_recipe(f"{folder}.toml") == tmp_path / "run.toml"


def test_a_folder_named_like_a_shipped_recipe_is_not_taken_for_it(saved, tmp_path, monkeypatch):
    assert store.find_recipe("conv_mnist_elbo").parent.name == "recipes"
    folder = shutil.copytree(saved, tmp_path / "conv_mnist_elbo")
    monkeypatch.chdir(tmp_path)
    for address in ("./conv_mnist_elbo", Path("conv_mnist_elbo"), str(folder)):
        assert store.find_recipe(address).resolve() == folder / "recipe.toml"
    with pytest.raises(ValueError, match=r"write '\./conv_mnist_elbo' for the folder"):
        store.find_recipe("conv_mnist_elbo")


def test_a_card_tells_to_load_the_model_it_describes(saved):
    assert 'zoo.load("path/to/tiny")' in keras_vae.zoo.info(saved).card
    assert 'zoo.load("dense_digits")' in keras_vae.zoo.info("dense_digits").card
    assert "`keras-vae evaluate dense_digits`" in keras_vae.zoo.info("dense_digits").card


def test_a_card_tells_to_measure_the_model_it_describes():
    info = keras_vae.zoo.info("dense_digits")
    text = card.card(info.recipe, info.results, address="hf://me/mine")
    for command in ("evaluate", "reproduce"):
        assert f"`keras-vae {command} hf://me/mine" in text


def test_full_disk_in_the_middle_of_a_save_leaves_the_old_folder(model, folder, monkeypatch):
    def no_space(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(folder_module, "write_card", no_space)
    with pytest.raises(OSError, match="No space left"):
        keras_vae.zoo.save(model, folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_model_with_nan_weights_is_not_saved(tmp_path):
    vae = models.DenseVAE((4, 4, 1), 2, hidden_units=(8,))
    vae.encoder.weights[0].assign(np.full_like(vae.encoder.weights[0], np.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        keras_vae.zoo.save(vae, tmp_path / "bad")
    assert not list(tmp_path.iterdir())


def test_vae_of_own_networks_is_sent_to_keras_files(model, tmp_path):
    own = keras_vae.VAE(model.encoder, model.decoder)
    with pytest.raises(ValueError, match="DenseVAE.*model.save"):
        keras_vae.zoo.save(own, tmp_path / "own")
