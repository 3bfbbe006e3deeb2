"""Keeps single bad batches from ruining a training: gradients clipped, skipped and watched."""

import logging
import math

import keras
import tensorflow as tf

from keras_vae.distributions import kl_per_latent
from keras_vae.objectives import Losses
from keras_vae.optimizers import CLIPS, without_loss_scale
from keras_vae.replicas import sum_over_replicas

_logger = logging.getLogger(__name__)

_REMEDIES = (
    "What helps: a smaller learning rate, or one that rises over the first steps; clipped "
    "gradients (`global_clipnorm=1.0` of the optimizer); a bounded posterior scale "
    "(`DiagonalNormal(max_log_variance=...)`); float32 instead of half precision; data scaled to "
    "the likelihood's range."
)


class NonFiniteError(FloatingPointError):
    """A loss or a gradient was NaN or infinite. Trainable weights are those before that step."""


@keras.saving.register_keras_serializable("keras_vae")
class Guard:
    """Leaves steps out whose loss or gradient is not finite, and if wanted, those out of the line.

    A step with a NaN or an infinity trains no weight: `fit` then raises a `NonFiniteError` that
    names the step, the term of the loss, the latents and the weights concerned. A step whose
    gradient has a norm above `skip_norm` is left out and counted, and training goes on: large VAEs
    meet some, a few in 100,000 steps, that undo what they have learned.

    Args:
        skip_norm: Global norm of the gradient, before clipping, above which a step is left out;
            `None` for no such limit. A few hundred times the usual norm is a good one.

    Attributes:
        num_skipped: Steps left out so far.

    Raises:
        ValueError: If `skip_norm` is not a finite number above 0.

    Example:

    >>> from keras_vae import DenseVAE
    >>> vae = DenseVAE(event_shape=(8, 8, 1), latent_dim=2)
    >>> vae.compile("adam", guard=Guard(skip_norm=400.0))
    >>> _ = vae.fit(tf.zeros((4, 8, 8, 1)), verbose=0)
    >>> vae.guard.num_skipped
    0

    References:
        Child 2021, "Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on
        Images", section 4 (gradient skipping).
    """

    def __init__(self, skip_norm: float | None = None):
        if skip_norm is not None and not (math.isfinite(skip_norm) and skip_norm > 0):
            raise ValueError(
                f"`skip_norm` should be a finite number > 0. Received: skip_norm={skip_norm!r}."
            )
        self.skip_norm = skip_norm
        self._record = self._skipped = None

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"skip_norm": self.skip_norm}

    @classmethod
    def from_config(cls, config: dict) -> "Guard":
        """Rebuilds the guard from `get_config()`."""
        return cls(**config)

    def build(self, model) -> None:
        """Creates the counters, in the scope of the model's strategy."""
        # What happened in the first bad step, as this replica saw it; see `_observe`.
        size = 6 + model.latent_dim + len(model.trainable_weights)
        self._record = _counter(tf.fill([size], -1.0))
        self._skipped = _counter(tf.constant(0, tf.int64))

    def reset(self) -> None:
        """Forgets a step that was not finite; in the scope of the model's strategy."""
        self._record.assign(tf.fill(self._record.shape, -1.0))

    @property
    def num_skipped(self) -> int:
        return 0 if self._skipped is None else int(_local_values(self._skipped)[0])

    def judge(self, model, x: tf.Tensor, losses: Losses, gradients: list) -> tf.Tensor:
        """Returns whether to take a step, and makes a record if it is not finite.

        Args:
            model: A VAE.
            x: This replica's share of the batch.
            losses: Of this share.
            gradients: Those of all replicas together, in the order of the trainable weights.
        """
        scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        given = [g for g in gradients if g is not None]
        if scaled or model.optimizer.loss_scale_factor:
            scale = model.optimizer.scale_loss(tf.constant(1.0))
            given = [g / scale for g in given]
        norm = tf.linalg.global_norm(given)
        total = sum_over_replicas(tf.reduce_sum(losses.loss))
        # A loss scale tries how far it can go: the optimizer expects its gradients to overflow.
        is_finite = tf.math.is_finite(total)
        is_usual = tf.constant(True)
        if self.skip_norm is None:
            is_finite &= scaled | tf.math.is_finite(norm)
        else:
            # Too large for float32, a norm is still only out of the line.
            num_bad = tf.cond(
                tf.math.is_finite(norm),
                lambda: 0.0,
                lambda: tf.add_n([_num_bad(g) for g in given]),
            )
            is_finite &= scaled | (num_bad == 0)
            is_usual = ~(norm > self.skip_norm) | (num_bad > 0)

        def observe():
            self._record.assign(self._observe(model, x, losses, gradients))

        is_first = (self._record.read_value()[0] < 0) & ~is_finite
        tf.cond(is_first, observe, lambda: None)
        # Behind a bad step nothing moves until `check` has spoken, after the whole execution.
        is_clean = self._record.read_value()[0] < 0
        self._skipped.assign_add(tf.cast(is_finite & ~is_usual & is_clean, tf.int64))
        return is_finite & is_usual & is_clean

    def _observe(self, model, x, losses, gradients):
        x = tf.cast(x, tf.float32)
        posterior = model.posterior.distribution(model.encoder(x))
        try:
            of_latents = kl_per_latent(posterior, model.prior.distribution())
        except (NotImplementedError, ValueError):
            of_latents = posterior.mean()
        counts = [_num_bad(losses.loss), _num_bad(losses.reconstruction), _num_bad(losses.kl)]
        of_weights = [tf.constant(0.0) if g is None else _num_bad(g) for g in gradients]
        head = [model.step, tf.reduce_min(x), tf.reduce_max(x), *counts]
        head = [tf.cast(value, tf.float32) for value in head]
        return tf.concat([head, _num_bad(of_latents, axis=0), of_weights], axis=0)

    def check(self, model) -> None:
        """Raises a `NonFiniteError` if a step was not finite, and forgets it."""
        records = [r for r in _local_values(self._record) if r[0] >= 0]
        if not records:
            return
        with model.distribute_strategy.scope():
            self.reset()
        # One replica may have met what the others only heard of.
        record = max(records, key=lambda r: r[3:].sum())
        raise NonFiniteError(_describe(model, record))


class CheckGuard(keras.callbacks.Callback):
    """Tells of the steps that the model's guard left out; `fit` adds it by itself."""

    def on_train_begin(self, logs=None):
        with self.model.distribute_strategy.scope():
            self.model.guard.reset()
        self._reported = self.model.guard.num_skipped

    def on_epoch_end(self, epoch, logs=None):
        skipped = self.model.guard.num_skipped
        if skipped > self._reported:
            _logger.warning(
                "Epoch %d: left out %d steps with a gradient norm above %g.",
                epoch + 1,
                skipped - self._reported,
                self.model.guard.skip_norm,
            )
        self._reported = skipped


def add_up(gradients: list) -> list:
    """Returns the sums of the gradients over all replicas, from within one of them."""
    sums = iter(sum_over_replicas([g for g in gradients if g is not None]))
    return [None if g is None else next(sums) for g in gradients]


def clip(optimizer: keras.optimizers.Optimizer, gradients: list) -> list:
    """Clips gradients as the optimizer is told to.

    Keras clips on each replica by itself, before it adds up: with the gradients of all replicas
    together, this is what one replica would have done. Gradients come with the optimizer's loss
    scale in them, and so the limits do.
    """
    scale = optimizer.scale_loss(tf.constant(1.0))
    optimizer = without_loss_scale(optimizer)
    if optimizer.clipnorm:
        limit = optimizer.clipnorm * scale
        return [g if g is None else tf.clip_by_norm(g, limit) for g in gradients]
    if optimizer.global_clipnorm:
        return tf.clip_by_global_norm(gradients, optimizer.global_clipnorm * scale)[0]
    if optimizer.clipvalue:
        limit = optimizer.clipvalue * scale
        return [g if g is None else _clip_finite(g, limit) for g in gradients]
    return gradients


def _clip_finite(gradient, limit):
    # An infinity stays one: it tells the optimizer that its loss scale is too large.
    clipped = tf.clip_by_value(gradient, -limit, limit)
    return tf.where(tf.math.is_finite(gradient), clipped, gradient)


def share(gradients: list) -> list:
    """Divides gradients by the number of replicas, over which the optimizer will add them up."""
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return [None if g is None else g / num_replicas for g in gradients]


def looks_at_gradients(optimizer: keras.optimizers.Optimizer) -> bool:
    """Returns whether what an optimizer does depends on how large the gradients are.

    It does if they are clipped, or if a loss scale waits for them to overflow: Keras then asks one
    replica of several.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return True
    return any(getattr(optimizer, name) for name in CLIPS)


def _describe(model, record):
    step, smallest, largest, *counts = record[:6]
    of_latents = record[6 : 6 + model.latent_dim]
    of_weights = record[6 + model.latent_dim :]
    terms = ("the loss", "the reconstruction", "the KL")
    parts = [
        f"{term} ({count:.0f} example{'s' if count > 1 else ''})"
        for term, count in zip(terms, counts, strict=True)
        if count
    ]
    if latents := [str(i) for i in range(model.latent_dim) if of_latents[i]]:
        parts.append(f"the KL of latents {_some(latents)}")
    parts_of_model = {
        id(weight): f"{name}/{weight.path}"
        for name in ("encoder", "decoder", "prior", "posterior", "likelihood")
        for weight in getattr(model, name).weights
    }
    paths = [
        parts_of_model.get(id(weight), weight.path)
        for weight, count in zip(model.trainable_weights, of_weights, strict=True)
        if count
    ]
    if paths:
        parts.append(f"the gradient of {_some(paths)}")
    if not parts:
        parts.append("the norm of the gradient, which is too large for float32")
    return (
        f"Step {step:.0f} gave values that are NaN or infinite: {'; '.join(parts)}. The batch goes "
        f"from {smallest:g} to {largest:g}. The step was left out: the trainable weights are those "
        f"before it, as are those of the last checkpoint. {_REMEDIES}"
    )


def _some(names):
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _num_bad(values, axis=None):
    return tf.reduce_sum(tf.cast(~tf.math.is_finite(values), tf.float32), axis=axis)


def _counter(value):
    # A variable of each replica's own, and no weight of the model.
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


def _local_values(variable):
    strategy = getattr(variable, "_distribute_strategy", None) or tf.distribute.get_strategy()
    return [value.numpy() for value in strategy.experimental_local_results(variable)]
