"""`import keras_vae`: cheap, lazy, and known to Keras."""

import pytest

import keras_vae


def test_import_loads_neither_tensorflow_nor_an_extra(run_python):
    loaded = run_python("import keras_vae, sys; dir(keras_vae); print(*sys.modules)").split()
    heavy = {
        "tensorflow",
        "keras",
        "tensorflow_probability",
        "tensorflow_datasets",
        "sklearn",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "matplotlib",
        "huggingface_hub",
    }
    assert heavy & {name.split(".")[0] for name in loaded} == set()


def test_dir_lists_the_public_names():
    assert dir(keras_vae) == sorted(keras_vae.__all__)
    assert {"VAE", "DenseVAE", "ConvVAE", "BetaVAE", "zoo", "export"} <= set(dir(keras_vae))


@pytest.mark.parametrize("name", ["VAE", "DenseVAE", "distributions", "networks", "schedules"])
def test_public_names_are_found_on_first_use(name):
    assert getattr(keras_vae, name).__name__.split(".")[-1] == name


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'keras_vae' has no attribute 'nonsense'"):
        keras_vae.nonsense  # noqa: B018


def test_the_hooks_are_on_everything_that_the_variants_need(run_python):
    program = """
import sys, keras_vae.models
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("keras_vae.")}
print(*sorted(rooms - {"models", *keras_vae._VARIANTS_NEED}), "and", len(rooms) > 10)
"""
    assert run_python(program) == "and True\n"


@pytest.mark.parametrize(
    "first",
    [
        "import keras_vae.trainer",
        "import keras_vae",
        "import keras, keras_vae",
        "import keras_vae, tensorflow",
        "import keras_vae.networks.dense",
        "import keras_vae.zoo.training",
    ],
)
def test_keras_knows_the_variants_whatever_is_imported_first(run_python, first):
    program = f"""
{first}
import keras
print(keras.saving.get_registered_object("keras_vae>ConvVAE").__name__)
"""
    assert run_python(program) == "ConvVAE\n"
