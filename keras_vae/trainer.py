"""How a VAE is trained and scored by Keras: `compile`, `fit`, `evaluate` and `predict`."""

import contextlib
import inspect
import math
import types

import keras
import tensorflow as tf

from keras_vae.executions import in_one_loop
from keras_vae.feeding import feed, take_apart, tell_length
from keras_vae.optimizers import Adam, check_for_replicas
from keras_vae.replicas import make_function, means_over_replicas, mirrors
from keras_vae.stability import CheckGuard, Guard
from keras_vae.tuning import makes_batches_in_loop, picked_steps_per_execution, picks_xla, say

_REPORTED = ("loss", "elbo", "reconstruction", "kl")


class Trainer(keras.Model):
    """A `keras.Model` that has its loss in itself, and its own check of the data.

    What it is and what a step does is up to `VAE`, which has `train_step`, made of `_backward` and
    `_apply`, as well as `test_step`, `predict_step`, `_checked` and `_compile_scores`. Here is
    what Keras does with them: how the model is compiled, how data come to it, how many steps one
    call takes, and what is reported.
    """

    def __init__(self, *, name: str | None = None, dtype: str | None = None):
        super().__init__(name=name, dtype=dtype)
        self.guard = None
        self._make_batch = None
        self._means = types.SimpleNamespace(of_losses=[])  # nothing that Keras would walk through
        self._evaluate_means = tf.function(self._global_means)
        if tf.distribute.has_strategy():
            self._build_means()  # now, as no replica can

    # Compiling and saving

    def compile(
        self,
        optimizer="adam",
        *,
        guard: Guard | None = None,
        jit_compile: bool | str = "auto",
        steps_per_execution: int | str = "auto",
        **kwargs,
    ) -> None:
        """Configures training, as in Keras, but for the loss: the objective is the loss.

        What is "auto" is picked by device, networks and batch size, and `fit` says in one line of
        the log what it was; results do not depend on it, but for rounding. Precision is what the
        networks were built with: `dtype="auto"` in a variant's constructor picks it by device.

        Args:
            optimizer: Any Keras optimizer; "adam" is `keras_vae.optimizers.Adam`.
            guard: Leaves out steps that are not finite, or out of the line.
            jit_compile: Whether to compile with XLA; under a strategy that mirrors the model,
                nothing is. "auto": on a single GPU or TPU.
            steps_per_execution: Optimizer steps per call of the compiled function, behind which
                callbacks hear of a batch. "auto": a tenth of a second's worth on a CPU, at most 32;
                1 if a callback given to `fit` listens to batches, and does not say by an attribute
                `listens_to_steps = False` that it can do with fewer.
            **kwargs: `run_eagerly`, `auto_scale_loss`.

        Raises:
            ValueError: If a loss or metrics are given; or under a strategy that mirrors the model,
                if the optimizer is to accumulate gradients, or several in one are to clip them.
        """
        for argument in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(argument) is not None:
                raise ValueError(
                    "A VAE is trained on its objective and reports loss, elbo, reconstruction and "
                    f"kl by itself: leave `{argument}` out, and choose the objective when you "
                    f"construct it. Received: {argument}={kwargs[argument]!r}."
                )
        if mirrors(self.distribute_strategy):
            check_for_replicas(optimizer)
        self._asked = {
            "jit_compile": jit_compile,
            "steps_per_execution": steps_per_execution,
            "auto_scale_loss": kwargs.pop("auto_scale_loss", True),
        }
        if jit_compile == "auto":
            jit_compile = picks_xla(self.distribute_strategy) and not kwargs.get("run_eagerly")
        jit_compile = jit_compile and not mirrors(self.distribute_strategy)
        super().compile(
            optimizer=Adam() if optimizer == "adam" else optimizer,
            jit_compile=jit_compile,
            steps_per_execution=1 if steps_per_execution == "auto" else steps_per_execution,
            auto_scale_loss=self._asked["auto_scale_loss"],
            **kwargs,
        )
        # Functions of calls that take other steps at a time than `fit`; Keras is not to track them.
        self._functions = types.SimpleNamespace(by_steps={})
        self._compile_scores()  # as Keras does with its functions: networks may have changed
        self.guard = guard
        if guard is not None:
            with self.distribute_strategy.scope():
                guard.build(self)

    def quantize(self, *args, **kwargs) -> None:
        """Quantizes layers as `keras.Model.quantize` does, and compiles scores anew, too."""
        super().quantize(*args, **kwargs)
        if self.compiled:
            self._functions.by_steps.clear()
        self._compile_scores()

    def get_compile_config(self) -> dict:
        """Returns the arguments of `compile`, serialized."""
        config = super().get_compile_config()
        if config:
            self._build_optimizer()  # a saved model has its state, trained already or not
            config |= self._asked
        if config and self.guard is not None:
            config["guard"] = keras.saving.serialize_keras_object(self.guard)
        if config and (frozen := self._frozen_layers()):
            config["frozen"] = frozen
        return config

    def compile_from_config(self, config: dict) -> None:
        """Compiles as a saved model was compiled."""
        given = keras.saving.deserialize_keras_object(config)
        for part, positions in given.pop("frozen", {}).items():
            layers = list(getattr(self, part)._flatten_layers())
            for position, layer in enumerate(layers):  # parents first: they set their children
                if layer.trainable == (position in positions):
                    layer.trainable = not layer.trainable
        self.compile(**{key: value for key, value in given.items() if value is not None})
        self._build_optimizer()

    def _compile_anew(self):
        """Compiles as before, with a new optimizer and guard of the same kind."""
        with self.distribute_strategy.scope():
            optimizer, guard = (
                old and type(old).from_config(old.get_config())
                for old in (self.optimizer, self.guard)
            )
            self.compile(optimizer, guard=guard, run_eagerly=self.run_eagerly, **self._asked)

    def _frozen_layers(self):
        """Returns which layers of the parts are not trained, by their positions."""
        names = ("encoder", "decoder", "prior", "posterior", "likelihood")
        parts = {name: getattr(self, name)._flatten_layers() for name in names}
        frozen = {
            name: [position for position, layer in enumerate(layers) if not layer.trainable]
            for name, layers in parts.items()
        }
        return {name: positions for name, positions in frozen.items() if positions}

    def _build_optimizer(self):
        # Not yet in `compile`: whoever loads a model to use it waits for no variables of Adam.
        if self.compiled and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    # Data in

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains as `keras.Model.fit` does, once the data has been checked.

        Raises:
            NonFiniteError: If there is a guard, and a loss or a gradient was NaN or infinite.
        """
        kwargs = _by_name(keras.Model.fit, args, kwargs)
        callbacks, validation_data = (kwargs.get(key) for key in ("callbacks", "validation_data"))
        batch_size = kwargs.get("batch_size")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [c for c in keras.tree.flatten(callbacks) if c is not None]
        listed = getattr(callbacks, "callbacks", callbacks)
        for callback in listed:
            self._set_direction(callback)
        listed[:] = [c for c in listed if not isinstance(c, CheckGuard)]
        if self.guard is not None:
            check = CheckGuard()
            check.set_model(self)
            listed.insert(0, check)
        if self._picks_steps:
            limits = [kwargs.get(name) for name in ("steps_per_epoch", "validation_steps")]
            self._take_steps(picked_steps_per_execution(self, x, batch_size, listed, limits))
        validation_data, x = self._checked_pair(validation_data), self._checked(x)
        y = _labels(y, kwargs.get("sample_weight"))
        if self.distribute_strategy.num_replicas_in_sync == 1:
            x, validation_data = feed(x, y, validation_data, batch_size, kwargs)
            if makes_batches_in_loop(self):
                x = self._take_apart(x, kwargs)
        elif hasattr(x, "value_range"):
            tell_length(x, kwargs)  # of `data.batches`; workers may share out others unevenly
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # or Keras warns that it leaves that to the data
        kwargs |= {"callbacks": callbacks, "validation_data": validation_data}
        return super().fit(x, y, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does, once the data has been checked."""
        kwargs = _by_name(keras.Model.evaluate, args, kwargs)
        y = _labels(y, kwargs.get("sample_weight"))
        if not kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked its own
            x = self._checked(x)
        # Keras takes whole executions, even beyond the steps that it is told to take.
        steps = math.gcd(self.steps_per_execution, kwargs.get("steps") or 0)
        with self._taking(steps, "test_function"):
            return super().evaluate(x, y, **kwargs)

    def predict(self, x, *args, **kwargs):
        """Reconstructs as `keras.Model.predict` does, once the data has been checked."""
        with self._taking(1):  # Keras' function writes several out, one after the other
            return super().predict(self._checked(x), *args, **kwargs)

    def train_on_batch(self, x, *args, **kwargs):
        """Takes one step as `keras.Model.train_on_batch` does, once the data has been checked.

        Raises:
            NonFiniteError: If there is a guard, and the loss or a gradient was NaN or infinite.
        """
        return super().train_on_batch(self._checked(x), *args, **kwargs)

    def test_on_batch(self, x, *args, **kwargs):
        """Evaluates as `keras.Model.test_on_batch` does, once the data has been checked."""
        return super().test_on_batch(self._checked(x), *args, **kwargs)

    def _checked_pair(self, data):
        """Returns validation data checked: a dataset, or a tuple of which the first is checked."""
        if data is None or isinstance(data, tf.data.Dataset):
            return self._checked(data)
        first, *others = data if isinstance(data, list | tuple) else [data]
        if len(others) == 2:
            others[0] = _labels(*others)
        return (self._checked(first), *others)

    def _set_direction(self, callback):
        # Keras knows which way is better only for the metrics given to `compile`.
        name = str(getattr(callback, "monitor", None)).removeprefix("val_")
        if name in _REPORTED and getattr(callback, "mode", None) == "auto":
            callback.mode = "max" if name == "elbo" else "min"

    # Steps

    def make_train_function(self, force=False):
        # A training that was broken off in the midst of what it passed over left its own there.
        self.train_function = getattr(self.train_function, "in_place_of", self.train_function)
        if self.train_function is None or force:
            if mirrors(self.distribute_strategy):
                self._check_step()
            self._build_means()
            self._build_optimizer()
            super().make_train_function(force=True)  # which is for `train_on_batch`, then
            function = self._in_steps(
                self.train_function,
                self.train_step,
                self._backward,
                self._apply,
                make_batch=self._make_batch,
            )
            self.train_function = function if self.guard is None else self._guarded(function)
        return self.train_function

    def _guarded(self, function):
        def guarded_function(iterator):
            logs = function(iterator)
            self.guard.check(self)
            return logs

        return guarded_function

    def _check_step(self):
        """Raises a `ValueError` if a class changed `train_step`, and not what replicas take."""
        defining = {
            name: next(kind for kind in type(self).__mro__ if name in vars(kind))
            for name in ("train_step", "_backward")
        }
        if not issubclass(defining["_backward"], defining["train_step"]):
            raise ValueError(
                "Replicas that are kept alike take a step in two parts, `_backward` and `_apply`: "
                f"{defining['train_step'].__name__} should define these and not `train_step`."
            )

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self._build_means()
            super().make_test_function(force=True)
            self.test_function = self._in_steps(self.test_function, self.test_step, self.test_step)
        return self.test_function

    def _in_steps(self, keras_function, step, step_on_replicas, apply=None, **making):
        strategy, num_steps = self.distribute_strategy, self.steps_per_execution
        if mirrors(strategy):
            options = {"num_steps": num_steps, "run_eagerly": self.run_eagerly}
            with strategy.scope():
                return make_function(step_on_replicas, apply, metrics=self.metrics, **options)
        if num_steps == 1 or self.run_eagerly:
            return keras_function
        options = {"num_steps": num_steps, "jit_compile": self.jit_compile}
        return in_one_loop(keras_function, step, **options, **making)

    @property
    def _picks_steps(self):
        return self.compiled and self._asked["steps_per_execution"] == "auto"

    @contextlib.contextmanager
    def _taking(self, steps, name=None):
        """Sets the steps per execution for one call, with a function of its own if one is named."""
        steps_of_fit = self.steps_per_execution
        if not self._picks_steps or steps == steps_of_fit:
            yield
            return
        self.steps_per_execution = steps
        if name is not None:
            function_of_fit = getattr(self, name)
            setattr(self, name, self._functions.by_steps.get((name, steps)))
        try:
            yield
        finally:
            self.steps_per_execution = steps_of_fit
            if name is not None:
                self._functions.by_steps[name, steps] = getattr(self, name)
                setattr(self, name, function_of_fit)

    def _take_apart(self, x, options):
        x, make_batch = take_apart(x, options)
        if make_batch not in (None, self._make_batch):
            self._make_batch, self.train_function = make_batch, None
        return x

    def _take_steps(self, number):
        if self.steps_per_execution != number:
            self.steps_per_execution = number
            self.train_function = self.test_function = None
        say(self)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Nothing is left to build, and Keras would look at the first batch by adding up what the
        # replicas have of it, which fails if their shares differ.
        pass

    # What is reported

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means of loss, elbo, reconstruction and kl, in nats per example.

        They are made for the first step, so that whoever loads a model to use it waits for none.
        Under a strategy they are there from the start. Metrics that a class adds come behind them.
        """
        return [*self._means.of_losses, *self._metrics]

    def get_metrics_result(self):
        """Returns the running means over all replicas."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return super().get_metrics_result()
        with self.distribute_strategy.scope():
            return self._evaluate_means()

    def _build_means(self):
        if not self._means.of_losses:
            with tf.init_scope(), self.distribute_strategy.scope():
                self._means.of_losses = [keras.metrics.Mean(name=name) for name in _REPORTED]

    def _track(self, losses, penalty, sample_weight):
        self._build_means()  # for a step in a loop of one's own
        values = (losses.loss + penalty, losses.elbo, losses.reconstruction, losses.kl)
        for tracker, value in zip(self._means.of_losses, values, strict=True):
            tracker.update_state(value, sample_weight)

    def _results(self):
        return {tracker.name: tracker.result() for tracker in self._means.of_losses}

    def _global_means(self):
        return means_over_replicas(self.distribute_strategy, self.metrics)


def _labels(y, sample_weight):
    # Keras drops weights that come without labels, so they stand in for some.
    return sample_weight if y is None else y


def _by_name(method, args, kwargs):
    """Returns all arguments behind x and y by their names."""
    bound = inspect.signature(method).bind(None, None, None, *args, **kwargs)
    given = dict(list(bound.arguments.items())[3:])
    return given | given.pop("kwargs", {})
