"""A VAE as a Keras model: training, callbacks, saving, export and bad input."""

import contextlib
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import BetaVAE, ConvVAE, DenseVAE
from keras_vae.checks import check_data
from keras_vae.distributions import (
    Bernoulli,
    ContinuousBernoulli,
    FixedScaleNormal,
    FullCovarianceNormal,
    PerValueScaleNormal,
    SharedScaleNormal,
)
from keras_vae.objectives import ELBO
from keras_vae.schedules import Linear
from tests.strategies import mirrored, mirrored_alone

LOGS = ["elbo", "kl", "loss", "reconstruction"]
VAL_LOGS = [f"val_{name}" for name in LOGS]


def assert_equal_weights(first, second, **tolerance):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def copy_of(vae):
    copy = type(vae).from_config(vae.get_config())
    copy.set_weights(vae.get_weights())
    return copy


class TestFit:
    """Training through stock Keras, on a model whose samples hold no noise where that helps."""

    @classmethod
    def train(cls, make_vae, **data):
        keras.utils.set_random_seed(0)
        vae = make_vae()
        vae.compile()
        vae.fit(**data, shuffle=False, steps_per_epoch=4, verbose=0)
        return vae

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, make_vae, images):
        return cls.train(make_vae, x=images, batch_size=8)

    @pytest.mark.parametrize(
        "data",
        [
            lambda x: {"x": tf.constant(x), "batch_size": 8},
            lambda x: {"x": x.astype("uint8"), "batch_size": 8},
            lambda x: {"x": x, "y": np.arange(32), "batch_size": 8},
            lambda x: {"x": x, "sample_weight": np.ones(32), "batch_size": 8},
            lambda x: {"x": tf.data.Dataset.from_tensor_slices(x).batch(8)},
            lambda x: {"x": tf.data.Dataset.from_tensor_slices((x, x)).batch(8)},
            lambda x: {"x": tf.data.Dataset.from_tensor_slices((x, x, np.ones(32))).batch(8)},
            lambda x: {"x": tf.data.Dataset.from_tensor_slices(x).repeat().batch(8, True)},
            lambda x: {"x": ((x[i : i + 8],) for i in range(0, 32, 8))},
        ],
        ids=[
            "tensor",
            "integers",
            "labels",
            "sample_weight",
            "dataset",
            "dataset_with_labels",
            "dataset_with_sample_weight",
            "endless_dataset",
            "generator",
        ],
    )
    def test_the_container_of_the_data_does_not_matter(self, trained, make_vae, images, data):
        other = self.train(make_vae, **data(images))
        assert_equal_weights(trained, other, rtol=1e-4, atol=1e-6)

    def test_data_of_unknown_shape_trains_and_is_checked_as_it_streams(
        self, trained, make_vae, images
    ):
        def stream(x):
            def batches():
                yield from np.split(x, 4)

            return tf.data.Dataset.from_generator(batches, output_types=tf.float32)

        assert_equal_weights(trained, self.train(make_vae, x=stream(images)), rtol=1e-4, atol=1e-6)
        with pytest.raises(tf.errors.InvalidArgumentError, match="is not compatible with expected"):
            trained.evaluate(stream(images[:, :4]), verbose=0)

    def test_logs_are_per_epoch_and_consistent(self, make_vae, images):
        vae = make_vae(objective=ELBO(beta=3.0))
        vae.compile()
        history = vae.fit(images, epochs=2, validation_split=0.25, verbose=0).history
        assert sorted(history) == LOGS + VAL_LOGS
        for prefix in ("", "val_"):
            loss, elbo, reconstruction, kl = (
                np.array(history[prefix + name])
                for name in ("loss", "elbo", "reconstruction", "kl")
            )
            assert loss.shape == (2,)
            np.testing.assert_allclose(elbo, -(reconstruction + kl), rtol=1e-5)
            np.testing.assert_allclose(loss, reconstruction + 3 * kl, rtol=1e-5)

    def test_loss_falls_and_elbo_rises(self, make_vae, images):
        vae = make_vae()
        vae.compile(keras.optimizers.Adam(0.01))
        before = vae.evaluate(images, verbose=0, return_dict=True)
        vae.fit(images, epochs=30, batch_size=8, verbose=0)
        after = vae.evaluate(images, verbose=0, return_dict=True)
        assert after["loss"] < before["loss"] - 1.0
        assert after["elbo"] > before["elbo"] + 1.0

    @pytest.mark.parametrize(
        "validation_data",
        [
            lambda x: x,
            lambda x: (x,),
            lambda x: (x, np.arange(32)),
            lambda x: (x, x, np.ones(32)),
            lambda x: tf.data.Dataset.from_tensor_slices(x).batch(32),
            lambda x: tf.data.Dataset.from_tensor_slices((x, np.arange(32))).batch(32),
        ],
        ids=["array", "tuple", "labels", "sample_weight", "dataset", "dataset_with_labels"],
    )
    def test_validation_equals_evaluation(self, make_noiseless_vae, images, validation_data):
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.0))
        data = validation_data(1 - images)
        history = vae.fit(images, validation_data=data, verbose=0).history
        logs = vae.evaluate(1 - images, verbose=0, return_dict=True)
        assert sorted(history) == LOGS + VAL_LOGS
        for name in LOGS:
            assert history[f"val_{name}"][0] == pytest.approx(logs[name], rel=1e-5)

    def test_sample_weight_scales_the_gradient(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        other = copy_of(vae)
        vae.compile(keras.optimizers.SGD(0.02))
        other.compile(keras.optimizers.SGD(0.01))
        vae.fit(images, verbose=0)
        other.fit(images, sample_weight=np.full(32, 2.0), verbose=0)
        assert_equal_weights(vae, other, rtol=1e-4, atol=1e-6)

    def test_weights_may_stand_in_a_column(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        other = copy_of(vae)
        weight = np.linspace(0.0, 2.0, 32)
        for each, sample_weight in ((vae, weight), (other, weight[:, np.newaxis])):
            each.compile(keras.optimizers.SGD(0.02))
            each.fit(images, sample_weight=sample_weight, shuffle=False, verbose=0)
        assert_equal_weights(vae, other, rtol=1e-6)

    def test_weights_that_are_not_one_for_each_example_are_refused(self, make_vae, images):
        vae = make_vae()
        vae.compile()
        data = tf.data.Dataset.from_tensors((images, images, np.ones((32, 8, 8), np.float32)))
        with pytest.raises(ValueError, match=r"one number for each.*Received: shape=\(32, 8, 8\)"):
            vae.fit(data, verbose=0)

    def test_validation_weights_count_without_labels(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.0))
        weight = np.repeat([1.0, 0.0], 16)
        history = vae.fit(images, validation_data=(images, None, weight), verbose=0).history
        expected = vae.evaluate(images[:16], verbose=0)[0]
        assert history["val_loss"] == pytest.approx([expected], rel=1e-5)

    def test_single_batches_are_checked(self, make_vae, images):
        vae = make_vae()
        vae.compile()
        for method in (vae.train_on_batch, vae.test_on_batch):
            with pytest.raises(ValueError, match="255"):
                method(images * 255)

    def test_logs_are_weighted_means(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        vae.compile()
        weight = np.repeat([1.0, 0.0], 16)
        weighted = vae.evaluate(images, sample_weight=weight, verbose=0)
        assert weighted == pytest.approx(vae.evaluate(images[:16], verbose=0), rel=1e-5)

    def test_means_are_over_examples_also_with_an_uneven_last_batch(
        self, make_noiseless_vae, images
    ):
        vae = make_noiseless_vae()
        vae.compile()
        expected = vae.evaluate(images, batch_size=32, verbose=0)
        assert vae.evaluate(images, batch_size=7, verbose=0) == pytest.approx(expected, rel=1e-5)

    def test_evaluate_predict_and_single_batches_work_untrained(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.0))
        logs = vae.evaluate(images, verbose=0)
        assert vae.test_on_batch(images) == pytest.approx(logs, rel=1e-5)
        assert vae.train_on_batch(images) == pytest.approx(logs, rel=1e-5)
        assert [metric.name for metric in vae.metrics] == ["loss", "elbo", "reconstruction", "kl"]
        assert logs[1] == pytest.approx(-(logs[2] + logs[3]), rel=1e-5)
        expected = vae.predict(images, verbose=0)
        dataset = tf.data.Dataset.from_tensor_slices(images).batch(5)
        np.testing.assert_allclose(vae.predict(dataset, verbose=0), expected, rtol=1e-5)
        np.testing.assert_allclose(vae.predict_on_batch(images), expected, rtol=1e-5)

    def test_running_means_are_made_for_the_first_step(self, make_vae, images, tmp_path):
        vae = make_vae()
        vae.compile()
        vae.predict(images, verbose=0)
        vae.save_weights(tmp_path / "means.weights.h5")
        assert vae.metrics == []
        vae.evaluate(images, verbose=0)
        means = vae.metrics
        vae.load_weights(tmp_path / "means.weights.h5")  # of a model without them
        vae.compile()
        vae.fit(images, verbose=0)
        assert vae.metrics == means
        assert len(means) == 4

    def test_running_means_are_made_in_a_loop_of_ones_own(self, make_noiseless_vae, images):
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.SGD(0.0))
        expected = vae.test_on_batch(images, return_dict=True)
        own = make_noiseless_vae()
        own.compile(keras.optimizers.SGD(0.0))
        own.optimizer.build(own.trainable_variables)
        own.set_weights(vae.get_weights())
        logs = tf.function(own.train_step)(tf.convert_to_tensor(images))
        assert {key: float(value) for key, value in logs.items()} == pytest.approx(expected)

    def test_same_seed_gives_same_weights_and_another_others(self, make_vae, images):
        def train(seed):
            keras.utils.set_random_seed(seed)
            vae = make_vae()
            vae.compile()
            vae.fit(images, epochs=2, batch_size=8, verbose=0)
            return vae

        first = train(0)
        assert_equal_weights(first, train(0), rtol=0)
        assert np.any(first.get_weights()[1] != train(1).get_weights()[1])

    def test_noise_is_fresh_at_every_step(self, make_vae, images):
        vae = make_vae()
        vae.compile(keras.optimizers.SGD(0.0))
        history = vae.fit(images, epochs=3, shuffle=False, verbose=0).history
        assert len(set(history["reconstruction"])) == 3


class TestCompile:
    """What `compile` can ask for changes speed or precision, not the result."""

    def train(self, make_vae, images, **compile_arguments):
        keras.utils.set_random_seed(0)
        vae = make_vae()
        vae.compile(keras.optimizers.SGD(0.02), **compile_arguments)
        vae.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return vae

    @pytest.mark.parametrize(
        "arguments",
        [{"run_eagerly": True}, {"steps_per_execution": 3}],
        ids=["run_eagerly", "steps_per_execution"],
    )
    def test_execution_does_not_matter(self, make_vae, images, arguments):
        plain, other = self.train(make_vae, images), self.train(make_vae, images, **arguments)
        assert int(plain.step) == int(other.step) == 8
        assert_equal_weights(plain, other, rtol=1e-4, atol=1e-6)

    def test_xla_does_not_matter(self, make_noiseless_vae, images):
        plain = self.train(make_noiseless_vae, images)
        compiled = self.train(make_noiseless_vae, images, jit_compile=True)
        # Fused operations round differently; training carries that on.
        assert_equal_weights(plain, compiled, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            compiled.predict(images, verbose=0), plain.predict(images, verbose=0), rtol=1e-3
        )

    def test_every_posterior_and_objective_trains_under_xla(self, make_vae, images):
        vae = make_vae(
            posterior=FullCovarianceNormal(),
            likelihood=ContinuousBernoulli(),
            objective=ELBO(free_bits=0.1, num_samples=2),
        )
        vae.compile(jit_compile=True)
        # The last batch is smaller: the number of examples is not known to the compiler.
        history = vae.fit(images, batch_size=12, verbose=0).history
        assert np.all(np.isfinite(list(history.values())))

    @pytest.mark.parametrize(
        ("policy", "likelihood"),
        [
            ("mixed_bfloat16", SharedScaleNormal),
            ("mixed_bfloat16", PerValueScaleNormal),
            ("mixed_float16", Bernoulli),
            ("mixed_bfloat16", Bernoulli),
        ],
    )
    def test_mixed_precision_comes_close(self, make_noiseless_vae, images, policy, likelihood):
        vae = make_noiseless_vae(likelihood=likelihood())
        mixed = make_noiseless_vae(likelihood=likelihood(), dtype=policy)
        mixed.set_weights(vae.get_weights())
        mixed.compile(keras.optimizers.SGD(0.001))
        history = mixed.fit(images, epochs=3, validation_data=images, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
        assert mixed.predict(images, verbose=0).dtype == "float32"
        # bfloat16 keeps 8 bits: 0.4% for each of three layers.
        vae.set_weights(mixed.get_weights())
        assert -np.mean(vae.elbo(images)) == pytest.approx(history["val_loss"][-1], rel=0.02)
        np.testing.assert_allclose(mixed.elbo(images), vae.elbo(images), rtol=0.02)

    def test_global_mixed_precision_works_as_well(self, make_vae, images):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            vae = make_vae(likelihood=SharedScaleNormal())
        finally:
            keras.config.set_dtype_policy(policy)
        vae.compile()
        assert isinstance(vae.optimizer, keras.optimizers.LossScaleOptimizer)
        history = vae.fit(images, validation_data=images, verbose=0).history
        assert np.all(np.isfinite(list(history.values())))
        assert vae.predict(images, verbose=0).dtype == "float32"

    def test_gradients_are_clipped(self, make_vae, images):
        vae = make_vae()
        before = [weight.numpy() for weight in vae.trainable_weights]
        vae.compile(keras.optimizers.SGD(1.0, clipnorm=1e-3))
        vae.fit(images, verbose=0)
        for weight, old in zip(vae.trainable_weights, before, strict=True):
            assert 0 < np.linalg.norm(weight.numpy() - old) < 1.001e-3

    @pytest.mark.parametrize(
        "optimizer",
        [
            keras.optimizers.SGD(0.002, momentum=0.9, nesterov=True),
            keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.02, 100)),
            keras.optimizers.Adam(0.01, use_ema=True, gradient_accumulation_steps=2),
        ],
        ids=lambda optimizer: optimizer.name,
    )
    def test_any_optimizer_trains(self, make_vae, images, optimizer):
        vae = make_vae()
        vae.compile(optimizer)
        history = vae.fit(images, epochs=30, batch_size=8, verbose=0).history
        assert history["loss"][-1] < history["loss"][0] - 1.0

    @pytest.mark.parametrize(
        "arguments",
        [{"loss": "mse"}, {"metrics": ["mae"]}, {"weighted_metrics": ["mae"]}],
        ids=lambda arguments: next(iter(arguments)),
    )
    def test_a_loss_or_metric_is_refused(self, make_vae, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"leave `{name}` out.* Received: {name}="):
            make_vae().compile("adam", **arguments)


class TestCallbacks:
    class Spoil(keras.callbacks.Callback):
        """Makes the model worse from epoch 2 on."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch >= 2:
                bias = self.model.decoder.layers[-2].bias
                bias.assign(bias + 3.0)

    @pytest.fixture
    def vae(self, make_noiseless_vae):
        vae = make_noiseless_vae()
        vae.compile(keras.optimizers.Adam(0.01))
        return vae

    def fit(self, vae, images, *callbacks):
        return vae.fit(
            images, validation_data=images, epochs=9, callbacks=list(callbacks), verbose=0
        ).history

    @pytest.mark.parametrize("monitor", ["val_elbo", "val_loss", "val_reconstruction", "elbo"])
    def test_early_stopping_knows_the_direction_and_restores_the_best(self, vae, images, monitor):
        stopping = keras.callbacks.EarlyStopping(monitor, patience=2, restore_best_weights=True)
        history = self.fit(vae, images, self.Spoil(), stopping)
        assert len(history["val_elbo"]) == 4
        assert vae.evaluate(images, verbose=0)[1] == pytest.approx(max(history["val_elbo"]))

    def test_a_direction_that_was_chosen_is_kept(self, vae, images):
        stopping = keras.callbacks.EarlyStopping("val_elbo", mode="min", patience=0)
        assert len(self.fit(vae, images, stopping)["elbo"]) == 2
        assert stopping.mode == "min"

    def test_checkpoint_keeps_the_best_model(self, vae, images, tmp_path):
        path = tmp_path / "best.keras"
        checkpoint = keras.callbacks.ModelCheckpoint(path, "val_elbo", save_best_only=True)
        history = self.fit(vae, images, self.Spoil(), checkpoint)
        best = keras.saving.load_model(path)
        assert int(best.step) == 2
        assert best.evaluate(images, verbose=0)[1] == pytest.approx(max(history["val_elbo"]))

    def test_training_ends_when_the_loss_is_no_number(self, vae, images):
        vae.decoder.layers[-1 - 1].bias.assign(np.full(64, np.nan))
        assert len(self.fit(vae, images, keras.callbacks.TerminateOnNaN())["loss"]) == 1

    @pytest.mark.parametrize("strategy", [mirrored, mirrored_alone])
    def test_metrics_that_replicas_cannot_add_up_are_refused(self, images, strategy):
        with strategy().scope():
            area = keras.metrics.AUC(name="auc")
            own = property(lambda vae: [*super(DenseVAE, vae).metrics, area])
            vae = type("WithArea", (DenseVAE,), {"metrics": own})((8, 8, 1), 2, hidden_units=(8,))
            vae.compile()
        with pytest.raises(ValueError, match="Received: the metrics 'auc'"):
            vae.fit(images, verbose=0)

    def test_learning_rate_falls_on_a_plateau_of_the_elbo(self, vae, images):
        plateau = keras.callbacks.ReduceLROnPlateau("val_elbo", factor=0.5, patience=1)
        self.fit(vae, images, self.Spoil(), plateau)
        assert float(vae.optimizer.learning_rate) < 0.01


class TestSaving:
    def trained(self, images, **changes):
        vae = DenseVAE(
            (8, 8, 1),
            2,
            **{"hidden_units": (8,), "objective": ELBO(Linear(0.1, 2.0, num_steps=10))} | changes,
        )
        vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=2)
        vae.fit(images, batch_size=8, verbose=0)
        return vae

    @pytest.mark.parametrize("networks", [("encoder",), ("decoder",), ("encoder", "decoder")])
    def test_what_is_frozen_stays_frozen_after_a_reload(self, images, tmp_path, networks):
        vae = self.trained(images, likelihood=SharedScaleNormal(0.5))
        vae.freeze(*networks)
        vae.fit(images, verbose=0)
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert len(copy.optimizer.variables) == len(vae.optimizer.variables)
        for ours, theirs in zip(copy.optimizer.variables, vae.optimizer.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        copy.fit(images, verbose=0)
        for name in ("encoder", "decoder"):
            pairs = zip(
                getattr(copy, name).get_weights(), getattr(vae, name).get_weights(), strict=True
            )
            is_same = all(np.array_equal(one, other) for one, other in pairs)
            assert is_same == (name in networks)
        copy.freeze()
        assert copy.encoder.trainable_weights
        assert copy.decoder.trainable_weights
        assert "frozen" not in copy.get_compile_config()

    def test_a_single_frozen_layer_stays_frozen_after_a_reload(self, images, tmp_path):
        vae = self.trained(images)
        layer = vae.decoder.layers[1]
        layer.trainable = False
        vae.compile(keras.optimizers.Adam(0.01))
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        trainable = [each.trainable for each in copy.decoder.layers]
        assert trainable == [each is not layer for each in vae.decoder.layers]

    def test_a_frozen_likelihood_stays_frozen_after_a_reload(self, images, tmp_path):
        vae = DenseVAE((8, 8, 1), 2, hidden_units=(8,), likelihood=SharedScaleNormal(0.5))
        vae.likelihood.trainable = False
        vae.compile("adam")
        vae.fit(images, verbose=0)
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert not copy.likelihood.trainable_weights
        for ours, theirs in zip(copy.optimizer.variables, vae.optimizer.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_freezing_keeps_how_the_model_is_compiled(self, images):
        class Own(keras.optimizers.SGD):  # which is not registered
            pass

        vae = DenseVAE((8, 8, 1), 2, hidden_units=(8,), dtype="mixed_float16")
        vae.compile(Own(0.5), auto_scale_loss=False, steps_per_execution=3)
        vae.freeze("encoder")
        assert type(vae.optimizer) is Own
        assert float(vae.optimizer.learning_rate) == 0.5
        assert vae.steps_per_execution == 3
        vae.fit(images, verbose=0)

    def test_freezing_needs_no_scope(self, images):
        with mirrored().scope():
            vae = DenseVAE((8, 8, 1), 2, hidden_units=(8,))
            vae.compile("adam")
        vae.fit(images, verbose=0)
        vae.freeze("encoder")
        before = vae.encoder.get_weights()
        vae.fit(images, verbose=0)
        for one, other in zip(before, vae.encoder.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_thawed_layer_of_a_frozen_network_stays_thawed_after_a_reload(self, images, tmp_path):
        vae = self.trained(images)
        vae.encoder.trainable = False
        vae.encoder.layers[-1].trainable = True
        vae.compile(keras.optimizers.Adam(0.01))
        vae.fit(images, verbose=0)
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert len(copy.trainable_weights) == len(vae.trainable_weights) == 6
        for ours, theirs in zip(copy.optimizer.variables, vae.optimizer.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_training_goes_on_after_a_reload_as_if_nothing_had_happened(self, images, tmp_path):
        vae = self.trained(images)
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert int(copy.step) == int(copy.optimizer.iterations) == 4
        assert copy.steps_per_execution == 2
        assert float(copy.optimizer.learning_rate) == pytest.approx(0.01)
        # As with Keras' dropout, the state of the noise is not part of a file.
        copy.seed_generator.state.assign(vae.seed_generator.state)
        for model in (vae, copy):
            model.fit(images, batch_size=8, shuffle=False, verbose=0)
        assert_equal_weights(vae, copy, rtol=1e-4, atol=1e-6)

    def test_reloaded_model_gives_equal_results(self, images, tmp_path):
        vae = self.trained(
            images, posterior=FullCovarianceNormal(), likelihood=SharedScaleNormal(0.5)
        )
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert_equal_weights(vae, copy, rtol=0)
        np.testing.assert_array_equal(
            copy.predict(images, verbose=0), vae.predict(images, verbose=0)
        )
        np.testing.assert_array_equal(copy.elbo(images, seed=0), vae.elbo(images, seed=0))

    def test_a_model_that_was_never_compiled_or_trained_reloads(self, make_vae, images, tmp_path):
        for vae in (make_vae(), make_vae()):
            vae.save(tmp_path / "vae.keras")
            copy = keras.saving.load_model(tmp_path / "vae.keras")
            assert copy.compiled == vae.compiled
            np.testing.assert_array_equal(copy(images), vae(images))
            vae.compile()

    def test_compiled_untrained_model_reloads_with_its_optimizer(self, make_vae, tmp_path):
        vae = make_vae()
        vae.compile(keras.optimizers.Adam(0.5))
        vae.save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        assert len(copy.optimizer.variables) == len(vae.optimizer.variables)

    @pytest.mark.parametrize("is_built", [False, True])
    def test_weights_bring_the_state_of_an_optimizer_that_is_built(
        self, make_vae, images, tmp_path, is_built
    ):
        vae = self.trained(images)
        vae.save_weights(tmp_path / "vae.weights.h5")
        other = make_vae()
        other.compile(keras.optimizers.Adam(1e-5))
        if is_built:
            other.fit(images, verbose=0)
        told = contextlib.nullcontext() if is_built else pytest.warns(UserWarning, match="Skipping")
        with told:  # as in Keras
            other.load_weights(tmp_path / "vae.weights.h5")
        assert_equal_weights(vae, other, rtol=0)
        assert float(other.optimizer.learning_rate) == pytest.approx(0.01 if is_built else 1e-5)
        assert int(other.optimizer.iterations) == (4 if is_built else 0)

    def test_training_goes_on_from_loaded_weights_whatever_an_optimizer_keeps(
        self, make_vae, images, tmp_path
    ):
        source, vae = make_vae(), make_vae()
        source.save_weights(tmp_path / "vae.weights.h5")
        vae.compile(keras.optimizers.ScheduleFreeAdamW(1e-9))  # which keeps a copy of the weights
        with pytest.warns(UserWarning, match="the saved optimizer has 0 variables"):
            vae.load_weights(tmp_path / "vae.weights.h5")
        vae.fit(images, verbose=0)
        for ours, theirs in zip(vae.trainable_weights, source.trainable_weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_weights_file_holds_the_step(self, make_vae, images, tmp_path):
        vae = self.trained(images)
        vae.save_weights(tmp_path / "vae.weights.h5")
        other = make_vae()
        other.load_weights(tmp_path / "vae.weights.h5")
        assert int(other.step) == 4
        assert_equal_weights(vae, other, rtol=0)

    def test_weight_of_the_kl_goes_on_after_a_reload(self, images, tmp_path):
        self.trained(images).save(tmp_path / "vae.keras")
        copy = keras.saving.load_model(tmp_path / "vae.keras")
        logs = copy.evaluate(images, verbose=0, return_dict=True)
        weight = 0.1 + 1.9 * 4 / 10
        assert logs["loss"] == pytest.approx(logs["reconstruction"] + weight * logs["kl"], rel=1e-5)

    def test_clone_has_the_same_architecture_and_fresh_weights(self, make_vae):
        vae = make_vae()
        clone = keras.models.clone_model(vae)
        assert json.dumps(clone.get_config()) == json.dumps(vae.get_config())
        assert np.any(clone.get_weights()[1] != vae.get_weights()[1])

    def test_stock_export_serves_reconstructions(self, make_vae, images, tmp_path):
        vae = make_vae()
        vae.export(tmp_path / "fresh", verbose=False)
        vae.log_likelihood(images, 3)
        vae.elbo(images)
        vae.export(tmp_path / "used", verbose=False)
        for folder in ("fresh", "used"):
            loaded = tf.saved_model.load(tmp_path / folder)
            np.testing.assert_allclose(loaded.serve(images), vae(images), rtol=1e-5)

    def test_summary_counts_every_weight(self, make_vae):
        lines = []
        make_vae().summary(print_fn=lines.append)
        # 64 * 8 + 8, 8 * 4 + 4, 2 * 8 + 8 and 8 * 64 + 64 in the layers, and the step.
        assert "Total params: 1,157" in lines[0]


class TestBadInput:
    METHODS = ("fit", "evaluate", "predict", "encode", "reconstruct", "elbo", "log_likelihood")

    @pytest.fixture
    def vae(self, make_vae):
        vae = make_vae()
        vae.compile()
        return vae

    @pytest.mark.parametrize("method", METHODS)
    def test_every_method_checks_its_data(self, vae, method):
        for bad, message in [
            (np.zeros((4, 8, 8)), r"shape \(batch, 8, 8, 1\). Received: shape=\(4, 8, 8\)."),
            (np.full((4, 8, 8, 1), 255, "uint8"), r"Scale it: `images.astype\('float32'\) / 255`"),
            (np.full((4, 8, 8, 1), np.nan), "should be finite. Received: 256 values"),
            (np.zeros((0, 8, 8, 1)), "at least one example"),
        ]:
            with pytest.raises(ValueError, match=message):
                getattr(vae, method)(bad)

    def test_interpolation_checks_both_ends(self, vae):
        good = np.zeros((2, 8, 8, 1))
        for pair in ((good, good[..., 0]), (good[..., 0], good)):
            with pytest.raises(ValueError, match=r"Received: shape=\(2, 8, 8\)."):
                vae.interpolate(*pair)

    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, x)], ids=["array", "tuple"])
    def test_validation_data_is_checked(self, vae, wrap):
        with pytest.raises(ValueError, match="Scale it"):
            vae.fit(np.zeros((4, 8, 8, 1)), validation_data=wrap(np.full((4, 8, 8, 1), 255)))

    def test_validation_datasets_are_checked(self, vae):
        pixels = tf.data.Dataset.from_tensors(np.full((4, 8, 8, 1), 255))
        with pytest.raises(tf.errors.InvalidArgumentError, match="Scale it"):
            vae.fit(np.zeros((4, 8, 8, 1)), validation_data=pixels, verbose=0)

    def test_data_is_prepared_for_checks_once_for_all_epochs(self, vae, monkeypatch):
        checked = []

        def check(data, *rest):
            checked.append(data)
            return check_data(data, *rest)

        monkeypatch.setattr("keras_vae.vae.check_data", check)
        train, validation = np.zeros((4, 8, 8, 1)), np.ones((4, 8, 8, 1))
        vae.fit(train, validation_data=validation, epochs=3, verbose=0)
        assert [float(data[0, 0, 0, 0]) for data in checked] == [1.0, 0.0]  # validation first
        vae.evaluate(validation, verbose=0)
        assert checked[2] is validation

    @pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
    def test_datasets_are_checked_as_they_stream(self, vae, method):
        pixels = tf.data.Dataset.from_tensors(np.full((4, 8, 8, 1), 255))
        arguments = {"shuffle": False} if method == "fit" else {}
        with pytest.raises(tf.errors.InvalidArgumentError, match="from 255 to 255. Scale it"):
            getattr(vae, method)(pixels, verbose=0, **arguments)

    def test_a_likelihood_of_reals_takes_any_finite_value(self, make_vae):
        vae = make_vae(likelihood=FixedScaleNormal())
        assert np.all(np.isfinite(vae.elbo(np.full((2, 8, 8, 1), -20.0))))

    @pytest.mark.parametrize("kind", [DenseVAE, ConvVAE, BetaVAE])
    @pytest.mark.parametrize("bad", [0, -1, 2.5])
    def test_a_wrong_number_of_latents_is_refused(self, kind, bad):
        with pytest.raises(ValueError, match="`latent_dim` should be an integer >= 1. Received: "):
            kind((8, 8, 1), bad)

    @pytest.mark.parametrize("bad", [-1.0, math.nan])
    def test_a_wrong_beta_is_refused(self, bad):
        with pytest.raises(ValueError, match="`beta` should be a finite number >= 0. Received: b"):
            BetaVAE((8, 8, 1), 2, beta=bad)
