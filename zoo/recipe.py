"""The recipe: how a model is built, trained and evaluated, as data in a TOML file."""

import dataclasses
import inspect
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from pathlib import Path

import tomli_w

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
_LOWEST = {
    "epochs": 1,
    "batch_size": 1,
    "steps_per_execution": 1,
    "decay_epochs": 1,
    "patience": 0,
    "final_learning_rate": 0,
}


@dataclasses.dataclass(frozen=True)
class DataRecipe:
    """Which data, cut how.

    Attributes:
        name: "digits", a name that TensorFlow Datasets knows, or the folder of a set it prepared.
        split_seed: Seed of the split into train and validation.
        binarization: "none", "fixed" or "dynamic", of the training images.
        evaluation_seed: Seed of the one binarization of validation and test images.
        image_size: (height, width) to resize to, if any.
    """

    name: str
    split_seed: int = 0
    binarization: str = "none"
    evaluation_seed: int = 777
    image_size: list[int] | None = None


@dataclasses.dataclass(frozen=True)
class TrainingRecipe:
    """How to train.

    Attributes:
        epochs: Passes over the training images, at most.
        batch_size: Images per optimizer step.
        learning_rate: Of Adam, at the start.
        final_learning_rate: Of Adam at the last epoch, reached along a cosine; constant if not
            given.
        decay_epochs: Epochs that the whole cosine takes, where training ends on its way; `epochs`
            if not given.
        patience: Epochs without a better validation ELBO before training stops; the weights with
            the best one are kept. If not given, all epochs are run and the last weights kept, as
            suits objectives that are after something else than the ELBO.
        seed: Of weights, shuffling, binarization and latents.
        jit_compile: Whether to compile the train step with XLA.
        steps_per_execution: Optimizer steps per call of the compiled function.
        dtype: Keras dtype policy while training, such as "mixed_bfloat16"; the weights are float32
            all the same, and so is the model that is measured and shipped.
        clip_norm: Global norm that gradients are clipped to, if any.
        skip_norm: Global norm of the gradient above which a step is left out, if any. Steps that
            are NaN or infinite are left out in any case, and stop the training.
        average_momentum: Of the exponential moving average of the weights, which is what is then
            validated and kept; no average if not given.
        initial: A model's name or folder, whose weights training starts from where they fit; or the
            name of a recipe in `zoo/recipes`, a stage that is trained first. Fresh weights if not
            given.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    decay_epochs: int | None = None
    patience: int | None = None
    seed: int = 0
    jit_compile: bool = False
    steps_per_execution: int = 1
    dtype: str = "float32"
    clip_norm: float | None = None
    skip_norm: float | None = None
    average_momentum: float | None = None
    initial: str | None = None

    def __post_init__(self):
        _check_dtype(self.dtype)
        for key, lowest in _LOWEST.items():
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value >= lowest):
                raise ValueError(f"`{key}` should be at least {lowest}. Received: {key}={value!r}.")
        for key in ("learning_rate", "clip_norm", "skip_norm"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{key}` should be finite and > 0. Received: {key}={value!r}.")
        if self.average_momentum is not None and not 0 < self.average_momentum < 1:
            raise ValueError(
                "`average_momentum` should be between 0 and 1. "
                f"Received: average_momentum={self.average_momentum!r}."
            )


@dataclasses.dataclass(frozen=True)
class EvaluationRecipe:
    """How to measure the trained model on the test images.

    Attributes:
        num_samples: Importance samples per image for the log-likelihood.
        seed: Of the latent samples.
        dtype: Keras dtype policy of the networks while they are drawn. "mixed_bfloat16" takes three
            quarters of the time on a processor that has bfloat16, and moved the log-likelihood of
            conv_mnist by 0.004 nats; numbers to publish are float32.
    """

    num_samples: int = 1000
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        _check_dtype(self.dtype)
        if self.num_samples < 1:
            raise ValueError(
                f"`num_samples` should be at least 1. Received: num_samples={self.num_samples!r}."
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what a model is.

    Attributes:
        name: Name of the model.
        model: Class name and constructor arguments of a variant; parts are tables of the same form.
        summary: One line that says what it is.
        licence: SPDX identifier of the weights' licence.
        data: What it was trained on, if known.
        training: How, if known.
        evaluation: How it is measured, if known.
    """

    name: str
    model: dict
    summary: str = ""
    licence: str = "Apache-2.0"
    data: DataRecipe | None = None
    training: TrainingRecipe | None = None
    evaluation: EvaluationRecipe | None = None

    @property
    def safe_name(self) -> str:
        """The name as Keras, file systems and servers take any: of A-Z, a-z, 0-9, "_", "." and "-".

        Example:

        >>> Recipe("me/my digits", {}).safe_name
        'me_my_digits'
        """
        safe = re.sub("[^A-Za-z0-9_.-]", "_", self.name)
        return safe if safe[:1].isalnum() else f"vae{safe}"

    @classmethod
    def of(cls, model, *, name: str, summary: str = "") -> "Recipe":
        """Describes a model that exists; how it was trained is not known.

        Raises:
            ValueError: If the model is not one of the variants, or a part of it is not ours.
        """
        from keras_vae import models

        if getattr(models, type(model).__name__, None) is not type(model):
            raise ValueError(
                f"A model folder holds one of the variants {', '.join(models.__all__)}; save "
                "other models with `model.save('NAME.keras')`. "
                f"Received: a {type(model).__name__}."
            )
        arguments = _to_table(model.get_config())
        return cls(name, {"class": type(model).__name__, **arguments}, summary)

    def build(self, **overrides):
        """Returns the model with fresh weights, as its variant's class.

        Args:
            **overrides: Constructor arguments to use instead of the recipe's.

        Raises:
            ValueError: If the recipe names a class or an argument that does not exist.
        """
        table = {**self.model, **overrides}
        if "latent_dim" in overrides and "latent_dim" in self.model.get("prior", {}):
            # The prior follows, unless it is given itself.
            table["prior"] = overrides.get(
                "prior", {**self.model["prior"], "latent_dim": overrides["latent_dim"]}
            )
        try:
            return _construct({"name": self.safe_name, **table}, "model")
        except (TypeError, ValueError) as error:
            raise ValueError(f"The recipe of {self.name!r} cannot be built: {error}") from error

    def check_overrides(self, overrides: Iterable[str]) -> None:
        """Raises a `ValueError` that lists the model's arguments, if one of these is none."""
        from keras_vae import models

        kind = getattr(models, self.model.get("class", ""), None)
        known = [] if kind is None else list(inspect.signature(kind).parameters)
        for name in overrides:
            if name not in known:
                raise ValueError(
                    f"{self.name!r} is a {self.model.get('class')}, whose arguments are "
                    f"{', '.join(known)}. Received: {name!r}."
                )

    def compile(self, model) -> None:
        """Compiles a model with Adam at the recipe's learning rate, for further training."""
        from keras_vae.optimizers import Adam

        model.compile(Adam(self.training.learning_rate if self.training else 1e-3))

    def to_toml(self) -> str:
        """Returns the recipe as TOML; `read_recipe` gives it back."""
        return tomli_w.dumps(_without_none(dataclasses.asdict(self)))

    def as_written(self) -> "Recipe":
        """Returns the recipe as it is read back: with lists for tuples, and without None.

        Raises:
            ValueError: If it cannot be read back, as a value has another type than it should.
        """
        table = tomllib.loads(self.to_toml())
        return _read_table(Recipe, table, f"the recipe of {self.name!r}", "")


def read_recipe(path: str | Path) -> Recipe:
    """Reads a recipe.

    Raises:
        ValueError: If the file is no TOML, lacks a key, or has one that is not known; the message
            names the file and the key.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a valid TOML file: {error}.") from error
    return _read_table(Recipe, table, path, "")


def _read_table(cls, table, path, section):
    where = f"[{section}] of {path}" if section else str(path)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(table) - set(fields)):
        raise ValueError(f"Unknown key {unknown[0]!r} in {where}. Known keys: {', '.join(fields)}.")
    required = [name for name, f in fields.items() if f.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in table]:
        raise ValueError(f"Key {missing[0]!r} is missing in {where}.")
    values = {}
    for name, value in table.items():
        hint = _without_none_type(hints[name])
        expected, of_items = typing.get_origin(hint) or hint, typing.get_args(hint)
        if dataclasses.is_dataclass(expected) and isinstance(value, dict):
            value = _read_table(expected, value, path, name)
        elif expected is float and type(value) is int:
            value = float(value)
        elif type(value) is not expected or (
            of_items and any(type(item) not in of_items for item in value)
        ):
            raise ValueError(
                f"Key {name!r} in {where} should be of type "
                f"{hint if of_items else hint.__name__}. Received: {name}={value!r}."
            )
        values[name] = value
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"In {where}: {error}") from error


def _check_dtype(dtype):
    if dtype not in _PRECISIONS:
        raise ValueError(
            "A recipe gives the same on every machine, so `dtype` should be a precision: one of "
            f"{', '.join(_PRECISIONS)}. Received: dtype={dtype!r}."
        )


def _without_none_type(hint):
    """Returns `int` for `int | None`."""
    if isinstance(hint, types.UnionType):
        return next(option for option in typing.get_args(hint) if option is not type(None))
    return hint


def _without_none(table):
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _to_table(config):
    """Turns what Keras serializes into class names and arguments; names of parts are left out."""
    table = {}
    for key, value in config.items():
        if isinstance(value, dict):
            if value["registered_name"] != f"keras_vae>{value['class_name']}":
                raise ValueError(
                    "A model folder holds no code, so its parts are those of keras_vae; save a "
                    "model with other parts with `model.save('NAME.keras')`. "
                    f"Received: {key}=a {value['class_name']}."
                )
            table[key] = {"class": value["class_name"], **_to_table(value["config"])}
        elif key != "name" and value is not None:
            table[key] = list(value) if isinstance(value, tuple) else value
    return table


def _construct(table, key):
    """Builds an object from its class name and arguments; only our own public classes qualify."""
    from keras_vae import distributions, models, objectives, schedules

    modules = (models,) if key == "model" else (distributions, objectives, schedules)
    known = {
        class_name: value
        for module in modules
        for class_name, value in vars(module).items()
        if hasattr(value, "get_config") and not inspect.isabstract(value)
    }
    arguments = dict(table)
    class_name = arguments.pop("class", None)
    if class_name not in known:
        raise ValueError(
            f"`{key}` should have a class among {', '.join(sorted(known))}. "
            f"Received: class={class_name!r}."
        )
    for argument, value in arguments.items():
        if isinstance(value, dict):
            arguments[argument] = _construct(value, argument)
    return known[class_name](**arguments)
