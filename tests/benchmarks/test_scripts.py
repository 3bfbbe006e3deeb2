"""The benchmarks measure what they say, on little data, and the page shows what they measured."""

import numpy as np
import pytest

from benchmarks import tables
from keras_vae import anomaly as scores
from keras_vae import data


@pytest.mark.parametrize("path", tables.PAGES, ids=lambda path: path.name)
def test_the_pages_show_the_results(path):
    text = path.read_text(encoding="utf-8")
    assert tables.page(text, tables.PAGES[path]) == text, "stale: run python -m benchmarks.tables"


@pytest.mark.data
class TestOnData:
    def test_a_held_out_digit_is_told_from_the_others(self, monkeypatch):
        from benchmarks import anomaly

        try:
            data.load("mnist")
        except RuntimeError as error:
            pytest.skip(f"mnist is not in TFDS_DATA_DIR: {error}")
        monkeypatch.setitem(anomaly.PROTOCOL, "epochs", 1)
        monkeypatch.setitem(anomaly.PROTOCOL, "num_samples", 1)
        table = anomaly.held_out_digit(1, limit=60)
        assert set(table) == set(scores.METHODS)
        # Ones are few strokes: a model that knows next to nothing finds them the most likely.
        assert table["elbo"]["auroc"] < 0.5 < table["typicality"]["auroc"]

    def test_codes_that_are_the_labels_are_the_best(self):
        representation = pytest.importorskip("benchmarks.representation")
        labels = np.arange(200) % 10
        codes = np.eye(10)[labels]
        row = representation.measure(codes, labels, codes, labels)
        assert row["linear_probe"] == row["nearest_neighbour"] == 1.0
        assert row["k_means"]["accuracy"] == 1.0

    @pytest.mark.slow
    def test_sprites_are_learned_and_scored(self):
        from benchmarks import disentanglement

        row = disentanglement.measure(4, 0, steps=2, num_examples=200, num_votes=9, log=False)
        assert 0.0 <= row["mig"] <= 1.0
        assert row["elbo"] < 0.0
