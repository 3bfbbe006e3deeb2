"""Recipes: TOML in, models out, and errors that name file and key."""

from pathlib import Path

import pytest

import keras_vae.zoo
from keras_vae import distributions, models, objectives, schedules
from keras_vae.zoo.recipe import Recipe, TrainingRecipe, read_recipe

RECIPE = """
name = "tiny"

[model]
class = "DenseVAE"
event_shape = [4, 4, 1]
latent_dim = 2
hidden_units = [8]

[data]
name = "digits"

[training]
epochs = 3
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_defaults_fill_what_a_recipe_leaves_out(recipe_file):
    recipe = read_recipe(recipe_file)
    assert recipe.training == TrainingRecipe(epochs=3)
    assert recipe.data.binarization == "none"
    assert recipe.evaluation is None


def test_recipe_survives_writing_and_reading(recipe_file, tmp_path):
    recipe = read_recipe(recipe_file)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert read_recipe(copy) == recipe


def test_recipe_builds_the_model_it_describes(recipe_file):
    model = read_recipe(recipe_file).build()
    assert type(model) is models.DenseVAE
    assert (model.name, model.event_shape, model.latent_dim) == ("tiny", (4, 4, 1), 2)
    assert model.hidden_units == (8,)


def test_every_part_of_a_model_passes_through_a_recipe(tmp_path):
    model = models.ConvVAE(
        (9, 7, 1),
        3,
        filters=(4,),
        hidden_units=5,
        prior=distributions.StandardNormal(3),
        posterior=distributions.FullCovarianceNormal(max_log_scale=4.0),
        likelihood=distributions.PerValueScaleNormal(0.1),
        objective=objectives.ELBO(schedules.Linear(0.5, 2.0, num_steps=7), num_samples=2),
    )
    path = tmp_path / "recipe.toml"
    path.write_text(Recipe.of(model, name="odd").to_toml())
    rebuilt = read_recipe(path).build()
    assert rebuilt.filters == (4,)
    assert rebuilt.hidden_units == 5
    assert rebuilt.posterior.max_log_scale == 4.0
    assert rebuilt.likelihood.min_scale == 0.1
    assert rebuilt.objective.num_samples == 2
    assert rebuilt.objective.beta.get_config() == {"start": 0.5, "end": 2.0, "num_steps": 7}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epochs = 3\nepoch = 4", r"Unknown key 'epoch' in \[training\] of .*recipe"),
        ('name = "tiny"', "", r"Key 'name' is missing in .*recipe.toml"),
        ("epochs = 3", 'epochs = "three"', r"'epochs' in \[training\] .* should be of type int"),
        ("epochs = 3", "epochs = true", r"'epochs' in \[training\] .* should be of type int"),
        (
            "[data]",
            '[data]\nimage_size = ["28", "28"]',
            r"'image_size' in \[data\] .* should be of type list\[int\]",
        ),
        ("[data]", "[data", r"recipe.toml is not a valid TOML file"),
        ("epochs = 3", "epochs = 0", r"In \[training\] of .*`epochs` should be at least 1"),
        ("epochs = 3", "epochs = 3\nclip_norm = 0.0", r"`clip_norm` should be finite and > 0"),
        ("epochs = 3", "epochs = 3\nlearning_rate = nan", r"`learning_rate` should be finite"),
        ("epochs = 3", "epochs = 3\nfinal_learning_rate = -1.0", r"should be at least 0.*=-1.0"),
        ("epochs = 3", "epochs = 3\naverage_momentum = 2.0", r"between 0 and 1.*momentum=2.0"),
        ("epochs = 3", 'epochs = 3\ndtype = "auto"', r"\[training\] .*same on every.*='auto'"),
        ("epochs = 3", 'epochs = 3\n[evaluation]\ndtype = "auto"', r"\[evaluation\] .*='auto'"),
        ("epochs = 3", 'epochs = 3\ndtype = "mixed_bfloat61"', r"one of float32, mixed_bf.*at61'"),
        ("epochs = 3", "epochs = 3\n[evaluation]\nnum_samples = 0", r"\[evaluation\] .*samples=0"),
    ],
)
def test_bad_recipe_is_answered_with_file_and_key(recipe_file, old, new, message):
    recipe_file.write_text(RECIPE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe_file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"DenseVAE"', '"os.system"', "should have a class among BetaVAE, ConvVAE, DenseVAE"),
        ('"DenseVAE"', '"VAE"', "should have a class among"),
        ("latent_dim = 2", "latent_dim = 0", "`latent_dim` should be an integer >= 1"),
        ("latent_dim = 2", "latent_dims = 2", "unexpected keyword argument 'latent_dims'"),
        (
            "hidden_units = [8]",
            'hidden_units = [8]\nposterior = {class = "Bernouli"}',
            "`posterior` should have a class among Bernoulli",
        ),
        *(
            (
                "hidden_units = [8]",
                f'hidden_units = [8]\n{part} = "{kind}"',
                f"`{part}` should be of class {part.title()}. Received: {part}='{kind}'",
            )
            for part, kind in [("likelihood", "Bernoulli"), ("posterior", "DiagonalNormal")]
        ),
    ],
)
def test_model_that_cannot_be_built_names_the_recipe(recipe_file, old, new, message):
    recipe_file.write_text(RECIPE.replace(old, new))
    with pytest.raises(ValueError, match=f"recipe of 'tiny' cannot be built: .*{message}"):
        read_recipe(recipe_file).build()


@pytest.mark.parametrize("name", keras_vae.zoo.list_models())
def test_shipped_recipes_are_named_like_their_folders(name):
    recipe = keras_vae.zoo.info(name).recipe
    assert recipe.name == name
    assert recipe.summary.endswith(".")


@pytest.mark.parametrize(
    "path", sorted((Path(keras_vae.zoo.__file__).parent / "recipes").iterdir())
)
def test_a_recipe_without_weights_can_be_trained(path):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert None not in (recipe.data, recipe.training, recipe.evaluation)
    # By the literature's protocol, or on data that comes binarized.
    assert recipe.data.binarization == "dynamic" or recipe.data.name == "binarized_mnist"
    vae = recipe.build(dtype=recipe.training.dtype)
    assert 4 * vae.count_params() < 6e6
