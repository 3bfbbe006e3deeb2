"""The mathematics of a VAE: bounds, scores, images and the objective in use."""

import warnings

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import VAE, BetaVAE, ConvVAE, DenseVAE, scoring
from keras_vae.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    DiagonalNormal,
    FixedScaleNormal,
    FullCovarianceNormal,
    PerValueScaleNormal,
    Prior,
    SharedScaleNormal,
    StandardNormal,
)
from keras_vae.networks import dense_decoder, dense_encoder
from keras_vae.objectives import ELBO
from keras_vae.schedules import Linear

tfd = tfp.distributions


class NormalWithoutClosedForm(Prior):
    """The standard normal, in a form to which TFP knows no KL divergence."""

    def distribution(self):
        return tfd.Independent(tfd.Normal(tf.zeros(self.latent_dim), 1.0), 1)


class LinearGaussian:
    rng = np.random.default_rng(0)
    matrix, bias = rng.normal(size=(2, 5)), rng.normal(size=5)
    evidence = scipy.stats.multivariate_normal(bias, matrix.T @ matrix + 0.25 * np.eye(5))
    covariance = np.linalg.inv(np.eye(2) + 4 * matrix @ matrix.T)
    x = evidence.rvs(130, random_state=1).astype("float32")
    log_evidence = evidence.logpdf(x)

    @classmethod
    def vae(cls, *, shift=0.0, scale=1.0, prior=None, objective=None):
        """Returns a model whose posterior is the true one, or a shifted and scaled one."""
        posterior = FullCovarianceNormal()
        vae = DenseVAE(
            (5,),
            2,
            hidden_units=(),
            prior=prior,
            posterior=posterior,
            likelihood=FixedScaleNormal(0.5),
            objective=objective,
        )
        vae.decoder.set_weights([cls.matrix, cls.bias])
        lower = scale * np.linalg.cholesky(cls.covariance)
        bound = posterior.max_log_scale
        diagonal = np.diag(bound * np.arctanh(np.log(np.diag(lower)) / bound))
        entries = tfp.math.fill_triangular_inverse(np.tril(lower, -1) + diagonal)
        slope = 4 * cls.matrix.T @ cls.covariance
        kernel = np.concatenate([slope, np.zeros((5, 3))], axis=1)
        vae.encoder.set_weights([kernel, np.concatenate([shift - cls.bias @ slope, entries])])
        return vae


class TestLinearGaussian:
    def test_encoder_holds_the_true_posterior(self):
        q = LinearGaussian.vae().encode(LinearGaussian.x)
        np.testing.assert_allclose(q.covariance()[7], LinearGaussian.covariance, rtol=1e-4)

    @pytest.mark.parametrize("num_samples", [1, 7, 300])
    def test_elbo_equals_the_evidence_at_the_true_posterior(self, num_samples):
        # With the KL from the same samples, log p(x, z) - log q(z given x) is log p(x) for any z.
        vae = LinearGaussian.vae(prior=NormalWithoutClosedForm(2))
        elbo = vae.elbo(LinearGaussian.x, num_samples, seed=0)
        np.testing.assert_allclose(elbo, LinearGaussian.log_evidence, atol=1e-3)

    def test_elbo_with_the_closed_form_has_the_evidence_as_its_mean(self):
        vae = LinearGaussian.vae()
        singles = np.stack([vae.elbo(LinearGaussian.x, seed=seed) for seed in range(100)])
        standard_error = singles.std(axis=0) / np.sqrt(2000)
        elbo = vae.elbo(LinearGaussian.x, num_samples=2000, seed=0)
        assert np.all(np.abs(elbo - LinearGaussian.log_evidence) < 5 * standard_error)

    def test_elbo_falls_short_by_the_divergence_from_the_true_posterior(self):
        right, wrong = LinearGaussian.vae(), LinearGaussian.vae(shift=0.3, scale=1.5)
        x = LinearGaussian.x
        gap = tfd.kl_divergence(wrong.encode(x), right.encode(x)).numpy()
        elbo = wrong.elbo(x, num_samples=2000, seed=0)
        # The log-densities vary by a few nats over the posterior: standard error below 0.1.
        np.testing.assert_allclose(elbo, LinearGaussian.log_evidence - gap, atol=0.4)
        assert np.mean(elbo - LinearGaussian.log_evidence + gap) == pytest.approx(0, abs=0.04)

    @pytest.mark.parametrize("num_examples", [1, 63, 64, 65, 130])
    def test_log_likelihood_equals_the_evidence_for_any_number_of_examples(self, num_examples):
        vae, x = LinearGaussian.vae(), LinearGaussian.x[:num_examples]
        scores = vae.log_likelihood(x, num_samples=3, seed=0)
        assert scores.shape == (num_examples,)
        np.testing.assert_allclose(scores, LinearGaussian.log_evidence[:num_examples], atol=1e-3)

    def test_log_likelihood_rises_to_the_evidence_as_samples_grow(self):
        vae, x = LinearGaussian.vae(shift=0.2, scale=1.3), LinearGaussian.x
        gaps = [
            np.mean(LinearGaussian.log_evidence - vae.log_likelihood(x, num_samples, seed=0))
            for num_samples in (1, 10, 100, 5000)
        ]
        assert gaps == sorted(gaps, reverse=True)
        assert gaps[0] > 0.3
        assert abs(gaps[-1]) < 0.01

    def test_elbo_is_below_log_likelihood(self):
        vae, x = LinearGaussian.vae(shift=0.2, scale=1.3), LinearGaussian.x
        gap = vae.log_likelihood(x, 100, seed=0) - vae.elbo(x, 100, seed=0)
        assert np.mean(gap) > 0.1

    @pytest.mark.parametrize("num_samples", [1, 40])
    def test_expected_log_likelihood_is_the_elbo_without_its_divergence(self, num_samples):
        vae, x = LinearGaussian.vae(shift=0.2, scale=1.3), LinearGaussian.x
        divergence = tfd.kl_divergence(vae.encode(x), vae.prior.distribution())
        expected = vae.elbo(x, num_samples, seed=3) + divergence  # of the same samples
        actual = vae.expected_log_likelihood(x, num_samples, seed=3)
        np.testing.assert_allclose(actual, expected, atol=1e-3)
        assert not np.allclose(actual, vae.expected_log_likelihood(x, num_samples, seed=4))

    def test_scores_of_more_data_compile_nothing_anew(self):
        vae = LinearGaussian.vae()
        for score in (vae.elbo, vae.expected_log_likelihood, vae.log_likelihood):
            score(LinearGaussian.x[:64], 100, seed=0)
        functions = (
            vae._evaluate_elbo,
            vae._evaluate_reconstruction,
            vae._evaluate_log_likelihood,
        )
        before = [function.experimental_get_tracing_count() for function in functions]
        for score in (vae.elbo, vae.expected_log_likelihood, vae.log_likelihood):
            score(LinearGaussian.x, 100, seed=1)
        assert [function.experimental_get_tracing_count() for function in functions] == before

    def test_reported_elbo_is_that_of_the_model(self):
        vae = LinearGaussian.vae(prior=NormalWithoutClosedForm(2), objective=ELBO(num_samples=3))
        vae.compile()
        logs = vae.evaluate(LinearGaussian.x, verbose=0, return_dict=True)
        assert logs["elbo"] == pytest.approx(LinearGaussian.log_evidence.mean(), abs=1e-3)
        assert logs["loss"] == pytest.approx(-logs["elbo"], rel=1e-5)


class TestSampling:
    """`elbo` and `log_likelihood` work through many samples and examples in small pieces."""

    @pytest.fixture
    def _small_passes(self, monkeypatch):
        # Events of 5 values, 64 examples at a time: 4 samples fit into a pass.
        monkeypatch.setattr(scoring, "_MAX_VALUES", 64 * 5 * 4)

    @pytest.mark.usefixtures("_small_passes")
    @pytest.mark.parametrize("num_samples", [1, 3, 4, 6, 9])
    def test_any_number_of_samples_counts_as_that_many(self, num_samples):
        scores = LinearGaussian.vae().log_likelihood(LinearGaussian.x, num_samples, seed=0)
        np.testing.assert_allclose(scores, LinearGaussian.log_evidence, atol=1e-3)

    def test_events_larger_than_a_pass_are_scored_one_by_one(self, monkeypatch):
        monkeypatch.setattr(scoring, "_MAX_VALUES", 2)
        scores = LinearGaussian.vae().log_likelihood(LinearGaussian.x[:5], 3, seed=0)
        np.testing.assert_allclose(scores, LinearGaussian.log_evidence[:5], atol=1e-3)

    @pytest.mark.usefixtures("_small_passes")
    def test_noise_is_fresh_for_every_example_and_pass(self):
        vae, x = LinearGaussian.vae(), np.repeat(LinearGaussian.x[:1], 1000, axis=0)
        one, sixteen = (vae.elbo(x, num_samples, seed=0) for num_samples in (1, 16))
        assert len(np.unique(one)) == 1000
        # Independent noise halves the spread with 4 times the samples. Both spreads are known
        # to 2%; with the same noise in each of the 4 passes the ratio would be 2.
        assert np.std(one) / np.std(sixteen) == pytest.approx(4.0, rel=0.15)

    def test_same_seed_gives_same_scores_and_another_others(self):
        vae, x = LinearGaussian.vae(shift=0.2), LinearGaussian.x
        for score in (vae.elbo, vae.log_likelihood):
            first = score(x, 3, seed=5)
            np.testing.assert_array_equal(first, score(x, 3, seed=5))
            assert np.all(first != score(x, 3, seed=6))
            assert np.all(first != score(x, 3))

    def test_no_seed_is_made_repeatable_by_keras(self):
        vae, x = LinearGaussian.vae(shift=0.2), LinearGaussian.x
        keras.utils.set_random_seed(3)
        first = vae.elbo(x)
        keras.utils.set_random_seed(3)
        np.testing.assert_array_equal(first, vae.elbo(x))

    def test_fewer_than_one_sample_is_refused(self):
        vae = LinearGaussian.vae()
        for score in (vae.elbo, vae.log_likelihood):
            with pytest.raises(
                ValueError, match="`num_samples` .* at least 1. Received: num_s.*=0"
            ):
                score(LinearGaussian.x, num_samples=0)

    def test_scoring_is_compiled_once(self, make_vae, images):
        vae = make_vae()
        for seed in range(3):
            vae.log_likelihood(images, 5, seed=seed)
            vae.log_likelihood(images[:16], 5, seed=seed)
        # One function for each number of examples at a time, the second of which serves all.
        assert vae._evaluate_log_likelihood.experimental_get_tracing_count() <= 2

    def test_few_examples_are_compiled_for_few_sizes(self):
        x = np.zeros((40, 28, 28, 1), np.float32)
        vae = DenseVAE((28, 28, 1), 2, hidden_units=(4,))
        for number in range(1, 41):
            vae.log_likelihood(x[:number], 1000, seed=0)
        # Passes of 1000, 512, 256, 128, 64 and 32 samples, each for one number and then for all.
        assert vae._evaluate_log_likelihood.experimental_get_tracing_count() <= 12


class TestImages:
    def test_reconstruction_is_the_decoded_mean(self, make_vae, images):
        vae = make_vae()
        expected = vae.decode(vae.encode(images).mean()).mean()
        np.testing.assert_allclose(vae.reconstruct(images), expected, rtol=1e-5)
        np.testing.assert_allclose(vae.predict(images, verbose=0), expected, rtol=1e-5)
        np.testing.assert_allclose(vae(images), expected, rtol=1e-5)

    def test_decode_takes_any_leading_axes(self, make_vae):
        vae, z = make_vae(), np.random.default_rng(0).normal(size=(4, 3, 2))
        p = vae.decode(z)
        assert (p.batch_shape, p.event_shape) == ([4, 3], [8, 8, 1])
        np.testing.assert_allclose(p.mean()[1, 2], vae.decode(z[1, 2]).mean(), rtol=1e-5)
        assert vae.decode(z[0, 0]).batch_shape == []

    def test_decode_refuses_the_wrong_number_of_latents(self, make_vae):
        with pytest.raises(ValueError, match=r"shape \(..., 2\). Received: shape=\(4, 3\)."):
            make_vae().decode(np.zeros((4, 3)))

    def test_samples_are_decoded_from_the_prior(self, make_vae):
        # The linear decoder's means have the decoder's bias as their mean.
        vae, num_samples = LinearGaussian.vae(), 10_000
        samples = vae.sample(num_samples, seed=0)
        assert samples.shape == (num_samples, 5)
        covariance = LinearGaussian.matrix.T @ LinearGaussian.matrix
        error = 5 * np.sqrt(np.diag(covariance) / num_samples)
        assert np.all(np.abs(np.mean(samples, axis=0) - LinearGaussian.bias) < error)
        np.testing.assert_allclose(np.cov(samples.numpy().T), covariance, rtol=0.1, atol=0.1)

    def test_same_seed_gives_same_samples_and_another_others(self, make_vae):
        vae = make_vae()
        first = vae.sample(3, seed=5)
        np.testing.assert_array_equal(first, vae.sample(3, seed=5))
        assert np.any(first != vae.sample(3, seed=6))
        assert np.any(first != vae.sample(3))

    def test_no_samples_are_refused(self, make_vae):
        with pytest.raises(ValueError, match="at least 1. Received: num_samples=0."):
            make_vae().sample(0)

    def test_interpolation_runs_from_one_reconstruction_to_the_other(self, make_vae, images):
        vae, start, end = make_vae(), images[:4], images[4:8]
        steps = vae.interpolate(start, end, num_steps=5)
        assert steps.shape == (4, 5, 8, 8, 1)
        np.testing.assert_allclose(steps[:, 0], vae.reconstruct(start), rtol=1e-5)
        np.testing.assert_allclose(steps[:, -1], vae.reconstruct(end), rtol=1e-5)
        middle = (vae.encode(start).mean() + vae.encode(end).mean()) / 2
        np.testing.assert_allclose(steps[:, 2], vae.decode(middle).mean(), rtol=1e-4)

    def test_interpolation_needs_both_ends(self, make_vae, images):
        with pytest.raises(ValueError, match="at least 2. Received: num_steps=1."):
            make_vae().interpolate(images, images, num_steps=1)


@pytest.mark.parametrize(
    ("kind", "event_shape", "likelihood"),
    [
        (ConvVAE, (28, 28, 1), Bernoulli),
        (ConvVAE, (32, 48, 3), ContinuousBernoulli),
        (ConvVAE, (33, 17, 1), PerValueScaleNormal),
        (ConvVAE, (50, 2), SharedScaleNormal),
        (ConvVAE, (7, 1), FixedScaleNormal),
        (DenseVAE, (5,), PerValueScaleNormal),
        (DenseVAE, (6, 4, 3), FixedScaleNormal),
    ],
)
def test_data_of_any_shape_trains_and_is_scored(kind, event_shape, likelihood):
    sizes = {"hidden_units": (8,)} if kind is DenseVAE else {"filters": (4, 6), "hidden_units": 8}
    vae = kind(event_shape, 2, likelihood=likelihood(), **sizes)
    assert (vae.event_shape, vae.latent_dim) == (event_shape, 2)
    vae.compile()
    x = np.random.default_rng(0).uniform(size=(6, *event_shape)).astype("float32")
    history = vae.fit(x, batch_size=4, validation_data=x, verbose=0).history
    assert np.all(np.isfinite(list(history.values())))
    assert vae.predict(x, verbose=0).shape == (6, *event_shape)
    assert vae.sample(2).shape == (2, *event_shape)
    assert vae.log_likelihood(x, num_samples=3).shape == (6,)


class TestObjective:
    """The objective inside of a model: what it weighs, and when."""

    def test_elbo_does_not_depend_on_beta(self, images):
        sizes = {"filters": (4,), "hidden_units": 8}
        plain = BetaVAE((8, 8, 1), 2, beta=1.0, **sizes)
        weighted = BetaVAE((8, 8, 1), 2, beta=8.0, **sizes)
        # All weights, the stream of seeds included.
        for variable, source in zip(weighted.variables, plain.variables, strict=True):
            variable.assign(source)
        np.testing.assert_array_equal(plain.elbo(images, seed=0), weighted.elbo(images, seed=0))
        logs = []
        for vae in (plain, weighted):
            vae.compile()
            logs.append(vae.evaluate(images, verbose=0, return_dict=True))
        for name in ("elbo", "reconstruction", "kl"):
            assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-6)
        expected = logs[0]["reconstruction"] + 8 * logs[0]["kl"]
        assert logs[1]["loss"] == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        "objective",
        [
            ELBO(beta=2.0),
            ELBO(beta=Linear(0.5, 2.0, num_steps=10)),
            ELBO(free_bits=3.0),
            ELBO(num_samples=5),
        ],
        ids=["beta", "schedule", "free_bits", "num_samples"],
    )
    def test_every_hyper_parameter_changes_the_loss(self, make_vae, images, objective):
        def loss_with(objective):
            keras.utils.set_random_seed(0)
            vae = make_vae(objective=objective)
            vae.compile()
            return vae.evaluate(images, verbose=0)[0]

        assert loss_with(ELBO()) == loss_with(ELBO())
        assert abs(loss_with(objective) - loss_with(ELBO())) > 1e-3

    def test_warm_up_follows_the_optimizer_steps(self, make_noiseless_vae, images):
        vae = make_noiseless_vae(objective=ELBO(Linear(0.0, 1.0, num_steps=8)))
        vae.compile(keras.optimizers.SGD(0.0))
        for epoch in range(4):
            weight = min((4 * epoch) / 8, 1.0)
            logs = vae.evaluate(images, verbose=0, return_dict=True)
            expected = logs["reconstruction"] + weight * logs["kl"]
            assert logs["loss"] == pytest.approx(expected, rel=1e-5)
            vae.fit(images, batch_size=8, verbose=0)
            assert int(vae.step) == 4 * (epoch + 1)

    def test_training_uses_the_weight_of_each_step(self, make_noiseless_vae, images):
        vae = make_noiseless_vae(objective=ELBO(Linear(0.0, 1.0, num_steps=8)))
        vae.compile(keras.optimizers.SGD(0.0))
        history = vae.fit(images, batch_size=8, verbose=0, shuffle=False).history
        kl = [-vae.evaluate(images[i : i + 8], verbose=0)[1] for i in range(0, 32, 8)]
        reconstruction = [vae.evaluate(images[i : i + 8], verbose=0)[2] for i in range(0, 32, 8)]
        kl = np.subtract(kl, reconstruction)
        expected = np.mean(reconstruction + np.arange(4) / 8 * kl)
        assert history["loss"][0] == pytest.approx(expected, rel=1e-5)

    def test_penalties_of_the_networks_count(self, make_vae, images):
        def train(penalty):
            keras.utils.set_random_seed(0)
            vae = make_vae()
            vae.encoder.layers[-1].kernel.regularizer = penalty and keras.regularizers.L2(penalty)
            vae.compile(keras.optimizers.SGD(0.01))
            before = vae.encoder.layers[-1].kernel.numpy()
            vae.fit(images, verbose=0)
            return before, vae.encoder.layers[-1].kernel.numpy()

        before, plain = train(None)
        _, penalised = train(0.5)
        # SGD goes down the gradient of 0.5 |kernel|^2, too.
        np.testing.assert_allclose(penalised, plain - 0.01 * before, rtol=1e-4, atol=1e-6)

    def test_penalties_are_in_the_loss_that_is_reported_and_not_in_the_elbo(
        self, make_noiseless_vae, images
    ):
        class PerExample(keras.layers.Layer):
            def call(self, inputs):
                self.add_loss(tf.fill(tf.shape(inputs)[:1], tf.constant(0.25, inputs.dtype)))
                return inputs

        vae = make_noiseless_vae()
        x = vae.encoder.inputs[0]
        encoder = keras.Model(x, vae.encoder(PerExample(dtype="bfloat16")(x)))
        penalised = VAE(encoder, vae.decoder, posterior=vae.posterior)
        for model in (vae, penalised):
            model.compile(keras.optimizers.SGD(0.0))
        plain = vae.evaluate(images, verbose=0, return_dict=True)
        other = penalised.evaluate(images, verbose=0, return_dict=True)
        trained = penalised.fit(images, verbose=0).history
        assert other["elbo"] == pytest.approx(plain["elbo"], rel=1e-3)
        for loss in (other["loss"], trained["loss"][0]):
            assert loss == pytest.approx(plain["loss"] + 32 * 0.25, rel=1e-3)


class TestParts:
    """A VAE put together by hand."""

    def networks(self):
        return dense_encoder((5,), 2, hidden_units=()), dense_decoder(2, (5,), hidden_units=())

    def test_defaults_are_the_plain_vae(self):
        vae = VAE(*self.networks())
        parts = (vae.prior, vae.posterior, vae.likelihood, vae.objective)
        kinds = (StandardNormal, DiagonalNormal, Bernoulli, ELBO)
        assert tuple(type(part) for part in parts) == kinds
        assert (vae.latent_dim, vae.event_shape) == (2, (5,))

    @pytest.mark.parametrize("name", ["prior", "posterior", "likelihood", "objective"])
    def test_a_part_of_the_wrong_kind_is_refused(self, name):
        expected = f"`{name}` should be of class {name.title()}. Received: {name}='normal'."
        with pytest.raises(ValueError, match=expected):
            VAE(*self.networks(), **{name: "normal"})

    def test_an_encoder_that_does_not_fit_the_posterior_is_refused(self):
        with pytest.raises(
            ValueError,
            match=r"\(batch, 5\) for 2 latents and a FullCovarianceNormal. "
            r"Received: encoder.output_shape=\(None, 4\).",
        ):
            VAE(*self.networks(), posterior=FullCovarianceNormal())

    def test_a_decoder_that_does_not_fit_the_likelihood_is_refused(self):
        with pytest.raises(
            ValueError,
            match=r"for data of shape \(5,\) and a PerValueScaleNormal. "
            r"Received: decoder.output_shape=\(None, 5\).",
        ):
            VAE(*self.networks(), likelihood=PerValueScaleNormal())

    def test_networks_for_different_data_are_refused(self):
        encoder, _ = self.networks()
        with pytest.raises(ValueError, match=r"data of shape \(5,\) .*output_shape=\(None, 6\)."):
            VAE(encoder, dense_decoder(2, (6,), hidden_units=()))

    def test_networks_for_different_numbers_of_latents_are_refused(self):
        encoder, _ = self.networks()
        with pytest.raises(ValueError, match=r"for 3 latents and a DiagonalNormal."):
            VAE(encoder, dense_decoder(3, (5,), hidden_units=()))

    def test_a_prior_of_other_latents_is_refused(self):
        with pytest.raises(
            ValueError, match="as the decoder takes, 2. Received: prior.latent_dim=3"
        ):
            VAE(*self.networks(), prior=StandardNormal(3))

    def test_a_likelihood_in_use_for_data_of_another_rank_is_refused(self, make_vae):
        likelihood = Bernoulli()
        make_vae(likelihood=likelihood)
        with pytest.raises(ValueError, match=r"this model one of its own. Received: event_shape="):
            VAE(*self.networks(), likelihood=likelihood)

    def test_a_class_of_its_own_may_add_layers_and_metrics_in_its_constructor(
        self, images, tmp_path
    ):
        @keras.saving.register_keras_serializable("tests")
        class Watched(DenseVAE):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.head = keras.layers.Dense(1, trainable=False)
                self.head.build((None, self.latent_dim))
                self.answer = keras.metrics.Mean(name="answer")

            def train_step(self, data):
                logs = super().train_step(data)
                self.answer.update_state(self.head(self.encode(data).mean()))
                return logs | {"answer": self.answer.result()}

        vae = Watched((8, 8, 1), 2, hidden_units=(8,))
        vae.compile(keras.optimizers.Adam(1e-9), steps_per_execution=2)
        answers = vae.fit(images, batch_size=8, epochs=2, verbose=0).history["answer"]
        expected = tf.reduce_mean(vae.head(vae.encode(images).mean()))
        np.testing.assert_allclose(answers, [expected, expected], atol=1e-5)
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        np.testing.assert_array_equal(copy.head.kernel, vae.head.kernel)

    def test_scores_see_a_network_that_changed_before_compile(self, images, make_vae):
        vae = make_vae()
        vae.compile()
        before = vae.elbo(images, seed=0)
        vae.decoder.layers[-2].activation = lambda logits: logits + 1.0
        vae.compile()
        assert np.all(np.abs(vae.elbo(images, seed=0) - before) > 0.1)

    def test_scores_see_a_network_that_was_quantized(self, images, make_vae):
        vae = make_vae()
        vae.compile()
        vae.fit(images, verbose=0)
        before = vae.elbo(images, seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of each layer that it leaves as it is
            vae.quantize("int8")
        after = vae.elbo(images, seed=0)
        np.testing.assert_allclose(after, before, rtol=0.05)
        assert np.any(after != before)
        logs = vae.evaluate(images, verbose=0, return_dict=True)
        assert logs["elbo"] == pytest.approx(np.mean(after), rel=0.05)

    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
    def test_weights_of_parts_of_ones_own_stay_float32(self, images, dtype):
        class Shifted(DiagonalNormal):
            def __init__(self):
                super().__init__()
                self.shift = self.add_weight(name="shift", shape=(), initializer="ones")

            def distribution(self, params):
                return tfd.MultivariateNormalDiag(params[:, :2] + self.shift, tf.ones((1, 2)))

        vae = DenseVAE((8, 8, 1), 2, hidden_units=(8,), posterior=Shifted(), dtype=dtype)
        vae.compile()
        vae.fit(images, verbose=0)
        assert vae.predict(images, verbose=0).shape == images.shape
        assert vae.reconstruct(images).dtype == "float32"

    def test_a_prior_without_closed_form_trains(self, images, make_vae):
        vae = make_vae(prior=NormalWithoutClosedForm(2), objective=ELBO(num_samples=200))
        plain = make_vae(objective=ELBO(num_samples=200))
        plain.set_weights(vae.get_weights())
        logs = []
        for model in (vae, plain):
            model.compile(keras.optimizers.SGD(0.01))
            model.fit(images, verbose=0)
            logs.append(model.evaluate(images, verbose=0, return_dict=True))
        # 200 samples of 32 examples: the estimate of a KL of about a nat errs by some 0.02.
        assert logs[0]["kl"] == pytest.approx(logs[1]["kl"], abs=0.1)
