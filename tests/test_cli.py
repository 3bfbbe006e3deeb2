"""The command: tables, cards, files, and errors in one line."""

import json
import subprocess
import sys
import time

import keras
import pytest
from click.testing import CliRunner

from keras_vae import VAE, models, zoo
from keras_vae.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    vae = models.DenseVAE((4, 4, 1), 2, hidden_units=(8,))
    vae.step.assign(1)  # what is untrained is not exported
    return zoo.save(vae, tmp_path_factory.mktemp("cli") / "tiny", summary="Tiny.")


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_list_names_every_shipped_model_with_its_numbers(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    result = run("list")
    assert result.exit_code == 0
    for name in zoo.list_models():
        test = zoo.info(name).results["test"]
        assert name in result.output
        assert f"{-test['log_likelihood']['mean']:.2f}" in result.output


def test_list_and_help_do_not_import_tensorflow():
    program = (
        "import sys; from keras_vae.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    for arguments in (["list"], ["--help"], ["info", "conv_mnist"]):
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)


def test_info_shows_the_card(folder):
    assert run("info", folder).output == zoo.info(folder).card + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "conv_mnits"), "Did you mean 'conv_mnist'"),
        (("evaluate", "nothing"), "There is no model or model folder 'nothing'"),
        (("train", "no.toml", "--out", "x"), "No such file"),
        (("export", "dense_digits", "--part", "tail", "--out", "x"), "'tail'"),
    ],
)
def test_errors_are_one_line_and_a_status(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert message in result.output
    assert result.output.count("\n") == 1


def test_training_then_evaluating_gives_the_same_numbers(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "tiny"\n[model]\nclass = "DenseVAE"\nevent_shape = [8, 8, 1]\nlatent_dim = 2\n'
        'hidden_units = [8]\n[data]\nname = "digits"\nbinarization = "dynamic"\n'
        "[training]\nepochs = 1\n[evaluation]\nnum_samples = 5\n"
    )
    result = run("train", recipe, "--out", tmp_path / "tiny")
    assert result.exit_code == 0, result.output
    results = tmp_path / "tiny" / "results.json"
    before = results.read_text()
    result = run("evaluate", tmp_path / "tiny", "--out", results)
    assert (result.exit_code, "exists already" in result.output) == (1, True)
    assert results.read_text() == before
    result = run("evaluate", tmp_path / "tiny", "--out", tmp_path / "numbers.json")
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    stored = zoo.info(tmp_path / "tiny").results
    assert numbers["protocol"] == stored["protocol"]
    assert numbers["test"]["elbo"] == pytest.approx(stored["test"]["elbo"], rel=1e-5)
    assert "importance_samples: 5" in result.output


def test_training_into_an_existing_folder_is_refused(folder):
    result = run("train", "dense_digits", "--out", folder)
    assert result.exit_code == 1
    assert "exists already" in result.output


def test_export_writes_every_format_and_tells_what_it_measured(folder, tmp_path):
    result = run(
        "export", folder, "--format", "saved_model,onnx,litert", "--out", tmp_path, "--json"
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    names = ["tiny_decoder/1", "tiny_decoder.onnx", "tiny_decoder.tflite"]
    assert [row["path"] for row in rows] == [str(tmp_path / name) for name in names]
    for row in rows:
        assert row["largest_difference"] <= 1e-5
        assert row["bytes"] > 1000
        assert 0 < row["milliseconds"]["1"]
    assert (tmp_path / "tiny_decoder" / "1" / "saved_model.pb").exists()
    again = run("verify", tmp_path)
    assert again.exit_code == 0, again.output
    assert again.output.count("tiny_decoder") == 3


def test_export_quantizes_and_takes_uint8(folder, tmp_path):
    options = ("--part", "vae", "--format", "onnx", "--quantize", "int8", "--uint8")
    result = run("export", folder, *options, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert isinstance(row["lost_nats"], float)


def test_export_takes_a_keras_file(make_vae, tmp_path):
    vae = make_vae()
    vae.save(tmp_path / "mine.keras")
    options = ("--format", "onnx", "--out", tmp_path)
    untrained = run("export", tmp_path / "mine.keras", *options)
    assert untrained.exit_code == 1
    assert "untrained" in untrained.output
    forced = run("export", tmp_path / "mine.keras", *options, "--force")
    assert forced.exit_code == 0, forced.output
    assert (tmp_path / "mine_decoder.onnx").exists()


def test_a_keras_file_with_classes_of_ones_own_is_answered_in_a_line(make_vae, tmp_path):
    class Twice(keras.layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    vae = make_vae()
    decoder = keras.Sequential([keras.Input((2,)), Twice(), vae.decoder])
    VAE(vae.encoder, decoder).save(tmp_path / "own.keras")
    result = run("export", tmp_path / "own.keras", "--out", tmp_path)
    assert result.exit_code == 1
    assert "own.keras cannot be read: there is no class 'Twice' here." in result.output
    assert "Export it in the program that has it" in result.output


def test_a_name_with_a_dot_keeps_it(make_vae, tmp_path):
    make_vae().save(tmp_path / "digits.v2.keras")
    options = ("--format", "onnx", "--force", "--out", tmp_path)
    assert run("export", tmp_path / "digits.v2.keras", *options).exit_code == 0
    assert (tmp_path / "digits.v2_decoder.onnx").exists()


def test_verify_takes_relative_and_absolute_paths_together(folder, tmp_path, monkeypatch):
    for name in ("a", "b"):
        assert run("export", folder, "--format", "onnx", "--out", tmp_path / name).exit_code == 0
    monkeypatch.chdir(tmp_path)
    result = run("verify", "a", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert result.output.count("tiny_decoder.onnx") == 2


def test_what_fails_is_told_of_and_the_others_are_done(folder, tmp_path):
    (tmp_path / "tiny_decoder.onnx").write_text("mine")
    result = run("export", folder, "--format", "onnx,litert", "--out", tmp_path)
    assert result.exit_code == 1
    assert "tiny_decoder.onnx" in result.output
    assert "exists already" in result.output
    assert (tmp_path / "tiny_decoder.onnx").read_text() == "mine"
    assert (tmp_path / "tiny_decoder.tflite").exists()


def test_verify_fails_where_anything_fails(folder, tmp_path):
    assert run("export", folder, "--format", "onnx", "--out", tmp_path).exit_code == 0
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    result = run("verify", tmp_path, "--json")
    assert result.exit_code == 1
    broken, whole = json.loads(result.stdout)
    assert "carries no proof" in broken["error"]
    assert whole["largest_difference"] <= 1e-5


def test_verify_of_an_empty_folder_is_an_error(tmp_path):
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert "no export" in result.output


def test_unknown_format_is_refused_before_anything_is_written(folder, tmp_path):
    result = run("export", folder, "--format", "onnx,pickle", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "Received: 'pickle'" in result.output
    assert not (tmp_path / "out").exists()


def test_serving_config_writes_what_a_server_starts_from(tmp_path):
    result = run("serving-config", "conv_mnist@1,2", "--out", tmp_path / "serving")
    assert result.exit_code == 0, result.output
    assert "conv_mnist" in (tmp_path / "serving" / "config" / "models.config").read_text()


TINY = """
name = "tiny"
[model]
class = "DenseVAE"
event_shape = [8, 8, 1]
latent_dim = 2
hidden_units = [16]
[data]
name = "digits"
binarization = "dynamic"
[training]
epochs = {epochs}
learning_rate = {learning_rate}
[evaluation]
num_samples = 10
"""


def write_tiny(folder, epochs=2, learning_rate=0.001):
    path = folder / "recipe.toml"
    path.write_text(TINY.format(epochs=epochs, learning_rate=learning_rate))
    return path


def test_several_workers_need_to_know_each_other(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    arguments = [str(write_tiny(tmp_path)), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, ["train", *arguments, "--strategy", "multi-worker"])
    assert result.exit_code == 1
    assert "start them with `keras-vae launch`" in result.output
    assert "Traceback" not in result.output


def test_a_training_that_leaves_the_finite_says_so_in_a_line(tmp_path):
    recipe = write_tiny(tmp_path, learning_rate=1e30)
    result = CliRunner().invoke(main, ["train", str(recipe), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Error: Step 1 gave values that are NaN or infinite" in result.output
    assert "What helps:" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_status_138(tmp_path):
    command = [sys.executable, "-m", "keras_vae.cli", "train", write_tiny(tmp_path, epochs=3000)]
    command += ["--out", tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        checkpoints = tmp_path / "out.training" / "checkpoints"
        while process.poll() is None and not list(checkpoints.glob("*.npz")):
            time.sleep(0.1)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 138, errors.decode()
    assert b"SIGTERM: saving" in errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "out").exists()
