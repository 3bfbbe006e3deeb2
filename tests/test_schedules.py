import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.schedules import Constant, Cyclical, Linear, as_schedule


def weights(schedule, steps):
    return [float(schedule(tf.constant(step, tf.int64))) for step in steps]


def test_constant_is_the_same_at_every_step():
    assert weights(Constant(2.5), [0, 1, 10**9]) == [2.5, 2.5, 2.5]


def test_linear_ramps_from_start_to_end_and_stays():
    schedule = Linear(0.5, 4.5, num_steps=8)
    assert weights(schedule, [0, 1, 4, 8, 9, 10**9]) == [0.5, 1.0, 2.5, 4.5, 4.5, 4.5]


def test_linear_may_fall():
    assert weights(Linear(3.0, 1.0, num_steps=4), [0, 2, 4, 5]) == [3.0, 2.0, 1.0, 1.0]


def test_cyclical_equals_its_formula_at_every_step():
    schedule = Cyclical(0.25, 2.0, cycle_steps=7, ramp_fraction=0.6)
    steps = np.arange(30)
    expected = 0.25 + 1.75 * np.minimum((steps % 7) / 7 / 0.6, 1.0)
    np.testing.assert_allclose(weights(schedule, steps), expected, rtol=1e-6)


def test_cyclical_with_a_full_ramp_is_a_saw():
    schedule = Cyclical(cycle_steps=4, ramp_fraction=1.0)
    assert weights(schedule, range(6)) == [0.0, 0.25, 0.5, 0.75, 0.0, 0.25]


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(2.0),
        Linear(0.5, 2.0, num_steps=10),
        Cyclical(0.5, 2.0, cycle_steps=10, ramp_fraction=0.25),
    ],
)
class TestEverySchedule:
    def test_gives_a_float32_scalar_inside_of_a_graph(self, schedule):
        weight = tf.function(schedule)(tf.constant(3, tf.int64))
        assert weight.dtype == tf.float32
        assert weight.shape == ()
        assert float(weight) == float(schedule(tf.constant(3, tf.int64)))

    def test_survives_its_config(self, schedule):
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
        copy = keras.saving.deserialize_keras_object(config)
        assert type(copy) is type(schedule)
        assert copy.get_config() == schedule.get_config()
        assert weights(copy, range(12)) == weights(schedule, range(12))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "1", None])
def test_a_weight_that_is_no_finite_number_above_zero_is_refused(bad):
    with pytest.raises(
        ValueError, match=r"`value` should be a finite number >= 0. Received: value"
    ):
        Constant(bad)
    with pytest.raises(ValueError, match=r"`start` should be .* Received: start="):
        Linear(bad, num_steps=3)
    with pytest.raises(ValueError, match=r"`end` should be .* Received: end="):
        Cyclical(0.0, bad, cycle_steps=3)


@pytest.mark.parametrize("bad", [0, -5, 2.5, "10", None])
def test_a_number_of_steps_that_is_no_positive_integer_is_refused(bad):
    with pytest.raises(ValueError, match=r"`num_steps` should be an integer >= 1. Received: num"):
        Linear(num_steps=bad)
    with pytest.raises(ValueError, match=r"`cycle_steps` should be an integer >= 1. Received: cyc"):
        Cyclical(cycle_steps=bad)


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5, math.nan])
def test_a_ramp_outside_of_the_cycle_is_refused(bad):
    with pytest.raises(ValueError, match=r"`ramp_fraction` should be in \(0, 1\]. Received: ramp"):
        Cyclical(cycle_steps=3, ramp_fraction=bad)


def test_as_schedule_wraps_numbers_and_keeps_schedules():
    schedule = Linear(num_steps=3)
    assert as_schedule("beta", schedule) is schedule
    assert weights(as_schedule("beta", 3), [0, 5]) == [3.0, 3.0]


def test_as_schedule_names_the_argument_it_refuses():
    with pytest.raises(ValueError, match=r"`beta` should be a finite number .* Received: beta=-1"):
        as_schedule("beta", -1)
