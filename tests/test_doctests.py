"""Every example in a docstring runs and prints what it says."""

import configparser
import doctest
import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def product_modules():
    # pytest's own --doctest-modules would import zoo/ as `zoo`, a second copy of keras_vae.zoo.
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    mapping = config["options"]["package_dir"].split("\n")[1:]
    folders = dict(line.split(" = ") for line in mapping)
    for package in config["options"]["packages"].split("\n")[1:]:
        place = package
        for name, folder in folders.items():
            place = place.replace(name, folder)
        for path in sorted((REPOSITORY / place.replace(".", "/")).glob("*.py")):
            yield f"{package}.{path.stem}".removesuffix(".__init__")


@pytest.mark.parametrize("name", list(product_modules()))
def test_examples_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=options).failed == 0
