"""The main job from end to end, with one epoch of fine-tuning."""

import numpy as np
import pytest

from keras_vae import demo


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("demo"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_EPOCHS", 1)
        demo.run(folder, lines.append)
    return folder, lines


def test_demo_leaves_exports_picture_and_report(lines):
    folder, said = lines
    assert {path.name for path in folder.iterdir()} == {
        "saved_model",
        "decoder.onnx",
        "contact_sheet.png",
        "report.txt",
    }
    assert (folder / "report.txt").read_text().splitlines() == said


def test_fine_tuning_raises_the_elbo(lines):
    before, after = (
        float(line.split(": ")[1].split()[0]) for line in lines[1] if line.startswith("ELBO")
    )
    assert after > before


def test_digits_have_the_frame_of_mnist():
    train, test = demo.digits()
    assert train.shape == (1497, 28, 28, 1)
    assert test.shape == (300, 28, 28, 1)
    assert set(np.unique(test)) == {0.0, 1.0}
    assert not train[:, :4].any()


def test_the_exports_are_verified(lines):
    folder, said = lines
    for path in (folder / "saved_model" / "1", folder / "decoder.onnx"):
        (line,) = (line for line in said if line.startswith(f"{path}: "))
        assert float(line.split("within ")[1].split(";")[0]) <= 1e-5
