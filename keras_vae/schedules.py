"""Schedules: optimizer step -> weight, for the KL term of an objective."""

import abc
import math

import keras
import tensorflow as tf


class Schedule(abc.ABC):
    """A weight that depends on the optimizer step.

    Call arguments:
        step: Number of optimizer steps taken so far. Scalar integer tensor.

    Returns:
        The weight, a float32 scalar tensor.
    """

    @abc.abstractmethod
    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the weight at `step`."""

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Returns exactly the constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict) -> "Schedule":
        """Rebuilds the schedule from `get_config()`."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_vae")
class Constant(Schedule):
    """The same weight at every step.

    Args:
        value: The weight, at least 0.

    Example:

    >>> float(Constant(4.0)(tf.constant(10)))
    4.0
    """

    def __init__(self, value: float):
        self.value = _weight("value", value)

    def __call__(self, step):
        return tf.constant(self.value, tf.float32)

    def get_config(self):
        return {"value": self.value}


@keras.saving.register_keras_serializable("keras_vae")
class Linear(Schedule):
    """A straight line from `start` to `end` over `num_steps`, then `end` (KL warm-up).

    Warm-up lets the decoder learn to use the latents before the KL term can switch them off.

    Args:
        start: Weight at step 0, at least 0.
        end: Weight from step `num_steps` on, at least 0.
        num_steps: Length of the ramp in optimizer steps, at least 1.

    Example:

    >>> warm_up = Linear(num_steps=100)
    >>> [float(warm_up(tf.constant(step))) for step in (0, 50, 1000)]
    [0.0, 0.5, 1.0]

    References:
        Bowman et al. 2016, "Generating Sentences from a Continuous Space", section 3.1.
        Sonderby et al. 2016, "Ladder Variational Autoencoders", section 2.3.
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, *, num_steps: int):
        self.start = _weight("start", start)
        self.end = _weight("end", end)
        self.num_steps = _steps("num_steps", num_steps)

    def __call__(self, step):
        progress = tf.minimum(tf.cast(step, tf.float32) / self.num_steps, 1.0)
        return self.start + (self.end - self.start) * progress

    def get_config(self):
        return {"start": self.start, "end": self.end, "num_steps": self.num_steps}


@keras.saving.register_keras_serializable("keras_vae")
class Cyclical(Schedule):
    """Repeated linear warm-ups: each cycle ramps from `start` to `end`, then stays there.

    Args:
        start: Weight at the start of each cycle, at least 0.
        end: Weight after each ramp, at least 0.
        cycle_steps: Length of a cycle in optimizer steps, at least 1.
        ramp_fraction: Part of a cycle spent on the ramp, in (0, 1].

    Example:

    >>> cyclical = Cyclical(cycle_steps=100, ramp_fraction=0.5)
    >>> [float(cyclical(tf.constant(step))) for step in (0, 25, 75, 100)]
    [0.0, 0.5, 1.0, 0.0]

    References:
        Fu et al. 2019, "Cyclical Annealing Schedule: A Simple Approach to Mitigating KL
        Vanishing", equation 6.
    """

    def __init__(
        self,
        start: float = 0.0,
        end: float = 1.0,
        *,
        cycle_steps: int,
        ramp_fraction: float = 0.5,
    ):
        self.start = _weight("start", start)
        self.end = _weight("end", end)
        self.cycle_steps = _steps("cycle_steps", cycle_steps)
        if not 0.0 < ramp_fraction <= 1.0:
            raise ValueError(
                f"`ramp_fraction` should be in (0, 1]. Received: ramp_fraction={ramp_fraction}."
            )
        self.ramp_fraction = float(ramp_fraction)

    def __call__(self, step):
        position = tf.cast(step % self.cycle_steps, tf.float32) / self.cycle_steps
        progress = tf.minimum(position / self.ramp_fraction, 1.0)
        return self.start + (self.end - self.start) * progress

    def get_config(self):
        return {
            "start": self.start,
            "end": self.end,
            "cycle_steps": self.cycle_steps,
            "ramp_fraction": self.ramp_fraction,
        }


def as_schedule(name: str, value: "float | Schedule") -> Schedule:
    """Returns a schedule as it is, and a number as a `Constant`.

    Args:
        name: The argument's name, for the error.
        value: A schedule, or a number of at least 0.

    Raises:
        ValueError: If the number is negative, not finite, or not a number.
    """
    return value if isinstance(value, Schedule) else Constant(_weight(name, value))


def _weight(name, value):
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"`{name}` should be a finite number >= 0. Received: {name}={value!r}.")
    return float(value)


def _steps(name, value):
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"`{name}` should be an integer >= 1. Received: {name}={value!r}.")
    return value
