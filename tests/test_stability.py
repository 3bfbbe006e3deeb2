"""Single bad batches: named, left out, clipped; the same on one replica and on two."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.distributions import FixedScaleNormal
from keras_vae.stability import Guard, NonFiniteError
from tests.strategies import mirrored, mirrored_alone


def one_replica():
    return tf.distribute.get_strategy()


def compiled(make, *, strategy=None, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    with (strategy or one_replica()).scope():
        vae = make(likelihood=FixedScaleNormal(1.0))
        vae.compile(optimizer or keras.optimizers.SGD(0.01), **options)
    return vae


def trained(vae):
    return [keras.ops.convert_to_numpy(weight) for weight in vae.trainable_weights]


def fit(vae, x):
    return vae.fit(x, batch_size=4, shuffle=False, verbose=0)


def with_a_bad_example(images, row):
    bad = images[:16].copy()
    bad[row] = 3e38  # finite, but not its square
    return bad


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (one_replica, {}),
        (one_replica, {"steps_per_execution": 3, "jit_compile": True}),
        (mirrored_alone, {}),
        (mirrored, {}),
    ],
    ids=["one", "compiled", "one mirrored", "two"],
)
def test_a_bad_batch_stops_training_before_it_does_harm(make_vae, images, strategy, options):
    bad = with_a_bad_example(images, row=11)  # in the third batch, on the second replica
    vae = compiled(make_vae, strategy=strategy(), guard=Guard(), **options)
    with pytest.raises(NonFiniteError) as error:
        fit(vae, bad)
    message = str(error.value)
    assert message.startswith("Step 2 gave values that are NaN or infinite: the loss (1 example);")
    assert "the reconstruction (1 example)" in message
    assert "the KL of latents 0, 1" in message
    assert "the gradient of encoder/" in message
    assert "The batch goes from 0 to 3e+38." in message
    assert "global_clipnorm" in message
    for weight in vae.get_weights():
        assert np.all(np.isfinite(weight))
    good = compiled(make_vae, strategy=strategy(), **options)
    fit(good, bad[:8])
    if not options:  # else the step behind the bad one was taken too
        for one, other in zip(vae.get_weights()[1:], good.get_weights()[1:], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_only_what_is_bad_is_named(make_vae, images):
    vae = compiled(make_vae, guard=Guard())
    bias = vae.encoder.layers[-1].bias
    values = bias.numpy()
    values[1] = 1e25  # the mean of the second latent: its square is no float
    bias.assign(values)
    with pytest.raises(NonFiniteError) as error:
        fit(vae, images[:4])
    assert "the KL (4 examples); the KL of latents 1;" in str(error.value)
    assert "The batch goes from 0 to 1." in str(error.value)


@pytest.mark.parametrize("factor", [1e3, 1e12], ids=["large", "a norm that is no float"])
@pytest.mark.parametrize(
    "strategy", [one_replica, mirrored_alone, mirrored], ids=["one", "one mirrored", "two"]
)
def test_steps_out_of_the_line_are_left_out(make_noiseless_vae, images, strategy, factor, caplog):
    x = images[:16].copy()
    x[4:8] *= factor
    guard = Guard(skip_norm=1000.0)
    vae = compiled(make_noiseless_vae, strategy=strategy(), guard=guard)
    with caplog.at_level(logging.WARNING):
        fit(vae, x)
    assert guard.num_skipped == 1
    assert "Epoch 1: left out 1 steps with a gradient norm above 1000." in caplog.text
    without = compiled(make_noiseless_vae, strategy=strategy())
    fit(without, np.concatenate([x[:4], x[8:]]))
    for one, other in zip(vae.get_weights()[1:], without.get_weights()[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert int(keras.ops.convert_to_numpy(vae.step)) == 4


@pytest.mark.parametrize(
    "clipping", [{"global_clipnorm": 0.5}, {"clipnorm": 0.2}, {"clipvalue": 0.01}]
)
def test_clipping_is_of_accumulated_gradients_as_in_keras(make_noiseless_vae, images, clipping):
    options = {"gradient_accumulation_steps": 2, **clipping}
    vae = compiled(make_noiseless_vae, optimizer=keras.optimizers.SGD(1.0, **options))
    before = [keras.Variable(weight) for weight in trained(vae)]
    gradients = []
    for x in (images[:4], 3.0 * images[4:8]):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(vae.elbo(x, seed=0))
        gradients.append(tape.gradient(loss, [w.value for w in vae.trainable_weights]))
    keras_alone = keras.optimizers.SGD(1.0, **options)
    for each in gradients:
        keras_alone.apply_gradients(zip(each, before, strict=True))
    fit(vae, np.concatenate([images[:4], 3.0 * images[4:8]]))
    for one, other in zip(trained(vae), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_a_norm_that_is_no_float_is_named(make_vae, images):
    vae = compiled(make_vae, guard=Guard())
    with pytest.raises(NonFiniteError, match="infinite: the norm of the gradient, which is too"):
        fit(vae, 1e12 * images[:4])


@pytest.mark.parametrize("strategy", [mirrored_alone, mirrored], ids=["one mirrored", "two"])
def test_accumulating_gradients_where_replicas_are_kept_alike_is_refused(make_vae, strategy):
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="Received: gradient_accumulation_steps=2"):
        compiled(make_vae, strategy=strategy(), optimizer=optimizer)


@pytest.mark.parametrize(
    "options", [{"global_clipnorm": 1.0}, {"clipvalue": 0.5}, {"gradient_accumulation_steps": 2}]
)
def test_several_optimizers_in_one_may_not_clip_where_replicas_are_kept_alike(make_vae, options):
    def both():
        plain, limited = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1, **options)
        chosen = keras.optimizers.OptimizerMap(plain, {".*bias": limited})
        return keras.optimizers.MultiOptimizer(chosen)

    make_vae().compile(both())
    ((name, value),) = options.items()
    with mirrored().scope(), pytest.raises(ValueError, match=f"Received: {name}={value}"):
        make_vae().compile(both())


@pytest.mark.parametrize(
    "clipping", [{"global_clipnorm": 0.5}, {"clipnorm": 0.2}, {"clipvalue": 0.01}]
)
def test_two_replicas_clip_as_one_does(make_noiseless_vae, images, clipping):
    weights = []
    for strategy in (one_replica(), mirrored()):
        optimizer = keras.optimizers.SGD(1.0, **clipping)
        vae = compiled(make_noiseless_vae, strategy=strategy, optimizer=optimizer)
        before = vae.get_weights()
        fit(vae, images[:8])
        weights.append(vae.get_weights())
        moved = max(np.abs(a - b).max() for a, b in zip(before[1:], weights[-1][1:], strict=True))
        assert moved > 1e-3
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["float32", "mixed_float16", "loss_scale_factor"])
@pytest.mark.parametrize("clipping", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_limits_hold_whatever_the_loss_is_scaled_by(
    make_noiseless_vae, images, optimizer, clipping
):
    keras.utils.set_random_seed(0)
    options = {clipping: 0.25}
    if optimizer == "loss_scale_factor":
        options["loss_scale_factor"] = 1024.0
    vae = make_noiseless_vae(dtype="mixed_float16" if optimizer == "mixed_float16" else None)
    vae.compile(keras.optimizers.SGD(1.0, **options))
    before = trained(vae)
    vae.fit(images[:8], batch_size=8, verbose=0)
    steps = [old - new for old, new in zip(before, trained(vae), strict=True)]
    size = {
        "clipnorm": lambda: max(np.linalg.norm(step) for step in steps),
        "global_clipnorm": lambda: np.sqrt(sum(np.sum(step**2) for step in steps)),
        "clipvalue": lambda: max(np.abs(step).max() for step in steps),
    }[clipping]()
    assert size == pytest.approx(0.25, rel=1e-4)


def test_nothing_moves_behind_a_bad_step_of_the_same_execution(make_vae, images):
    bad = with_a_bad_example(images, row=5)  # in the second batch
    vae = compiled(make_vae, guard=Guard(), steps_per_execution=4)
    with pytest.raises(NonFiniteError, match="Step 1 gave"):
        fit(vae, bad)
    good = compiled(make_vae)
    fit(good, bad[:4])
    for got, expected in zip(trained(vae), trained(good), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("strategy", [one_replica, mirrored], ids=["one", "two"])
def test_training_goes_on_once_the_bad_batch_is_gone(make_vae, images, strategy):
    vae = compiled(make_vae, strategy=strategy(), guard=Guard())
    with pytest.raises(NonFiniteError):
        fit(vae, with_a_bad_example(images, row=1))
    before = trained(vae)
    fit(vae, images[:8])
    assert all(np.any(old != new) for old, new in zip(before, trained(vae), strict=True))


def test_single_batches_tell_of_a_bad_one_and_go_on(make_vae, images):
    vae = compiled(make_vae, guard=Guard())
    before = trained(vae)
    with pytest.raises(NonFiniteError, match="Step 0 gave"):
        vae.train_on_batch(with_a_bad_example(images, row=2)[:4])
    for one, other in zip(before, trained(vae), strict=True):
        np.testing.assert_array_equal(one, other)
    vae.train_on_batch(images[:4])
    assert any(
        not np.array_equal(one, other) for one, other in zip(before, trained(vae), strict=True)
    )


def test_a_guard_that_sees_nothing_changes_nothing(make_vae, images):
    plain, guarded = compiled(make_vae), compiled(make_vae, guard=Guard(skip_norm=1e9))
    assert fit(plain, images).history == fit(guarded, images).history
    for one, other in zip(plain.get_weights(), guarded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_overflow_of_scaled_gradients_is_left_to_the_loss_scale(make_vae, images):
    keras.utils.set_random_seed(0)
    vae = make_vae(dtype="mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=2.0**60)
    vae.compile(optimizer, guard=Guard(skip_norm=100.0))
    fit(vae, images)
    assert float(optimizer.dynamic_scale) < 2.0**60
    assert vae.guard.num_skipped == 0


@pytest.mark.parametrize("clipping", [{}, {"clipvalue": 0.01}], ids=["plain", "clipped"])
def test_overflow_on_any_replica_is_left_out_on_all_and_lowers_the_loss_scale(
    make_vae, images, clipping
):
    keras.utils.set_random_seed(0)
    with mirrored().scope():
        vae = make_vae(dtype="mixed_float16")
        inner = keras.optimizers.SGD(0.01, **clipping)
        optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**60)
        vae.compile(optimizer)
    before = trained(vae)
    on_the_second = np.repeat([0.0, 1.0], 4)
    vae.fit(images[:8], sample_weight=on_the_second, batch_size=8, shuffle=False, verbose=0)
    assert keras.ops.convert_to_numpy(optimizer.dynamic_scale) < 2.0**60
    for one, other in zip(before, trained(vae), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_norm_is_that_of_the_loss_without_its_factor(make_noiseless_vae, images):
    optimizer = keras.optimizers.SGD(0.01, loss_scale_factor=1024.0)
    vae = compiled(make_noiseless_vae, optimizer=optimizer, guard=Guard(skip_norm=1000.0))
    fit(vae, images[:16])
    assert vae.guard.num_skipped == 0


def test_a_guard_is_saved_with_the_model(make_vae, images, tmp_path):
    vae = compiled(make_vae, guard=Guard(skip_norm=7.0))
    vae.save(tmp_path / "vae.keras")
    copy = keras.saving.load_model(tmp_path / "vae.keras")
    assert copy.guard.skip_norm == 7.0
    fit(copy, images[:4])


@pytest.mark.parametrize("skip_norm", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_skip_norm_is_refused(skip_norm):
    with pytest.raises(ValueError, match="`skip_norm` should be a finite number > 0"):
        Guard(skip_norm)
