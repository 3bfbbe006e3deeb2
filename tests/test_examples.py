"""The examples run, on little data."""

import contextlib
import csv
import importlib.util
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from keras_vae import data, zoo

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.data
@pytest.mark.slow
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


@pytest.mark.slow
def test_mlflow_is_told_what_the_history_says(tmp_path):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip('MLflow is not there: pip install "keras-vae[tracking]".')
    subprocess.run(
        [sys.executable, EXAMPLES / "track_with_mlflow.py", "--epochs", "2"],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    with (tmp_path / "tracked" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with contextlib.closing(sqlite3.connect(tmp_path / "tracked" / "mlflow.db")) as database:
        for name in ("elbo", "kl", "val_elbo", "active_units", "mutual_information"):
            query = "SELECT value FROM metrics WHERE key = ? ORDER BY step"
            logged = [value for (value,) in database.execute(query, (name,))]
            assert logged == pytest.approx([float(row[name]) for row in rows])
    assert zoo.load(tmp_path / "tracked" / "model").latent_dim == 8
