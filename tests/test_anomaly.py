"""Anomaly scores against a linear VAE whose every score has a closed form, and by hand."""

import sys

import numpy as np
import pytest
import scipy.stats

from keras_vae import DenseVAE, anomaly
from keras_vae.distributions import ContinuousBernoulli, FixedScaleNormal


class LinearGaussian:
    """x = z * weights + bias + noise: with one latent, a diagonal posterior can be the true one."""

    weights, bias, noise = np.array([1.0, -0.5, 2.0, 0.3]), np.array([0.5, 0.0, -1.0, 2.0]), 0.5
    evidence = scipy.stats.multivariate_normal(
        bias, np.outer(weights, weights) + noise**2 * np.eye(4)
    )
    variance = 1 / (1 + weights @ weights / noise**2)
    x = evidence.rvs(70, random_state=0).astype("float32")
    means = (x - bias) @ weights * variance / noise**2

    @classmethod
    def vae(cls):
        likelihood = FixedScaleNormal(cls.noise)
        vae = DenseVAE((4,), 1, hidden_units=(), likelihood=likelihood)
        slope, bound = cls.weights * cls.variance / cls.noise**2, vae.posterior.max_log_variance
        raw = bound * np.arctanh(np.log(cls.variance) / bound)
        kernel = np.stack([slope, np.zeros(4)], axis=1)
        vae.encoder.set_weights([kernel, np.array([-cls.bias @ slope, raw])])
        vae.decoder.set_weights([cls.weights[np.newaxis], cls.bias])
        return vae


@pytest.fixture(scope="module")
def vae():
    return LinearGaussian.vae()


def independent_pixels(shape, probability, **arguments):
    """Returns a VAE that takes each pixel to be on with this probability, whatever z is."""
    vae = DenseVAE(shape, 1, hidden_units=(), **arguments)
    kernel, bias = vae.decoder.get_weights()
    logit = np.log(probability / (1 - probability))
    vae.decoder.set_weights([np.zeros_like(kernel), np.full_like(bias, logit)])
    vae.encoder.set_weights([np.zeros_like(weight) for weight in vae.encoder.get_weights()])
    return vae


def noise_images(num_images, shape, probability):
    return np.float32(np.random.default_rng(0).random((num_images, *shape)) < probability)


class TestScores:
    def test_likelihood_is_the_negative_log_evidence(self, vae):
        score = anomaly.anomaly_score(vae, LinearGaussian.x, "likelihood", num_samples=3, seed=0)
        np.testing.assert_allclose(
            score, -LinearGaussian.evidence.logpdf(LinearGaussian.x), atol=1e-4
        )

    def test_elbo_is_the_negative_bound_of_the_model_and_the_default(self, vae):
        expected = -vae.elbo(LinearGaussian.x, 3, seed=1)
        for arguments in ((), ("elbo",)):
            score = anomaly.anomaly_score(vae, LinearGaussian.x, *arguments, num_samples=3, seed=1)
            np.testing.assert_allclose(score, expected)

    def test_reconstruction_is_the_expected_log_likelihood_in_closed_form(self, vae):
        truth, num_samples = LinearGaussian, 20_000
        residuals = truth.x - truth.bias - np.outer(truth.means, truth.weights)
        spread = truth.variance * truth.weights @ truth.weights
        squares = (residuals**2).sum(axis=1) + spread
        expected = squares / (2 * truth.noise**2) + 2 * np.log(2 * np.pi * truth.noise**2)
        score = anomaly.anomaly_score(
            vae, truth.x, "reconstruction", num_samples=num_samples, seed=0
        )
        # The squares are |residual - d * weights|^2 with d normal around 0.
        slopes = 2 * residuals @ truth.weights
        variances = slopes**2 * truth.variance + 2 * spread**2
        standard_errors = np.sqrt(variances / num_samples) / (2 * truth.noise**2)
        assert np.all(np.abs(score - expected) < 5 * standard_errors)
        assert np.max(standard_errors) < 0.02

    def test_reconstruction_plus_kl_is_the_elbo(self, make_vae, images):
        vae, num_samples = make_vae(), 4000
        posterior = vae.encode(images)
        kl = posterior.kl_divergence(vae.prior.distribution())
        score = anomaly.anomaly_score(
            vae, images, "reconstruction", num_samples=num_samples, seed=0
        )
        # Means of 4,000 numbers that vary by a few nats.
        np.testing.assert_allclose(score + kl, -vae.elbo(images, num_samples, seed=1), atol=0.3)

    def test_reconstruction_is_scored_by_compiled_functions(self, vae, caplog):
        # TensorFlow warns of the loop over the samples where it runs uncompiled.
        anomaly.anomaly_score(vae, LinearGaussian.x, "reconstruction", num_samples=3, seed=0)
        assert caplog.text == ""

    def test_typicality_is_the_distance_from_the_mean_of_clean_scores(self, vae):
        clean, x = LinearGaussian.x[:40], LinearGaussian.x[40:]
        nats = -LinearGaussian.evidence.logpdf(clean)
        score = anomaly.anomaly_score(vae, x, "typicality", clean_data=clean, num_samples=3, seed=0)
        expected = np.abs(-LinearGaussian.evidence.logpdf(x) - nats.mean())
        np.testing.assert_allclose(score, expected, atol=2e-4)

    def test_typicality_is_zero_at_the_mean(self, vae):
        same = np.repeat(LinearGaussian.x[:1], 3, axis=0)
        score = anomaly.anomaly_score(
            vae, same[:1], "typicality", clean_data=same, num_samples=3, seed=0
        )
        # At the true posterior, the estimate does not depend on the noise.
        assert score == pytest.approx(0.0, abs=1e-4)

    def test_typicality_finds_what_is_too_likely(self, vae):
        mode = np.float32(LinearGaussian.bias[np.newaxis])
        clean, num_samples = LinearGaussian.x, 3
        likelihood, typicality = (
            [
                anomaly.anomaly_score(vae, x, method, num_samples=num_samples, seed=0, **given)
                for x in (mode, clean)
            ]
            for method, given in (("likelihood", {}), ("typicality", {"clean_data": clean}))
        )
        assert likelihood[0] < likelihood[1].min()
        assert typicality[0] > np.median(typicality[1])

    def test_input_complexity_is_the_likelihood_less_the_code_length(self):
        shape = (16, 16, 1)
        vae, x = independent_pixels(shape, 0.3), noise_images(9, shape, 0.3)
        num_on = x.sum(axis=(1, 2, 3))
        nats = -num_on * np.log(0.3) - (256 - num_on) * np.log(0.7)
        score = anomaly.anomaly_score(vae, x, "input_complexity", num_samples=2, seed=0)
        expected = nats - anomaly.image_complexity(x, num_levels=2)
        np.testing.assert_allclose(score, expected, atol=1e-3)

    def test_densities_count_as_probabilities_of_one_of_256_levels(self):
        # At a probability of a half, the continuous Bernoulli is uniform on [0, 1], over which
        # the levels lie 1/255 apart.
        shape = (8, 8, 1)
        vae = independent_pixels(shape, 0.5, likelihood=ContinuousBernoulli())
        x = np.random.default_rng(0).integers(256, size=(3, *shape)) / 255.0
        score = anomaly.anomaly_score(vae, x, "input_complexity", num_samples=2, seed=0)
        expected = 64 * np.log(255.0) - anomaly.image_complexity(x)
        np.testing.assert_allclose(score, expected, atol=1e-3)

    def test_input_complexity_finds_the_blank_images_that_likelihood_prefers(self):
        shape = (16, 16, 1)
        vae, clean = independent_pixels(shape, 0.3), noise_images(20, shape, 0.3)
        blank = np.zeros((5, *shape), np.float32)
        auroc = {
            method: anomaly.detection_metrics(
                *(
                    anomaly.anomaly_score(vae, x, method, num_samples=2, seed=0)
                    for x in (clean, blank)
                )
            )["auroc"]
            for method in ("likelihood", "input_complexity")
        }
        assert auroc == {"likelihood": 0.0, "input_complexity": 1.0}

    @pytest.mark.parametrize("method", anomaly.METHODS)
    def test_the_seed_alone_decides_the_scores(self, make_vae, images, method):
        vae, given = make_vae(), {"clean_data": images} if method == "typicality" else {}
        first, again, other = (
            anomaly.anomaly_score(vae, images, method, num_samples=2, seed=seed, **given)
            for seed in (7, 7, 8)
        )
        assert first.shape == (len(images),)
        assert first.dtype == np.float64
        np.testing.assert_array_equal(first, again)
        assert np.all(first != other)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"method": "nonsense"}, "should be one of .*'typicality'.* Received: method='nonse"),
            ({"method": "typicality"}, "Received: clean_data=None. Give held-out data"),
            ({"method": "elbo", "clean_data": np.zeros((1, 4))}, "for typicality alone"),
            ({"method": "reconstruction", "num_samples": 0}, "Received: num_samples=0"),
            ({"method": "input_complexity"}, r"multiples of 1/255 in \[0, 1\]. Received: others"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused(self, vae, arguments, message):
        with pytest.raises(ValueError, match=message):
            anomaly.anomaly_score(vae, LinearGaussian.x, **arguments)

    @pytest.mark.parametrize("method", ["reconstruction", "input_complexity"])
    def test_data_of_another_shape_is_refused(self, vae, method):
        with pytest.raises(ValueError, match=r"should have shape \(batch, 4\)"):
            anomaly.anomaly_score(vae, np.zeros((2, 3)), method)

    def test_grey_images_have_no_code_length_under_a_bernoulli(self, make_vae, images):
        with pytest.raises(ValueError, match="values are 0 or 1. Received: others, such as 0.5"):
            anomaly.anomaly_score(make_vae(), images * 0.5, "input_complexity")


class TestImageComplexity:
    def test_noise_takes_its_entropy_and_little_more(self):
        images = noise_images(5, (32, 32, 1), 0.5)
        nats = anomaly.image_complexity(images, num_levels=2)
        assert np.all((nats >= 1024 * np.log(2)) & (nats < 1.1 * 1024 * np.log(2)))

    def test_bytes_of_noise_take_eight_bits_each(self):
        images = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3)) / 255.0
        nats = anomaly.image_complexity(images)
        np.testing.assert_allclose(nats, 32 * 32 * 3 * 8 * np.log(2), rtol=0.02)

    def test_an_image_costs_the_same_whatever_is_beside_it(self):
        images = noise_images(4, (8, 8, 1), 0.2)
        together = anomaly.image_complexity(images, num_levels=2)
        alone = [anomaly.image_complexity(image[np.newaxis], num_levels=2) for image in images]
        np.testing.assert_array_equal(together, np.concatenate(alone))

    def test_a_gradient_costs_little_thanks_to_the_differences(self):
        rng = np.random.default_rng(0)
        rows = np.cumsum(np.full((1, 32, 32, 1), 7), axis=1) + rng.integers(256, size=(1, 1, 32, 1))
        gradient, shuffled = rows % 256, rng.permuted(rows % 256, axis=None)
        nats = anomaly.image_complexity(np.concatenate([gradient, shuffled]) / 255.0)
        assert nats[0] < nats[1] / 10

    @pytest.mark.parametrize("num_levels", [1, 257])
    def test_levels_that_do_not_fit_a_byte_are_refused(self, num_levels):
        with pytest.raises(ValueError, match=f"from 2 to 256. Received: num_levels={num_levels}"):
            anomaly.image_complexity(np.zeros((1, 2, 2, 1)), num_levels=num_levels)

    @pytest.mark.parametrize("value", [0.5, 2.0, -1.0, np.nan])
    def test_values_between_levels_or_beyond_them_are_refused(self, value):
        with pytest.raises(ValueError, match=f"such as {value:g}"):
            anomaly.image_complexity(np.full((1, 2, 2, 1), value), num_levels=2)


class TestThreshold:
    @pytest.mark.parametrize("rate", [0.0, 0.001, 0.059, 0.1, 0.29, 0.42, 0.5, 0.7, 0.999])
    @pytest.mark.parametrize("num_clean", [1, 10, 100, 1000, 1237])
    def test_at_most_that_share_is_above_and_one_more_would_be_too_many(self, rate, num_clean):
        scores = np.random.default_rng(0).normal(size=num_clean)
        chosen = anomaly.threshold(scores, rate)
        assert np.mean(scores > chosen) <= rate
        assert np.mean(scores >= chosen) > rate

    def test_ties_at_the_threshold_are_not_called_anomalies(self):
        assert anomaly.threshold([1.0, 2.0, 2.0, 2.0], 0.5) == 2.0

    @pytest.mark.parametrize("rate", [-0.1, 1.0, 5, np.nan])
    def test_a_rate_out_of_range_is_refused(self, rate):
        with pytest.raises(ValueError, match=r"in \[0, 1\). Received: false_positive_rate="):
            anomaly.threshold([1.0, 2.0], rate)

    @pytest.mark.parametrize("scores", [[], [[1.0]], [1.0, np.nan], [np.inf]])
    def test_scores_that_are_no_finite_vector_are_refused(self, scores):
        with pytest.raises(ValueError, match="`clean_scores` should be a vector of finite"):
            anomaly.threshold(scores, 0.1)


class TestDetectionMetrics:
    clean = np.random.default_rng(0).normal(size=40).round(1)
    anomalous = np.random.default_rng(1).normal(1.0, size=13).round(1)

    def test_auroc_is_the_share_of_pairs_in_order_with_ties_for_half(self):
        differences = self.anomalous[:, np.newaxis] - self.clean
        expected = np.mean(differences > 0) + 0.5 * np.mean(differences == 0)
        measured = anomaly.detection_metrics(self.clean, self.anomalous)["auroc"]
        assert measured == pytest.approx(expected)

    def test_auprc_is_the_precision_averaged_over_the_recall_gained(self):
        expected, recall_before = 0.0, 0.0
        for cut in np.unique(np.concatenate([self.clean, self.anomalous]))[::-1]:
            hits, false_alarms = np.sum(self.anomalous >= cut), np.sum(self.clean >= cut)
            recall = hits / len(self.anomalous)
            expected += (recall - recall_before) * hits / (hits + false_alarms)
            recall_before = recall
        measured = anomaly.detection_metrics(self.clean, self.anomalous)["auprc"]
        assert measured == pytest.approx(expected)

    def test_scores_in_order_are_detected_perfectly(self):
        measured = anomaly.detection_metrics([0.0, 1.0], [2.0, 3.0])
        assert measured == {"auroc": 1.0, "auprc": 1.0}

    def test_missing_scikit_learn_is_told_with_the_mend(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
        with pytest.raises(ImportError, match=r'pip install "keras-vae\[data\]"'):
            anomaly.detection_metrics([0.0], [1.0])

    def test_scores_that_are_not_finite_are_refused_by_name(self):
        with pytest.raises(ValueError, match="`anomalous_scores` should .* 1 values that are NaN"):
            anomaly.detection_metrics([0.0], [np.nan])
