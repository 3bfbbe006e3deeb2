import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_vae.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    FixedScaleNormal,
    PerValueScaleNormal,
    SharedScaleNormal,
)

LIKELIHOODS = [
    Bernoulli(),
    ContinuousBernoulli(),
    FixedScaleNormal(0.3),
    SharedScaleNormal(0.3),
    PerValueScaleNormal(0.05),
]
EVENT_SHAPES = [(5,), (4, 2), (4, 3, 2)]


def built(likelihood, event_shape):
    copy = type(likelihood).from_config(likelihood.get_config())
    copy.build(event_shape)
    return copy


def params_of(likelihood, event_shape, batch_shape=(3,)):
    shape = (*batch_shape, *event_shape[:-1], event_shape[-1] * likelihood.params_size())
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def data_of(event_shape, batch=3):
    # Binary, so that every likelihood takes it.
    return np.random.default_rng(1).integers(0, 2, (batch, *event_shape)).astype("float32")


def log_prob_of_each_value(likelihood, params, data):
    """The oracle: SciPy's log-density of each value."""
    if isinstance(likelihood, Bernoulli):
        return scipy.stats.bernoulli(scipy.special.expit(params)).logpmf(data)
    if isinstance(likelihood, ContinuousBernoulli):
        return params * data - np.vectorize(log_normalizer)(np.float64(params))
    if isinstance(likelihood, PerValueScaleNormal):
        params, raw = np.split(params, 2, axis=-1)
        return scipy.stats.norm(params, 0.05 + np.logaddexp(0, raw)).logpdf(data)
    return scipy.stats.norm(params, 0.3).logpdf(data)


def log_normalizer(logit):
    # Of exp(logit * x) on [0, 1]; the largest factor is taken out first.
    top = max(logit, 0.0)
    return top + np.log(scipy.integrate.quad(lambda x: np.exp(logit * x - top), 0, 1)[0])


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda part: type(part).__name__)
class TestEveryLikelihood:
    @pytest.mark.parametrize("event_shape", EVENT_SHAPES)
    def test_log_prob_is_the_full_density_summed_over_the_event(self, likelihood, event_shape):
        params, data = params_of(likelihood, event_shape), data_of(event_shape)
        values = log_prob_of_each_value(likelihood, params, data)
        expected = values.sum(axis=tuple(range(1, values.ndim)))
        p = built(likelihood, event_shape).distribution(params)
        assert p.event_shape == event_shape
        np.testing.assert_allclose(p.log_prob(data), expected, rtol=1e-4)

    def test_a_leading_sample_axis_is_a_batch_axis(self, likelihood):
        event_shape = (4, 3, 2)
        params, data = params_of(likelihood, event_shape, (6, 3)), data_of(event_shape)
        p = built(likelihood, event_shape)
        together = p.distribution(params).log_prob(data)
        assert together.shape == (6, 3)
        one_by_one = [p.distribution(params_of_one).log_prob(data) for params_of_one in params]
        np.testing.assert_allclose(together, one_by_one, rtol=1e-5)

    def test_samples_have_its_mean(self, likelihood):
        p = built(likelihood, (5,)).distribution(params_of(likelihood, (5,)))
        values = p.sample(4000, seed=(0, 1)).numpy()
        standard_error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(np.abs(values.mean(axis=0) - p.mean()) < 5 * standard_error)

    @pytest.mark.parametrize("signs", ["plus", "minus", "mixed"])
    def test_enormous_params_stay_finite(self, likelihood, signs):
        params = params_of(likelihood, (5,))
        sign = {"plus": 1, "minus": -1, "mixed": np.sign(params)}[signs]
        params = tf.constant(1e4 * sign * np.ones_like(params))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(params)
            p = built(likelihood, (5,)).distribution(params)
            outputs = (p.log_prob(data_of((5,))), p.mean())
        for output in outputs:
            assert np.all(np.isfinite(output))
            assert np.all(np.isfinite(tape.gradient(output, params)))
        assert np.all(np.isfinite(p.sample(3, seed=(0, 1))))

    def test_half_precision_params_give_a_float32_distribution(self, likelihood):
        params = tf.cast(params_of(likelihood, (5,)), tf.bfloat16)
        assert built(likelihood, (5,)).distribution(params).dtype == tf.float32

    def test_survives_its_config(self, likelihood):
        likelihood = built(likelihood, (4, 2))
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(likelihood)
        )
        assert type(copy) is type(likelihood)
        assert copy.get_config() == likelihood.get_config()
        params, data = params_of(likelihood, (4, 2)), data_of((4, 2))
        np.testing.assert_array_equal(
            copy.distribution(params).log_prob(data), likelihood.distribution(params).log_prob(data)
        )


@pytest.mark.parametrize("logit", [0.0, 1e-4, -1e-3, 0.05, -1.0, 5.0, -20.0, 50.0])
def test_continuous_bernoulli_integrates_to_one(logit):
    likelihood = built(ContinuousBernoulli(), (1,))
    # The midpoint rule: its error for exp(50 x) at this width is below 1e-5.
    x = ((np.arange(20_000) + 0.5) / 20_000).astype("float32")[:, None]
    density = np.exp(likelihood.distribution(np.float32([[logit]])).log_prob(x), dtype="float64")
    # TFP computes the constant in float32, by a Taylor series near a logit of 0.
    assert density.mean() == pytest.approx(1.0, abs=1e-4)


def test_continuous_bernoulli_is_uniform_at_a_logit_of_zero():
    p = built(ContinuousBernoulli(), (1,)).distribution(tf.zeros((1, 1)))
    assert float(p.mean()[0, 0]) == pytest.approx(0.5)
    assert float(p.log_prob(tf.fill((1, 1), 0.3))[0]) == pytest.approx(0.0, abs=1e-6)


def test_bernoulli_of_grey_values_is_the_cross_entropy():
    params, grey = params_of(Bernoulli(), (5,)), np.random.default_rng(1).uniform(size=(3, 5))
    expected = -keras.losses.binary_crossentropy(grey, params, from_logits=True) * 5
    p = built(Bernoulli(), (5,)).distribution(params)
    np.testing.assert_allclose(p.log_prob(grey.astype("float32")), expected, rtol=1e-5)


def test_shared_scale_is_one_trainable_weight():
    likelihood = built(SharedScaleNormal(0.5), (4, 3, 2))
    (log_scale,) = likelihood.trainable_weights
    assert float(log_scale) == pytest.approx(np.log(0.5))
    with tf.GradientTape() as tape:
        p = likelihood.distribution(tf.zeros((1, 4, 3, 2)))
        log_prob = p.log_prob(tf.ones((1, 4, 3, 2)))
    # d/ds sum_i log N(1; 0, e^s) = sum_i (e^-2s - 1)
    assert float(tape.gradient(log_prob, log_scale.value)) == pytest.approx(24 * (4 - 1), rel=1e-5)


def test_per_value_scale_has_a_floor():
    likelihood = built(PerValueScaleNormal(0.25), (1,))
    scale = likelihood.distribution(tf.constant([[0.0, -1e4]])).stddev()
    assert float(scale[0, 0]) == 0.25


def test_support_is_the_unit_interval_for_both_bernoullis_only():
    bounded = {type(part).__name__ for part in LIKELIHOODS if part.support == (0.0, 1.0)}
    assert bounded == {"Bernoulli", "ContinuousBernoulli"}


@pytest.mark.parametrize("bad", [0.0, -0.1, np.inf, np.nan, "1", None])
@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (FixedScaleNormal, "scale"),
        (SharedScaleNormal, "initial_scale"),
        (PerValueScaleNormal, "min_scale"),
    ],
)
def test_a_scale_that_is_no_finite_number_above_zero_is_refused(kind, argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` should be .* > 0. Received: {argument}="):
        kind(bad)
