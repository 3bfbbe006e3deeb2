"""The wheel: what is in it, and that it works alone, far from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
INSTALLED_AS = {"keras_vae": "keras_vae", "zoo": "keras_vae/zoo", "export": "keras_vae/export"}
NOT_PRODUCT = ("__pycache__", "*.training")  # .gitignore has them too

# An editable install is still on `sys.meta_path` of this Python and would stand in for whatever the
# wheel lacks, so every module has to say where it came from.
LOAD = """
import sys
import keras_vae

model = keras_vae.zoo.load("conv_mnist")
assert model.built and model.optimizer is not None, model

for name, module in sorted(sys.modules.items()):
    if name.split(".")[0] == "keras_vae":
        assert module.__file__.startswith(sys.argv[1]), (name, module.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the tree, so that the build leaves nothing in the checkout."""
    source, ignore = tmp_path_factory.mktemp("source"), shutil.ignore_patterns(*NOT_PRODUCT)
    for name in (*INSTALLED_AS, "tests"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    run([sys.executable, "-m", "pip", "wheel", *options, source], cwd=folder)
    (path,) = folder.glob("keras_vae-*.whl")
    return path


def run(command, *, cwd, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def contents(wheel):
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_wheel_holds_each_file_of_the_product_and_no_other(wheel):
    product = {
        f"{target}/{path.relative_to(REPOSITORY / folder).as_posix()}"
        for folder, target in INSTALLED_AS.items()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and not any(fnmatch(path, f"*/{name}/*") for name in NOT_PRODUCT)
    }
    assert contents(wheel) == product


def test_wheel_has_one_top_level_package(wheel):
    assert {name.split("/")[0] for name in contents(wheel)} == {"keras_vae"}


def test_wheel_says_that_it_is_typed(wheel):
    assert "keras_vae/py.typed" in contents(wheel)


def test_wheel_carries_the_licence_and_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
    assert "Apache License" in archive.read(licence).decode()
    (commands,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
    assert "keras-vae = keras_vae.cli:main" in archive.read(commands).decode()


def test_wheel_alone_loads_a_zoo_model(wheel, tmp_path):
    target, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    options = ["--no-deps", "--no-index", "--target", target]
    run([sys.executable, "-m", "pip", "install", *options, wheel], cwd=empty)
    run([sys.executable, "-c", LOAD, target], cwd=empty, PYTHONPATH=target)
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_wheel_in_a_fresh_environment_loads_a_zoo_model(wheel, tmp_path):
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    run([sys.executable, "-m", "venv", environment], cwd=empty)
    python = environment / "bin" / "python"
    constraints = REPOSITORY / "constraints.txt"
    run([python, "-m", "pip", "install", "-c", constraints, wheel], cwd=empty)
    run([python, "-c", LOAD, environment], cwd=empty)
    run([environment / "bin" / "keras-vae", "list"], cwd=empty)
    assert list(empty.iterdir()) == []
