"""The tree against setup.cfg, and the code against the rules of who may import whom."""

import ast
import configparser
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = {"keras_vae": "keras_vae", "zoo": "keras_vae.zoo", "export": "keras_vae.export"}

# A room is a module or a package right below `keras_vae`; the package's own file is the room "".
# In the chain, imports point left only.
CHAIN = (
    "checks",
    "data",
    "executions",
    "extras",
    "files",
    "checkpoints",
    "random",
    "schedules",
    "distributions",
    "networks",
    "objectives",
    "optimizers",
    "feeding",
    "parts",
    "replicas",
    "scoring",
    "stability",
    "tuning",
    "trainer",
    "vae",
    "models",
)
UP_TO_VAE = set(CHAIN[:-1])
WATCHERS = ("metrics", "disentanglement", "anomaly", "plots", "callbacks", "representation")
MAY_IMPORT = {room: set(CHAIN[:position]) for position, room in enumerate(CHAIN)}
MAY_IMPORT |= {room: UP_TO_VAE | set(WATCHERS[:n]) for n, room in enumerate(WATCHERS)}
MAY_IMPORT["representation"].add("models")
MAY_IMPORT["resume"] = MAY_IMPORT["averages"] = UP_TO_VAE
MAY_IMPORT["launcher"] = MAY_IMPORT["hardware"] = MAY_IMPORT["sprites"] = set()
MAY_IMPORT["cluster"] = {"files"}
MAY_IMPORT["data"] = {"extras"}
MAY_IMPORT["export"] = UP_TO_VAE
MAY_IMPORT["zoo"] = {*CHAIN, *WATCHERS, "data", "sprites", "resume", "averages", "hardware"}
PAGES = ("explore", "report")  # above the zoo, below the command
MAY_IMPORT |= {room: MAY_IMPORT["zoo"] | {"zoo"} for room in PAGES}
MAY_IMPORT[""] = set(MAY_IMPORT) - {"zoo", "export", *PAGES}
MAY_IMPORT["demo"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)


def test_setup_cfg_lists_every_package_of_the_tree():
    assert declared_packages(REPOSITORY) == packages_in_tree(REPOSITORY)


def test_setup_cfg_maps_zoo_and_export_into_keras_vae():
    mapping = read_list(REPOSITORY, "package_dir")
    assert sorted(mapping) == ["keras_vae.export = export", "keras_vae.zoo = zoo"]


def test_every_package_has_an_init_file():
    folders = {path.parent for _, path in product_modules(REPOSITORY)}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_imports_point_left_only():
    assert wrong_imports(REPOSITORY) == []


def test_zoo_and_export_are_imported_by_their_full_name():
    assert bare_imports(REPOSITORY) == []


def test_watchers_use_public_names_only():
    assert private_uses(REPOSITORY) == []


def test_only_cli_prints():
    assert prints(REPOSITORY) == []


def test_product_mentions_no_folder_beside_the_checkout():
    assert mentions_of_shared(REPOSITORY) == []


GOOD_TREE = {
    "setup.cfg": "[options]\npackages =\n    keras_vae\n    keras_vae.models\n    keras_vae.zoo\n",
    "keras_vae/__init__.py": "import importlib\ndef load():\n    from keras_vae import zoo\n",
    "keras_vae/random.py": "import tensorflow as tf\n",
    "keras_vae/objectives.py": "from keras_vae.random import fixed_seed\n",
    "keras_vae/vae.py": "from keras_vae import objectives\nfrom keras_vae.random import x\n",
    "keras_vae/models/__init__.py": "from keras_vae.models.dense_vae import DenseVAE\n",
    "keras_vae/models/dense_vae.py": "from ..vae import VAE\n",
    "keras_vae/metrics.py": "from keras_vae.vae import VAE\ndef f(vae): return vae.encode\n",
    "keras_vae/sprites.py": "import numpy\n",
    "keras_vae/cli.py": "from keras_vae import zoo\nprint(Console())\n",
    "zoo/__init__.py": "from keras_vae.zoo.store import load\n",
    "zoo/store.py": "from keras_vae import data, models\ndef f(console): console.print(1)\n",
    "zoo/models/conv_mnist/recipe.toml": "",
}


def plant(root, changes=None):
    for name, text in (GOOD_TREE | (changes or {})).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_checks_find_nothing_in_a_good_tree(tmp_path):
    root = plant(tmp_path)
    assert declared_packages(root) == packages_in_tree(root)
    for check in (wrong_imports, bare_imports, private_uses, prints, mentions_of_shared):
        assert check(root) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("keras_vae/random.py", "from keras_vae.vae import VAE"),
        ("keras_vae/random.py", "from keras_vae import schedules"),
        ("keras_vae/objectives.py", "import keras_vae.models"),
        ("keras_vae/objectives.py", "import keras_vae"),
        ("keras_vae/vae.py", "from keras_vae import DenseVAE"),
        ("keras_vae/vae.py", "def f():\n    from .models import DenseVAE"),
        ("keras_vae/vae.py", "import importlib\nimportlib.import_module('keras_vae.zoo')"),
        ("keras_vae/models/dense_vae.py", "from ..metrics import x"),
        ("keras_vae/models/dense_vae.py", "from .. import zoo"),
        ("keras_vae/models/__init__.py", "from ..zoo import load"),
        ("keras_vae/metrics.py", "from keras_vae.models import DenseVAE"),
        ("keras_vae/sprites.py", "from keras_vae.random import fixed_seed"),
        ("keras_vae/export/onnx.py", "from keras_vae.zoo import load"),
        ("export/onnx.py", "from keras_vae.zoo import load"),
        ("export/onnx.py", "from keras_vae import models"),
        ("zoo/store.py", "from keras_vae.cli import main"),
        ("zoo/store.py", "from keras_vae.export import to_onnx"),
        ("keras_vae/__init__.py", "from keras_vae import zoo"),
        ("keras_vae/__init__.py", "def f():\n    import keras_vae.cli"),
        ("keras_vae/nowhere.py", ""),
    ],
)
def test_a_wrong_import_is_found(tmp_path, name, code):
    (problem,) = wrong_imports(plant(tmp_path, {name: code + "\n"}))
    assert problem.startswith(name)


@pytest.mark.parametrize(
    "code", ["import zoo", "import zoo.store", "from export import to_onnx", "import export as e"]
)
def test_a_bare_import_is_found(tmp_path, code):
    assert bare_imports(plant(tmp_path, {"tests/test_zoo.py": code})) != []


@pytest.mark.parametrize(
    "code", ["from keras_vae.vae import _loss", "def f(vae):\n    return vae._loss"]
)
def test_a_private_use_is_found(tmp_path, code):
    assert private_uses(plant(tmp_path, {"keras_vae/metrics.py": code})) != []


@pytest.mark.parametrize(
    "code",
    [
        "print(1)",
        "tf.print(1)",
        "click.echo(1)",
        "sys.stdout.write('')",
        "Console()",
        "rich.console.Console()",
        "rich.print(1)",
        "Progress()",
    ],
)
def test_a_print_is_found(tmp_path, code):
    assert prints(plant(tmp_path, {"zoo/train.py": code})) != []


@pytest.mark.parametrize("name", ["zoo/models/conv_mnist/recipe.toml", "Makefile", "export/a.md"])
def test_a_mention_of_shared_is_found(tmp_path, name):
    assert mentions_of_shared(plant(tmp_path, {name: "data = ../shared/mnist"})) != []


@pytest.mark.parametrize("name", ["zoo/hub/client.py", "keras_vae/networks/deep.py"])
def test_an_unlisted_package_is_found(tmp_path, name):
    root = plant(tmp_path, {name: ""})
    assert declared_packages(root) != packages_in_tree(root)


def read_list(root, option):
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    return config["options"][option].split("\n")[1:]


def declared_packages(root):
    return set(read_list(root, "packages"))


def packages_in_tree(root):
    return {
        module if path.name == "__init__.py" else module.rpartition(".")[0]
        for module, path in product_modules(root)
    }


def product_modules(root):
    """Yields (dotted module name, path) of every Python file of the product."""
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            yield ".".join((package, *parts)).removesuffix(".__init__"), path


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=path)


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def wrong_imports(root):
    rooms = {room_of(module) for module, _ in product_modules(root)}
    problems = []
    for module, path in product_modules(root):
        name, room = path.relative_to(root).as_posix(), room_of(module)
        if room not in MAY_IMPORT:
            problems.append(f"{name}: give {room!r} a place in MAY_IMPORT of {__file__}")
            continue
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        allowed = MAY_IMPORT[room] | {room}
        for line, target, is_lazy in imports_of(path, package, rooms):
            lazily_allowed = {"zoo", "export"} if room == "" and is_lazy else set()
            if target not in allowed | lazily_allowed:
                problems.append(f"{name}:{line} imports keras_vae.{target}".removesuffix("."))
    return problems


def imports_of(path, package, rooms):
    """Yields (line, room, is inside of a function) of every import of a `keras_vae` module."""
    tree = parse(path)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lazy = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for module in imported_modules(node, package):
            top, *rest = module.split(".")
            if top == "keras_vae":
                # `from keras_vae import VAE` names no room: it imports the package itself.
                room = rest[0] if rest and rest[0] in rooms | set(MAY_IMPORT) else ""
                yield node.lineno, room, id(node) in lazy


def imported_modules(node, package=""):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base]).removesuffix(".")
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and called_name(node).endswith("import_module"):
        return [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    return []


def called_name(node):
    return ast.unparse(node.func)


def bare_imports(root):
    return [
        f"{path.relative_to(root)}:{node.lineno}"
        for folder in (*FOLDERS, "tests", "benchmarks", "examples")
        for path in sorted((root / folder).rglob("*.py"))
        for node in ast.walk(parse(path))
        if not getattr(node, "level", 0)
        for module in imported_modules(node)
        if module.split(".")[0] in {"zoo", "export"}
    ]


def private_uses(root):
    problems, own = [], {"self", "cls", "super()"}
    for module, path in product_modules(root):
        if room_of(module) not in WATCHERS:
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_vae"):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in own:
                names = [node.attr]
            else:
                continue
            problems += [f"{path.name}:{node.lineno} {name}" for name in names if is_private(name)]
    return problems


def is_private(name):
    of_named_tuples = {"_replace", "_asdict", "_fields"}
    return re.match(r"_[^_]", name) is not None and name not in of_named_tuples


def prints(root):
    problems = []
    for module, path in product_modules(root):
        if room_of(module) == "cli":
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and writes_to_terminal(node):
                problems.append(f"{path.relative_to(root)}:{node.lineno} {called_name(node)}")
    return problems


def writes_to_terminal(call):
    owner, _, name = called_name(call).rpartition(".")
    if name in {"Progress", "Live"}:
        return "console" not in {keyword.arg for keyword in call.keywords}
    return (
        name in {"Console", "get_console", "echo", "secho", "pprint"}
        or (name == "print" and owner in {"", "tf", "rich", "builtins"})
        or owner in {"sys.stdout", "sys.stderr"}
    )


def mentions_of_shared(root):
    paths = [path for path in root.iterdir() if path.is_file()]
    paths += [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    text_kinds = {"", ".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
    return [
        str(path.relative_to(root))
        for path in sorted(paths)
        if path.suffix in text_kinds
        and re.search(r"(?<![\w-])shared/", path.read_text(encoding="utf-8", errors="ignore"))
    ]
