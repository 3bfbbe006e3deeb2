"""README's Python, from the first line to the last, in an empty folder."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"

# Few images and one epoch; no data set, no hub.
PREPARE = """
import numpy as np
from keras_vae import data, zoo

def few(name):
    gray = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)
    return data.Splits(*3 * [data.Split(gray, np.arange(64) % 10)])

data.load, zoo.push = few, lambda folder, address: zoo.info(folder)
np.save("my_images.npy", np.random.default_rng(0).integers(0, 256, (64, 20, 24, 3), np.uint8))
images = data.binarize(few("mnist").train.images, seed=0)
held_out = images[:32]
"""


@pytest.mark.slow
def test_its_blocks_run_one_after_the_other(run_python, tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 7
    code = re.sub(r"epochs=\d+", "epochs=1", "\n".join([PREPARE, *blocks]))
    run_python(code)
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {"served", "decoder.onnx", "encoder.onnx", "my_model", "my_digits"}
    assert {path.name for path in (tmp_path / "served").iterdir()} == {"conv_mnist", "digits"}
