"""The command that exports a `.keras` file: what it names the exports, and one it cannot read."""

import keras
import pytest
from click.testing import CliRunner

from keras_vae.cli import main


@pytest.mark.parametrize("stem", ["my model", "_model"])
def test_a_keras_file_of_any_name_gives_exports_that_can_be_served(make_vae, tmp_path, stem):
    make_vae().save(tmp_path / f"{stem}.keras")
    out = tmp_path / "out"
    arguments = ["export", str(tmp_path / f"{stem}.keras"), "--force", "--out", str(out)]
    result = CliRunner().invoke(main, [*arguments, "--format", "saved_model"])
    assert result.exit_code == 0, result.output
    (folder,) = out.iterdir()
    served = CliRunner().invoke(main, ["serving-config", folder.name, "--out", f"{out}/serving"])
    assert served.exit_code == 0, served.output


def test_a_keras_file_that_cannot_be_read_is_answered_by_the_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise TypeError

    monkeypatch.setattr(keras.saving, "load_model", fail)
    (tmp_path / "own.keras").touch()
    arguments = ["export", str(tmp_path / "own.keras"), "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "own.keras cannot be read: TypeError()" in result.output


def test_exports_on_several_drives_are_shown_by_their_whole_paths(make_vae, tmp_path, monkeypatch):
    def fail(paths):
        raise ValueError("Paths don't have the same drive")

    make_vae().save(tmp_path / "own.keras")
    out = tmp_path / "out"
    monkeypatch.setattr("os.path.commonpath", fail)
    monkeypatch.setenv("COLUMNS", "500")
    arguments = ["export", str(tmp_path / "own.keras"), "--force", "--format", "onnx"]
    result = CliRunner().invoke(main, [*arguments, "--part", "decoder", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert str(out / "own_decoder.onnx") in result.output
