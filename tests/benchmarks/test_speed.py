"""The race, and that it is not lost: ratios only, since machines differ."""

import io
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.speed import growth, likelihood, pictures, quality, serving, start, training
from benchmarks.speed.comparison import Comparison
from benchmarks.speed.race import Contestant, race
from benchmarks.speed.race import start as start_contestants
from benchmarks.speed.sections import COMPARED, SECTIONS

TINY = {"network": "dense", "batch_size": 16, "dtype": "float32", "num_images": 64}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "images.npz"
    bits = np.random.default_rng(0).integers(0, 2, (80, 28, 28, 1))
    np.savez(path, train=np.uint8(255 * bits), test=np.float32(bits[:20]))
    return str(path)


def test_every_contestant_of_this_environment_answers_in_every_round():
    contestants = start_contestants(training.CONTESTANTS, None, {"job": "train"} | TINY)
    answers = race(contestants, rounds=2)
    assert set(answers) == {training.OURS, training.KERAS, training.CEILING}
    for rounds in answers.values():
        assert len(rounds) == 2
        assert all(answer["seconds"] > 0 for answer in rounds)
    assert all(contestant.process.poll() is not None for contestant in contestants.values())


def test_a_contestant_that_fails_says_why():
    failing = Contestant(sys.executable, "ours", {"job": "train"} | TINY | {"dtype": "float17"})
    with pytest.raises(RuntimeError, match=r"(?s)contestants.ours failed:.*float17"):
        race({"ours": failing}, rounds=1)


def test_a_contestant_that_is_done_rests(data):
    task = {"job": "learn", "network": "dense", "batch_size": 16, "data": data}
    chosen = {"ours": ("ours", False, {})}
    (answers,) = race(start_contestants(chosen, None, task), 3, lambda a: a["elbo"] < 0).values()
    assert len(answers) == 1


def test_what_is_scored_is_what_the_model_says():
    # A fresh decoder knows nothing: its logits are near 0, and each of 784 pixels costs ln 2 nats.
    task = {"job": "score", "network": "dense", "num_images": 4, "num_samples": 3}
    contestants = start_contestants({"ours": ("ours", False, {})}, None, task)
    (answers,) = race(contestants, rounds=1).values()
    np.testing.assert_allclose(answers[0]["nll"], 784 * np.log(2), rtol=0.1)


def test_peak_memory_is_not_that_of_the_process_that_started_it():
    some = np.ones(2**25)  # 256 MiB here, and next to nothing there
    code = "from benchmarks.speed.contestants.process import peak_bytes as p; print(p())"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert 2**20 < int(process.stdout) < some.nbytes / 2


@pytest.mark.slow
def test_streamed_images_are_counted():
    task = growth._STREAM | {"num_images": 20_000}
    point = growth.point(task, rounds=1)
    assert point["images_per_second"] > 0
    assert point["peak_bytes"] > 2**20


class TestTables:
    def test_training_has_our_ratio_to_the_best_peers(self):
        rates = {
            "keras_vae": 300,
            "PyTorch, eager": 200,
            "PyTorch, fused Adam": 250,
            "pythae": 100,
            "bare products": 400,
        }
        row = {
            name: {"images_per_second": rate, "smallest": rate, "largest": rate}
            for name, rate in rates.items()
        }
        rows = {"dense, batch 128, float32": row}
        columns, lines = training.cells(rows)
        assert columns[1:] == ["dense, batch 128, float32"]
        assert ["pythae", "100"] in lines
        assert [cell for _, cell in lines[-3:]] == ["1.50", "1.20", "75%"]
        assert_draws(pictures.draw_training(rows))

    def test_training_without_the_peers_has_no_ratio_to_them(self):
        row = {name: {"images_per_second": 300} for name in (training.OURS, training.CEILING)}
        _, lines = training.cells({"dense, batch 128, float32": row})
        assert [cell for _, cell in lines[-3:]] == ["", "", "100%"]

    def test_quality_says_who_did_not_arrive(self):
        rows = {
            "conv": {
                "keras_vae": {"seconds": [2.0, 4.0], "elbo": [-101.0, -91.0]},
                "pythae": {"seconds": [4.0, 8.0], "elbo": [-110.0, -93.0]},
            }
        }
        columns, (ours, pythae) = quality.cells(rows)
        assert columns[1:-2] == [f"to -{nats} nats" for nats in (100, 96, 94, 93, 92)]
        assert ours == ["keras_vae", *["4 (1.00)"] * 5, "2", "-91.00"]
        assert pythae == ["pythae", *["8 (2.00)"] * 3, *["not in 8"] * 2, "2", "-93.00"]
        assert_draws(pictures.draw_quality(rows))

    def test_likelihood_has_the_ratio_to_ours(self):
        row = {"keras_vae": {"seconds": 2.0, "nll": 1.0}, "pythae": {"seconds": 5.0, "nll": 1.0}}
        columns, cells = likelihood.cells({"dense": row})
        assert [row for row in cells if row[0] == "pythae"] == [["pythae", "5.0", "2.50"]]
        assert {len(row) for row in cells} == {len(columns)}

    def test_ours_are_compared_with_the_best_of_the_peers(self):
        rates = Comparison("images/s", 300, {"slow": 100, "fast": 200})
        assert rates.cells() == ["images/s", "300", "200", "fast", "1.50"]
        times = Comparison("ms", 2, {"slow": 5, "fast": 4}, 1, smaller_is_better=True)
        assert times.cells() == ["ms", "2.0", "4.0", "fast", "2.00"]

    def test_whoever_never_arrives_has_no_ratio(self):
        given = {(None, 4): ["never", "4", "a", ""], (4, None): ["4", "never", "", ""]}
        for (ours, theirs), expected in given.items():
            assert Comparison("s", ours, {"a": theirs}, 0, True).cells() == ["s", *expected]
        assert Comparison("s", 4, {}, 0, True).cells() == ["s", "4", "", "", ""]

    def test_every_section_with_peers_is_compared(self):
        seconds = {"seconds": 2.0, "nll": 1.0}
        rates = {"images_per_second": 100}
        times = {"1": 0.5, "64": 8.0, "256": 16.0}
        given = {
            training: ("dense", {"keras_vae": rates, "pythae": rates, "bare products": rates}),
            likelihood: ("dense", {"keras_vae": seconds, "PyTorch, eager, bfloat16": seconds}),
            serving: ("dense", {"ONNX": times, "LiteRT": times, "PyTorch, eager": times}),
            quality: ("conv", {"keras_vae": {"seconds": [2.0], "elbo": [-97.0]}}),
        }
        compared = {
            section: [each.cells()[1:] for each in section.comparisons({case: row})]
            for section, (case, row) in given.items()
        }
        assert compared[training] == [["100", "100", "pythae", "1.00"]]
        assert compared[likelihood] == [["2.0", "", "", ""]]
        assert [cells[3] for cells in compared[serving]] == ["1.00"] * 3
        assert compared[quality][:2] == [["2", "", "", ""], ["never", "", "", ""]]
        assert set(given) == {SECTIONS[name] for name in COMPARED}

    def test_serving_has_images_per_second(self):
        columns, cells = serving.cells({"dense": {"ONNX": {"1": 0.5, "64": 8.0, "256": 16.0}}})
        assert ["ONNX", "0.5", "8,000", "16,000"] in cells
        assert {len(row) for row in cells} == {len(columns)}

    def test_start_has_the_share_of_the_import(self):
        rows = {"import": {"seconds": 0.1, "dependencies_seconds": 4.0}}
        _, (cells,) = start.cells(rows)
        assert cells == ["import", "100", "2.5% of the 4.0 s of its dependencies"]

    def test_growth_has_every_point(self):
        point = {"images_per_second": 2000, "peak_bytes": 2**20}
        rows = {
            f"{axis}: {value}": point
            for axis, (_, values, _) in growth.AXES.items()
            for value in values
        }
        _, cells = growth.cells(rows)
        assert len(cells) == len(rows)
        assert cells[0][1:] == ["2,000", "500.0", "1"]
        assert_draws(pictures.draw_growth(rows))
        assert_draws(pictures.draw_growth({"latents, dense: 8": point}))  # broken off, then drawn


@pytest.mark.slow
def test_every_format_decodes_in_every_round():
    task = {"job": "decode", "network": "dense", "batch_sizes": (1, 2)}
    ours = {name: each for name, each in serving.CONTESTANTS.items() if not each[1]}
    answers = race(start_contestants(ours, None, task), rounds=1)
    assert len(answers) == 4
    for (answer,) in answers.values():
        assert set(answer["milliseconds"]) == {"1", "2"}
        assert min(answer["milliseconds"].values()) > 0


def assert_draws(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.tell() > 5_000


@pytest.mark.slow
@pytest.mark.parametrize(("network", "num_images"), [("dense", 12_800), ("conv", 6400)])
def test_training_is_not_slower_than_the_usual_way_in_keras(network, num_images):
    task = {"network": network, "batch_size": 128, "dtype": "float32", "num_images": num_images}
    # Measured: 1.3 to 1.6 times as fast on the dense one, 1.7 on the other. This is about a
    # collapse, which shows every time, and in the fastest rounds, however busy the machine is.
    ratios = []
    while len(ratios) < 3 and max(ratios, default=0.0) <= 0.9:
        row = training.throughput(task, None, rounds=5)
        ours, usual = (row[name]["largest"] for name in (training.OURS, training.KERAS))
        ratios.append(ours / usual)
    assert max(ratios) > 0.9, ratios
