"""The examples run, on little data."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_vae import data, zoo

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.data
def test_fine_tuning_on_omniglot_leaves_curves_and_a_model(tmp_path):
    try:
        data.load("omniglot", image_size=(28, 28))
    except RuntimeError as error:
        pytest.skip(f"omniglot is not in TFDS_DATA_DIR: {error}")
    subprocess.run(
        [sys.executable, EXAMPLES / "finetune_omniglot.py", "--limit", "512", "--epochs", "1"],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    with (tmp_path / "finetuned" / "learning_curves.csv").open(encoding="utf-8") as file:
        header, before, after = csv.reader(file)
    assert header == ["epoch", "fine-tuned from conv_mnist", "from scratch"]
    # Strokes are strokes: after four steps the one that knows digits is far ahead.
    assert float(after[1]) > float(after[2]) + 10
    assert zoo.load(tmp_path / "finetuned" / "conv_omniglot").event_shape == (28, 28, 1)
