"""The command's options: what of them arrives at what does the work, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import click
import keras
import pytest
from click.testing import CliRunner

from keras_vae import zoo
from keras_vae.cli import main
from keras_vae.cluster import ClusterJob
from keras_vae.zoo.reproduction import Reproduction

SHIPPED = zoo.info("dense_digits").folder
NUMBERS = {"test": {}, "protocol": {}, "seconds": 0.0}
MEASURING = "--num-samples 7 --dtype mixed_bfloat16 --limit 20"
MEASURED = {"num_samples": 7, "dtype": "mixed_bfloat16", "limit": 20}
NOT_MEASURED = dict.fromkeys(MEASURED)


class Callee:
    """Stands in for what a command calls: keeps the arguments, and returns a result."""

    def __init__(self, monkeypatch, name, result=None):
        self.result, self.calls = result, []
        monkeypatch.setattr(name, self)

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.result


def run(line):
    return CliRunner().invoke(main, line.split())


@pytest.mark.parametrize(
    ("line", "name", "result", "args", "kwargs"),
    [
        (
            "train r.toml --out o",
            "zoo.train",
            SHIPPED,
            ("r.toml", "o"),
            {"strategy": "default", "every_steps": None, "verbose": 2, "overwrite": False},
        ),
        (
            "train r.toml --out o --strategy mirrored --every-steps 7 --overwrite",
            "zoo.train",
            SHIPPED,
            ("r.toml", "o"),
            {"strategy": "mirrored", "every_steps": 7, "verbose": 2, "overwrite": True},
        ),
        ("evaluate m", "zoo.evaluate", NUMBERS, ("m",), NOT_MEASURED),
        (f"evaluate m {MEASURING}", "zoo.evaluate", NUMBERS, ("m",), MEASURED),
        (
            "reproduce m --out o",
            "zoo.reproduce",
            [],
            ("m", "o"),
            {"tolerance": 0.5, "overwrite": False},
        ),
        (
            "reproduce m --out o --tolerance 0.1 --overwrite",
            "zoo.reproduce",
            [],
            ("m", "o"),
            {"tolerance": 0.1, "overwrite": True},
        ),
        ("push m hf://a/b", "zoo.push", "hf://a/b@1", ("m", "hf://a/b"), {"private": False}),
        (
            "push m hf://a/b --private",
            "zoo.push",
            "hf://a/b@1",
            ("m", "hf://a/b"),
            {"private": True},
        ),
        (
            "report m --out o",
            "report.write_report",
            "o/index.html",
            ("m", "o"),
            {"data": None, "anew": False, "overwrite": False, **NOT_MEASURED},
        ),
        (
            f"report m --out o --data d --anew --overwrite {MEASURING}",
            "report.write_report",
            "o/index.html",
            ("m", "o"),
            {"data": "d", "anew": True, "overwrite": True, **MEASURED},
        ),
        (
            "serving-config m n@1,2 --out o",
            "export.serving.write_serving_config",
            "o",
            ("o", ("m", "n@1,2")),
            {"batching": False, "overwrite": False},
        ),
        (
            "serving-config m --out o --batching --overwrite",
            "export.serving.write_serving_config",
            "o",
            ("o", ("m",)),
            {"batching": True, "overwrite": True},
        ),
        (
            "cluster-config r.toml --out o",
            "cluster.write_cluster_config",
            [],
            (ClusterJob("r.toml", "o"), "."),
            {"overwrite": False},
        ),
        (
            "cluster-config r.toml --out o --into i --overwrite --workers 3 --name n --cpus 5 "
            "--memory 6 --gpus 7 --hours 8.5 --every-steps 9 --image x --claim y",
            "cluster.write_cluster_config",
            ["i/train.sbatch"],
            (ClusterJob("r.toml", "o", 3, "n", 5, 6, 7, 8.5, 9, "x", "y"), "i"),
            {"overwrite": True},
        ),
        ("demo", "demo.run", Path("demo_out"), ("demo_out", click.echo), {}),
        ("demo --out o", "demo.run", Path("o"), ("o", click.echo), {}),
    ],
)
def test_options_arrive(monkeypatch, line, name, result, args, kwargs):
    callee = Callee(monkeypatch, f"keras_vae.{name}", result)
    answer = run(line)
    assert answer.exit_code == 0, answer.output
    ((got_args, got_kwargs),) = callee.calls
    got_kwargs.pop("progress", None)
    assert (got_args, got_kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("explore m", {"host": "127.0.0.1", "port": None}),
        ("explore m --host 0.0.0.0 --port 8000", {"host": "0.0.0.0", "port": 8000}),
    ],
)
def test_explore_serves_until_it_is_ended(monkeypatch, line, address):
    app = SimpleNamespace(local_url="http://there", block_thread=lambda: click.echo("ended"))
    callee = Callee(monkeypatch, "keras_vae.explore.serve", app)
    assert run(line).output == "Explore m at http://there (Ctrl-C ends it).\nended\n"
    assert callee.calls == [(("m",), address)]


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize(
    ("line", "command", "workers", "restarts"),
    [
        ("launch -- train r.toml --out o", ("train", "r.toml", "--out", "o"), 2, 0),
        ("launch train r.toml --out o", ("train", "r.toml", "--out", "o"), 2, 0),
        (
            "launch --workers 3 --restarts 4 -- train r.toml --workers 5 --overwrite -h",
            ("train", "r.toml", "--workers", "5", "--overwrite", "-h"),
            3,
            4,
        ),
    ],
)
def test_launch_passes_the_command_on_and_the_status_back(
    monkeypatch, line, command, workers, restarts, status
):
    callee = Callee(monkeypatch, "keras_vae.launcher.launch", status)
    assert run(line).exit_code == status
    options = {"restarts": restarts, "show": click.echo}
    assert callee.calls == [((command, workers), options)]


@pytest.mark.parametrize("agrees", [True, False])
def test_reproduce_fails_if_a_number_differs(monkeypatch, agrees):
    rows = [
        Reproduction("elbo", -30.25, -30.5, True),
        Reproduction("kl", 8.0, 8.125 if agrees else 9.0, agrees),
    ]
    Callee(monkeypatch, "keras_vae.zoo.reproduce", rows)
    answer = run("reproduce m --out o")
    assert answer.exit_code == (0 if agrees else 1)
    assert "-30.250" in answer.output
    assert ("9.000" in answer.output) == (not agrees)
    assert answer.output.count("yes") == 1 + agrees


def test_push_says_how_to_load_what_it_pushed(monkeypatch):
    Callee(monkeypatch, "keras_vae.zoo.push", "hf://a/b@1")
    assert run("push m hf://a/b").output == "Pushed: keras_vae.zoo.load('hf://a/b@1')\n"


@pytest.mark.parametrize(
    "line",
    [
        "train r.toml",
        "train r.toml --out o --every-steps 0",
        "train r.toml --out o --strategy mirored",
        "evaluate m --num-samples 0",
        "evaluate m --limit 1",
        "evaluate m --dtype float16",
        "report m",
        "explore m --port 0",
        "launch",
        "launch --workers 0 -- train r.toml",
        "launch --restarts -1 -- train r.toml",
        "export m --out o --quantize int4",
    ],
)
def test_options_out_of_range_are_refused_with_the_usage(line):
    answer = run(line)
    assert answer.exit_code == 2
    assert answer.output.startswith("Usage: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dense_digits --quantize float16", "`--quantize` is for onnx and litert: name them with"),
        ("dense_digits --quantize int8 --format onnx,saved_model", "`--quantize` is for onnx and"),
        ("nothing.keras", "There is no file nothing.keras."),
        ("net.keras", "net.keras holds a Sequential, not a VAE."),
    ],
)
def test_what_cannot_be_exported_is_told_in_a_line(monkeypatch, tmp_path, line, message):
    monkeypatch.chdir(tmp_path)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save("net.keras")
    answer = run(f"export {line} --out out")
    assert answer.exit_code == 1
    assert answer.output.startswith(f"Error: {message}")
    assert answer.output.count("\n") == 1
    assert not Path("out").exists()
