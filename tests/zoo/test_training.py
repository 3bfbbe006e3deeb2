"""Training from a recipe: one folder at the end, resumed when interrupted."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import keras_vae.zoo
from keras_vae import data
from keras_vae.resume import ExactResume
from keras_vae.zoo import evaluation, training
from keras_vae.zoo.comparison import add_comparison
from keras_vae.zoo.recipe import DataRecipe, EvaluationRecipe, Recipe, TrainingRecipe

MODEL = {"class": "DenseVAE", "event_shape": [8, 8, 1], "latent_dim": 2, "hidden_units": [16]}


def recipe(epochs, **changes):
    return Recipe(
        "tiny",
        MODEL,
        data=DataRecipe("digits", binarization="dynamic"),
        training=TrainingRecipe(
            **{"epochs": epochs, "batch_size": 128, "steps_per_execution": 5} | changes
        ),
        evaluation=EvaluationRecipe(num_samples=10),
    )


def crash(*args, **kwargs):
    raise MemoryError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return keras_vae.zoo.train(recipe(3), tmp_path_factory.mktemp("zoo") / "tiny", verbose=0)


def test_half_of_a_file_of_best_weights_never_becomes_the_best(tmp_path):
    best = tmp_path / "best.weights.h5"
    best.write_bytes(b"whole")
    into_place = training._IntoPlace(best)
    into_place.written.write_bytes(b"ha")  # by a run that was killed
    into_place.on_train_begin()
    into_place.on_epoch_end(7)
    assert best.read_bytes() == b"whole"
    into_place.written.write_bytes(b"better")
    into_place.on_epoch_end(8)
    assert best.read_bytes() == b"better"
    assert [path.name for path in tmp_path.iterdir()] == [best.name]


def test_training_leaves_one_folder_with_results_and_protocol(trained):
    assert [path.name for path in trained.parent.iterdir()] == ["tiny"]
    results = keras_vae.zoo.info(trained).results
    assert results["training"]["epochs"] == 3
    assert results["training"]["num_images"] == 1297
    assert results["protocol"]["num_test_images"] == 300
    assert results["protocol"]["importance_samples"] == 10
    test = results["test"]
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"] > -64 * np.log(2)


def test_evaluate_measures_the_same_numbers_again(trained):
    again = keras_vae.zoo.evaluate(trained)
    results = keras_vae.zoo.info(trained).results
    for key, value in results["test"].items():
        assert again["test"][key] == pytest.approx(value, rel=1e-5)
    assert again["slice"] == pytest.approx(results["slice"], rel=1e-5)


def test_evaluate_can_be_limited_and_given_more_samples(trained):
    results = keras_vae.zoo.evaluate(trained, num_samples=20, limit=30)
    assert results["protocol"]["num_test_images"] == 30
    assert results["protocol"]["importance_samples"] == 20


def test_evaluate_in_bfloat16_is_close_and_says_so(trained):
    results = keras_vae.zoo.evaluate(trained, dtype="mixed_bfloat16", limit=60)
    exact = keras_vae.zoo.evaluate(trained, limit=60)
    assert results["protocol"] == {**exact["protocol"], "precision": "mixed_bfloat16"}
    nats, exact_nats = (r["test"]["log_likelihood"]["mean"] for r in (results, exact))
    assert nats != exact_nats
    assert nats == pytest.approx(exact_nats, abs=0.1)
    assert results["test"]["elbo"] == exact["test"]["elbo"]


def test_golden_inputs_are_test_images_binarized_by_the_recipe_of_the_literature(trained):
    splits = data.load("digits")
    np.random.seed(777)
    np.random.binomial(1, splits.validation.images)
    expected = np.random.binomial(1, splits.test.images)[:4]
    np.testing.assert_array_equal(np.load(trained / "golden.npz")["x"], expected)


def test_interrupted_training_ends_with_the_same_model(tmp_path, monkeypatch):
    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.step) == 28:  # in the third epoch of 11 steps
                raise KeyboardInterrupt

    tiny = recipe(4, steps_per_execution=3, patience=3, average_momentum=0.9, clip_norm=10.0)
    whole = keras_vae.zoo.train(tiny, tmp_path / "whole", verbose=0)
    callbacks = training._callbacks
    with monkeypatch.context() as patch:
        patch.setattr(training, "_callbacks", lambda *args: [Crash(), *callbacks(*args)])
        patch.setattr(training, "ExactResume", without_state_of(Crash))
        with pytest.raises(KeyboardInterrupt):
            keras_vae.zoo.train(tiny, tmp_path / "tiny", every_steps=2, verbose=0)
    assert not (tmp_path / "tiny").exists()
    folder = keras_vae.zoo.train(tiny, tmp_path / "tiny", every_steps=2, verbose=0)
    weights = [keras_vae.zoo.load(path).get_weights() for path in (whole, folder)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    results = [keras_vae.zoo.info(path).results for path in (whole, folder)]
    assert results[1]["test"] == results[0]["test"]
    for key in ("epochs", "kept_epoch", "validation_elbo"):
        assert results[1]["training"][key] == results[0]["training"][key]


def without_state_of(kind):
    def resume(*args, callbacks, **options):
        kept = [callback for callback in callbacks if not isinstance(callback, kind)]
        return ExactResume(*args, callbacks=kept, **options)

    return resume


def test_a_training_of_an_older_version_is_not_touched(tmp_path):
    (tmp_path / "tiny.training" / "backup").mkdir(parents=True)
    with pytest.raises(ValueError, match="another version of keras_vae broke off"):
        keras_vae.zoo.train(recipe(1), tmp_path / "tiny", verbose=0)


def test_crash_while_measuring_does_not_cost_the_training(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "measure", crash)
        with pytest.raises(MemoryError):
            keras_vae.zoo.train(recipe(2), tmp_path / "tiny", verbose=0)
    monkeypatch.setattr(keras_vae.VAE, "_backward", crash)  # not a single step is taken again
    folder = keras_vae.zoo.train(recipe(2), tmp_path / "tiny", verbose=0)
    assert keras_vae.zoo.info(folder).results["training"]["epochs"] == 2


def test_interrupted_training_is_not_mixed_with_another_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "measure", crash)
    with pytest.raises(MemoryError):
        keras_vae.zoo.train(recipe(1), tmp_path / "tiny", verbose=0)
    with pytest.raises(ValueError, match="tiny.training holds an interrupted training by another"):
        keras_vae.zoo.train(recipe(1, learning_rate=0.1), tmp_path / "tiny", verbose=0)


def test_an_interrupted_training_of_a_recipe_with_tuples_goes_on(tmp_path, monkeypatch):
    model = {**MODEL, "event_shape": (6, 6, 1), "hidden_units": (16,), "prior": None}
    small = dataclasses.replace(
        recipe(1), model=model, data=DataRecipe("digits", image_size=(6, 6), binarization="dynamic")
    )
    with monkeypatch.context() as patch:
        patch.setattr(training, "measure", crash)
        with pytest.raises(MemoryError):
            keras_vae.zoo.train(small, tmp_path / "tiny", verbose=0)
    folder = keras_vae.zoo.train(small, tmp_path / "tiny", verbose=0)
    assert keras_vae.zoo.load(folder).event_shape == (6, 6, 1)


def test_a_folder_that_holds_something_else_is_not_taken_for_training_under_way(tmp_path):
    notes = tmp_path / "tiny.training" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"tiny\.training .* holds something else"):
        keras_vae.zoo.train(recipe(1), tmp_path / "tiny", verbose=0)
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("write", ["train", "save"])
def test_a_bucket_is_refused_before_anything_is_done(make_vae, tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    what = recipe(1) if write == "train" else make_vae()
    with pytest.raises(ValueError, match=r"local folder.*gs://bucket/tiny"):
        getattr(keras_vae.zoo, write)(what, "gs://bucket/tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_never_began_may_be_mended(tmp_path):
    wrong = dataclasses.replace(recipe(1), model={**MODEL, "latent_dims": 2})
    with pytest.raises(ValueError, match="latent_dims"):
        keras_vae.zoo.train(wrong, tmp_path / "tiny", verbose=0)
    keras_vae.zoo.train(recipe(1), tmp_path / "tiny", verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_words_and_the_evaluation_may_change_before_an_interrupted_training_goes_on(
    tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(training, "measure", crash)
        with pytest.raises(MemoryError):
            keras_vae.zoo.train(recipe(1), tmp_path / "tiny", verbose=0)
    np.save(tmp_path / "tiny.training" / evaluation.LOG_LIKELIHOOD, np.zeros(297, np.float32))
    mended = dataclasses.replace(
        recipe(1), summary="Tiny.", evaluation=EvaluationRecipe(num_samples=20)
    )
    monkeypatch.setattr(training._Clock, "on_epoch_end", lambda *_: pytest.fail("trained again"))
    folder = keras_vae.zoo.train(mended, tmp_path / "tiny", verbose=0)
    info = keras_vae.zoo.info(folder)
    assert info.recipe == mended
    assert info.results["protocol"]["importance_samples"] == 20
    assert info.results["test"]["log_likelihood"]["mean"] < -1.0


def test_a_stage_is_trained_first_and_resumed_too(tmp_path, monkeypatch):
    stage = dataclasses.replace(recipe(2, patience=5), name="stage")
    monkeypatch.setattr(keras_vae.zoo.store, "_RECIPES", tmp_path)
    (tmp_path / "stage.toml").write_text(stage.to_toml(), encoding="utf-8")
    staged = recipe(1, initial="stage", learning_rate=1e-9)
    with monkeypatch.context() as patch:
        patch.setattr(training, "measure", crash)
        with pytest.raises(MemoryError):
            keras_vae.zoo.train(staged, tmp_path / "tiny", verbose=0)
    monkeypatch.setattr(keras_vae.VAE, "_backward", crash)  # neither stage is trained again
    folder = keras_vae.zoo.train(staged, tmp_path / "tiny", verbose=0)
    facts = keras_vae.zoo.info(folder).results["training"]
    assert (facts["initial"]["epochs"], facts["epochs"]) == (2, 1)
    # At this learning rate the second stage keeps what the first one learned.
    assert facts["validation_elbo"] == pytest.approx(facts["initial"]["validation_elbo"], abs=0.5)
    assert "In two stages: first the recipe `stage` for 2 epochs" in keras_vae.zoo.info(folder).card


def test_a_cosine_may_take_longer_than_the_training():
    given = {"learning_rate": 0.1, "final_learning_rate": 0.0, "decay_epochs": 4}
    changed = recipe(2, **given)
    model = changed.build()
    training._compile(model, changed, num_images=256)  # two batches
    rates = keras.ops.convert_to_numpy([model.optimizer._learning_rate(step) for step in (0, 4, 8)])
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0], atol=1e-6)


def test_patience_stops_training(tmp_path):
    folder = keras_vae.zoo.train(
        recipe(50, patience=1, learning_rate=1.0), tmp_path / "tiny", verbose=0
    )
    assert keras_vae.zoo.info(folder).results["training"]["epochs"] < 50


def test_existing_folder_is_refused_before_any_training(trained):
    with pytest.raises(FileExistsError, match="exists already"):
        keras_vae.zoo.train(recipe(1), trained)


def test_recipe_without_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs \[data\] and \[training\]"):
        keras_vae.zoo.train(Recipe("tiny", MODEL), tmp_path / "tiny")


def test_stages_that_wait_for_each_other_and_stages_without_training_are_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(keras_vae.zoo.store, "_RECIPES", tmp_path)
    for name, initial in [("hen", "egg"), ("egg", "hen")]:
        stage = dataclasses.replace(recipe(1, initial=initial), name=name)
        (tmp_path / f"{name}.toml").write_text(stage.to_toml(), encoding="utf-8")
    (tmp_path / "bare.toml").write_text(Recipe("bare", MODEL).to_toml(), encoding="utf-8")
    with pytest.raises(ValueError, match="recipe of 'hen' starts from itself"):
        keras_vae.zoo.train("hen", tmp_path / "hen", verbose=0)
    with pytest.raises(ValueError, match=r"recipe of 'bare' needs \[data\] and \[training\]"):
        keras_vae.zoo.train(recipe(1, initial="bare"), tmp_path / "tiny", verbose=0)


def test_a_model_in_bfloat16_is_measured_in_float32(trained, tmp_path):
    half = keras_vae.zoo.load(trained, dtype="mixed_bfloat16")
    folder = keras_vae.zoo.save(half, tmp_path / "half")
    tiny, stored = recipe(1), keras_vae.zoo.info(folder).recipe
    assert stored.model["dtype"] == "mixed_bfloat16"
    images = evaluation.held_out(tiny)[1][:60]
    stored = dataclasses.replace(stored, data=tiny.data, evaluation=tiny.evaluation)
    exact = evaluation.measure(keras_vae.zoo.load(trained), tiny, images)
    measured = evaluation.measure(keras_vae.zoo.load(folder), stored, images)
    assert measured["test"] == exact["test"]
    assert measured["slice"] == {**exact["slice"], "num_images": 60}


def test_a_broken_off_measurement_goes_on_where_it_was(trained, tmp_path):
    model = keras_vae.zoo.load(trained)
    tiny = keras_vae.zoo.info(trained).recipe
    images = np.repeat(evaluation.held_out(tiny)[1], 2, axis=0)  # 600: three pieces of 256
    whole = evaluation.measure(model, tiny, images)

    def crash(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation.measure(model, tiny, images, progress=crash, work=tmp_path)
    assert len(np.load(tmp_path / "log_likelihood.npy")) == 256
    fractions = []
    resumed = evaluation.measure(model, tiny, images, progress=fractions.append, work=tmp_path)
    assert len(fractions) == 2
    assert resumed["test"] == whole["test"]


def test_training_starts_from_the_weights_it_is_told(trained, tmp_path):
    frozen = recipe(1, learning_rate=1e-12, initial=str(trained))
    folder = keras_vae.zoo.train(frozen, tmp_path / "tuned", verbose=0)
    before, after = keras_vae.zoo.load(trained), keras_vae.zoo.load(folder)
    np.testing.assert_allclose(after.encoder.weights[0], before.encoder.weights[0], atol=1e-6)
    assert int(after.step) == int(before.step) + 11
    assert f"Starts from the weights of `{trained}`" in keras_vae.zoo.info(folder).card


def test_reproduction_agrees_within_the_tolerance_and_not_beyond(trained, tmp_path):
    rows = keras_vae.zoo.reproduce(trained, tmp_path / "again", verbose=0)
    stored = keras_vae.zoo.info(trained).results["test"]
    assert [row.quantity for row in rows] == ["elbo", "log_likelihood", "reconstruction", "kl"]
    for row in rows:
        assert row.agrees
        assert row.stored == stored[row.quantity]["mean"]
    again = keras_vae.zoo.info(tmp_path / "again").results["test"]
    assert [row.reproduced for row in rows] == [again[row.quantity]["mean"] for row in rows]


def test_reproduction_of_another_training_does_not_agree(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "tiny")
    results = json.loads((folder / "results.json").read_text())
    results["test"]["elbo"]["mean"] += 2.0
    (folder / "results.json").write_text(json.dumps(results))
    rows = keras_vae.zoo.reproduce(folder, tmp_path / "again", verbose=0)
    assert [row.agrees for row in rows] == [False, True, True, True]


def test_a_twin_stands_in_the_results_and_in_the_card(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "tiny")
    other = dataclasses.replace(recipe(1, batch_size=64), name="twin")
    twin = keras_vae.zoo.train(other, tmp_path / "twin", verbose=0)
    added = add_comparison(folder, twin)
    assert added["differs"] == {"training.epochs": 1, "training.batch_size": 64}
    info = keras_vae.zoo.info(folder)
    (entry,) = info.results["comparisons"]
    assert entry["test"] == keras_vae.zoo.info(twin).results["test"]
    assert "| twin | `training.epochs` = 1, `training.batch_size` = 64 |" in info.card
    add_comparison(folder, twin)
    assert len(keras_vae.zoo.info(folder).results["comparisons"]) == 1
    with pytest.raises(ValueError, match="there is no difference"):
        add_comparison(folder, folder)


def test_card_states_protocol_and_numbers(trained):
    info = keras_vae.zoo.info(trained)
    assert "300 test images" in info.card
    assert f"{info.results['test']['elbo']['mean']:.2f}" in info.card
    assert info.results["files"]["model.weights.h5"] in info.card


def test_results_are_plain_json(trained):
    text = (trained / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["parameters"] == keras_vae.zoo.load(trained).count_params()
