import keras
import numpy as np
import pytest
import scipy.stats

from keras_vae.distributions import StandardNormal


def test_standard_normal_has_the_density_of_scipy():
    z = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    expected = scipy.stats.multivariate_normal(np.zeros(3)).logpdf(z)
    np.testing.assert_allclose(StandardNormal(3).distribution().log_prob(z), expected, rtol=1e-5)


def test_standard_normal_has_one_event_and_no_batch():
    prior = StandardNormal(3).distribution()
    assert (prior.batch_shape, prior.event_shape) == ([], [3])
    assert prior.sample((4, 5), seed=(0, 1)).shape == (4, 5, 3)


def test_prior_survives_its_config():
    prior = StandardNormal(3, name="mine")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    assert copy.get_config() == prior.get_config() == {"latent_dim": 3, "name": "mine"}


def test_prior_stays_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert StandardNormal(3).distribution().dtype == "float32"
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("bad", [0, -1, 2.0, "2", None])
def test_a_number_of_latents_that_is_no_positive_integer_is_refused(bad):
    with pytest.raises(ValueError, match=r"`latent_dim` should be an integer >= 1. Received: lat"):
        StandardNormal(bad)
