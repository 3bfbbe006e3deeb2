"""Start: seconds until something can be done."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import Results
from keras_vae import zoo

PROTOCOL = {"what": "medians of processes of their own, in turn", "rounds": 5}
_COMMANDS = {"keras-vae --help": ["--help"], "keras-vae list": ["list"]}
_IMPORT = """
import time
start = time.perf_counter()
import keras, numpy, tensorflow, tensorflow_probability
middle = time.perf_counter()
import keras_vae
from keras_vae import VAE, BetaVAE, ConvVAE, DenseVAE, data, zoo
end = time.perf_counter()
answer = {"seconds": end - middle, "dependencies_seconds": middle - start}
"""
_LOAD = """
import sys, time
from benchmarks.speed.contestants.process import peak_bytes
from keras_vae import DenseVAE, zoo
before, start = peak_bytes(), time.perf_counter()
zoo.load(sys.argv[1])
answer = {"seconds": time.perf_counter() - start, "bytes": peak_bytes() - before}
"""


def measure(results: Results, peers: str | None) -> None:
    """Measures the import, the command, and every shipped model; the peers take no part."""
    results.measure("import", lambda: _medians(_run, _IMPORT))
    for name, arguments in _COMMANDS.items():
        results.measure(name, lambda arguments=arguments: _medians(_command, arguments))
    for name in zoo.list_models():
        results.measure(f"load {name}", lambda name=name: _medians(_run, _LOAD, name))


def cells(rows: dict[str, dict]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the table."""
    table = []
    for name, row in rows.items():
        remark = ""
        if "dependencies_seconds" in row:
            share = row["seconds"] / row["dependencies_seconds"]
            remark = f"{share:.1%} of the {row['dependencies_seconds']:.1f} s of its dependencies"
        elif "bytes" in row:
            remark = f"{row['bytes'] / 2**20:.0f} MiB more memory at its peak"
        table.append([name, f"{1e3 * row['seconds']:.0f}", remark])
    return ["", "ms", ""], table


def _medians(measure_once, *arguments):
    rounds = [measure_once(*arguments) for _ in range(PROTOCOL["rounds"])]
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


def _run(code, *arguments):
    script = f"{code}\nimport json\nprint(json.dumps(answer))"
    command = [sys.executable, "-c", script, *arguments]
    root = Path(__file__).parents[2]
    return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=root).stdout)


def _command(arguments):
    command = [Path(sys.executable).with_name("keras-vae"), *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return {"seconds": time.perf_counter() - start}
