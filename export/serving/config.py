"""The files that TensorFlow Serving starts from, written for the models that one names."""

import contextlib
import errno
import json
import os
import re
import string
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from keras_vae.export.runtimes import WARM_UP_BATCH_SIZES
from keras_vae.files import atomic_directory, atomic_file, local_path

IMAGE = "tensorflow/serving:2.21.0"

_FLAGS = (
    "--model_config_file=/config/models.config",
    "--model_config_file_poll_wait_seconds=30",
    "--allow_version_labels_for_unavailable_models=true",
    "--monitoring_config_file=/config/monitoring.config",
)
_BATCHING_FLAGS = (
    "--enable_batching=true",
    "--batching_parameters_file=/config/batching.config",
)
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
# Of the requests that the server replays while it loads a version; if it refuses one, it does not
# serve the version.
_WARM_UP_SIZE = max(WARM_UP_BATCH_SIZES)


@dataclass(frozen=True)
class ServedModel:
    """A model on the server, and which of its versions.

    Without labels, the newest version is served as soon as its folder appears, and the one before
    is dropped. With them, just the labelled versions are, until the configuration names others. A
    request that names neither a label nor a version goes to the newest of them, which a canary is:
    before the first one comes, all clients should ask for the label "stable".

    Attributes:
        name: Under which clients ask for it, and of the folder that holds its versions.
        stable: The version that bears the label "stable", or None.
        canary: The version that bears the label "canary", or None.

    Raises:
        ValueError: If the name would not do in a URL, a version is no integer of at least 0, or
            there is a canary without a stable version or the same as it.

    Example:

    >>> ServedModel.parse("conv_mnist@3,4")
    ServedModel(name='conv_mnist', stable=3, canary=4)
    >>> ServedModel.parse("conv_mnist")
    ServedModel(name='conv_mnist', stable=None, canary=None)
    """

    name: str
    stable: int | None = None
    canary: int | None = None

    def __post_init__(self):
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(
                "`name` should be letters, digits, '_', '.' and '-', beginning with a letter or "
                f"digit. Received: name={self.name!r}."
            )
        for label, version in self.labels.items():
            if isinstance(version, bool) or not isinstance(version, int) or version < 0:
                raise ValueError(
                    f"`{label}` should be a version, an integer >= 0. "
                    f"Received: {label}={version!r}."
                )
        if self.canary is not None and (self.stable is None or self.stable == self.canary):
            raise ValueError(
                "`canary` should stand beside another version, `stable`. "
                f"Received: stable={self.stable}, canary={self.canary}."
            )

    @classmethod
    def parse(cls, text: str) -> "ServedModel":
        """Returns the model of "name", "name@stable" or "name@stable,canary".

        Args:
            text: What a user types.

        Raises:
            ValueError: If it is none of these.
        """
        found = re.fullmatch(rf"({_NAME})(?:@(\d+)(?:,(\d+))?)?", text)
        if not found:
            raise ValueError(
                "A served model should be given as NAME, NAME@STABLE or NAME@STABLE,CANARY. "
                f"Received: {text!r}."
            )
        name, *versions = found.groups()
        return cls(name, *(None if version is None else int(version) for version in versions))

    @property
    def labels(self) -> dict[str, int]:
        """The versions by label."""
        labels = {"stable": self.stable, "canary": self.canary}
        return {label: version for label, version in labels.items() if version is not None}


@dataclass(frozen=True)
class Batching:
    """How the server joins requests into batches. It pays where requests are small and many.

    It holds for every model of the server, and for every signature: those whose inputs have no
    batch axis are then refused, and `sample` is one of them.

    Attributes:
        max_batch_size: Examples that are computed at once.
        max_request_size: Examples in one request, at least the 64 of the requests with which a
            version is warmed up; larger ones than `max_batch_size` are split.
        timeout_micros: Longest wait for others to join, in microseconds.
        num_threads: Batches that are computed at the same time; the number of cores is a start.
        max_enqueued_batches: Beyond these the server answers UNAVAILABLE, which clients try again;
            together they should hold 64 examples, too.

    Raises:
        ValueError: If `timeout_micros` is below 0, another one below 1, a request cannot be as
            large as a batch, or the requests of the warm-up would be refused.
    """

    max_batch_size: int = 64
    max_request_size: int = 1024
    timeout_micros: int = 1000
    num_threads: int = 4
    max_enqueued_batches: int = 100

    def __post_init__(self):
        for name, value in vars(self).items():
            least = 0 if name == "timeout_micros" else 1
            if value < least:
                raise ValueError(f"`{name}` should be >= {least}. Received: {name}={value}.")
        if self.max_request_size < self.max_batch_size:
            raise ValueError(
                f"`max_request_size` should be >= max_batch_size={self.max_batch_size}. "
                f"Received: max_request_size={self.max_request_size}."
            )
        if self.max_request_size < _WARM_UP_SIZE:
            raise ValueError(
                f"`max_request_size` should be >= {_WARM_UP_SIZE}, the size of the requests that "
                "warm an exported version up: the server would not serve it. "
                f"Received: max_request_size={self.max_request_size}."
            )
        if self.max_batch_size * self.max_enqueued_batches < _WARM_UP_SIZE:
            raise ValueError(
                f"`max_batch_size` * `max_enqueued_batches` should be >= {_WARM_UP_SIZE}, the size "
                "of the requests that warm an exported version up: the server would not serve it. "
                f"Received: max_batch_size={self.max_batch_size}, "
                f"max_enqueued_batches={self.max_enqueued_batches}."
            )


def write_serving_config(
    folder: str | os.PathLike,
    names: str | ServedModel | Iterable[str | ServedModel],
    *,
    batching: Batching | bool = False,
    image: str = IMAGE,
    overwrite: bool = False,
) -> Path:
    """Writes all that TensorFlow Serving starts from, for Docker Compose and for Kubernetes.

        compose.yaml               the server, and Prometheus in the profile "monitoring"
        kubernetes.yaml            ConfigMap, Deployment and Service
        prometheus.yaml            where Prometheus finds the server's numbers
        config/models.config       the models, their versions and labels; the server polls it
        config/monitoring.config   the server's numbers, for Prometheus
        config/batching.config     if it joins requests
        config/probe.sh            asks the server whether every model is available

    A new folder appears whole. In an existing one each file is replaced in one step and the folders
    stay, since a running server polls them.

    Args:
        folder: Where to write.
        names: One model or several: names, "name@stable,canary" as `ServedModel.parse` has it, or
            `ServedModel`s.
        batching: Whether the server joins requests. True takes the `config/batching.config` that is
            there, edited or not, or the numbers of `Batching()`.
        image: The server's Docker image.
        overwrite: Whether files of an existing folder may be replaced.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder exists and `overwrite` is not set.
        OSError: If it cannot be written.
        ValueError: If no model is named, one is named twice, a name or version will not do, or
            `folder` is the address of a bucket.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp(), "serving")
    >>> _ = write_serving_config(folder, ["conv_mnist@1,2", "beta_mnist"])
    >>> sorted(path.name for path in folder.iterdir())
    ['compose.yaml', 'config', 'kubernetes.yaml', 'prometheus.yaml']
    """
    folder = local_path(folder)
    names = [names] if isinstance(names, str | ServedModel) else names
    models = [name if isinstance(name, ServedModel) else ServedModel.parse(name) for name in names]
    served = [model.name for model in models]
    if not models or len(set(served)) < len(served):
        raise ValueError(
            "`names` should be one model or more, each named once. "
            f"Received: {', '.join(served) or 'none'}."
        )
    if not re.fullmatch(r"[\w./:@-]+", image):
        raise ValueError(f"`image` should name a Docker image. Received: image={image!r}.")
    if batching is True and overwrite:
        with contextlib.suppress(FileNotFoundError):
            batching = (folder / "config" / "batching.config").read_text(encoding="utf-8")
    texts = _render(models, Batching() if batching is True else batching, image)
    if overwrite and folder.is_dir():
        for name, text in texts.items():
            with atomic_file(folder / name) as draft:
                draft.write_text(text, encoding="utf-8")
        # A batching.config that is there stays: a server that runs may have been started with it.
        return folder
    if folder.exists():
        raise FileExistsError(
            errno.EEXIST, "It exists already; replace its files with `overwrite`", str(folder)
        )
    with atomic_directory(folder) as draft:
        for name, text in texts.items():
            path = draft / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return folder


def _render(models, batching, image):
    """Returns the text of each file by its name; `batching` may be the text of its own."""
    config = {
        "models.config": _models_config(models),
        "monitoring.config": _template("monitoring.config"),
        "probe.sh": _template("probe.sh"),
    }
    if batching:
        is_text = isinstance(batching, str)
        config["batching.config"] = batching if is_text else _batching_config(batching)
    data = "".join(f"  {name}: |\n{textwrap.indent(text, '    ')}" for name, text in config.items())
    names = [model.name for model in models]
    # JSON's lists of strings are YAML's.
    settings = {
        "arguments": json.dumps([*_FLAGS, *(_BATCHING_FLAGS if batching else ())]),
        "config": data,
        "first_model": names[0],
        "image": image,
        "probe": json.dumps(["bash", "/config/probe.sh", *names]),
        "probe_of_compose": json.dumps(["CMD", "bash", "/config/probe.sh", *names]),
    }
    texts = {f"config/{name}": text for name, text in config.items()}
    for name in ("compose.yaml", "kubernetes.yaml", "prometheus.yaml"):
        texts[name] = string.Template(_template(name)).substitute(settings)
    return texts


def _models_config(models):
    lines = ["# Read again every 30 seconds, so that an edit needs no restart."]
    lines += ["model_config_list {"]
    for model in models:
        lines += [
            "  config {",
            f'    name: "{model.name}"',
            f'    base_path: "/models/{model.name}"',
            '    model_platform: "tensorflow"',
        ]
        if model.labels:
            versions = " ".join(f"versions: {version}" for version in model.labels.values())
            lines.append(f"    model_version_policy {{ specific {{ {versions} }} }}")
        else:
            lines.append("    model_version_policy { latest { num_versions: 1 } }")
        for label, version in model.labels.items():
            lines.append(f'    version_labels {{ key: "{label}" value: {version} }}')
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _batching_config(batching):
    values = {
        "max_batch_size": batching.max_request_size,
        "max_execution_batch_size": batching.max_batch_size,
        "enable_large_batch_splitting": "true",
        "batch_timeout_micros": batching.timeout_micros,
        "num_batch_threads": batching.num_threads,
        "max_enqueued_batches": batching.max_enqueued_batches,
    }
    lines = [
        "# For every model. `sample` is refused, since its inputs have no batch axis.",
        f"# Requests of {_WARM_UP_SIZE} examples warm a version up; it is not served if the server",
        "# refuses them. So neither max_batch_size nor the product of max_execution_batch_size",
        f"# and max_enqueued_batches may be below {_WARM_UP_SIZE}.",
    ]
    lines += [f"{name} {{ value: {value} }}" for name, value in values.items()]
    return "\n".join([*lines, ""])


def _template(name):
    path = resources.files("keras_vae.export.serving") / "templates" / name
    return path.read_text(encoding="utf-8")
