import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.optimizers import Adam


def steps(optimizer, *, jit_compile=False, num_steps=5):
    """Returns two variables and the optimizer's own after some steps with the same gradients."""
    rng = np.random.default_rng(0)
    weights = [keras.Variable(rng.normal(size=shape), dtype="float32") for shape in ((3, 4), (4,))]
    optimizer.build(weights)

    @tf.function(jit_compile=jit_compile)
    def step(*gradients):
        optimizer.apply(gradients, weights)

    for _ in range(num_steps):
        step(*(tf.constant(rng.normal(size=v.shape), tf.float32) for v in weights))
    return [keras.ops.convert_to_numpy(variable) for variable in [*weights, *optimizer.variables]]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-4},
        {"amsgrad": True},
        {"clipnorm": 0.1, "weight_decay": 0.01},
        {"use_ema": True, "ema_momentum": 0.5},
        {"gradient_accumulation_steps": 2},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 4)},
    ],
    ids=lambda arguments: "-".join(arguments) or "defaults",
)
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_it_steps_as_stock_adam_does(arguments, jit_compile):
    arguments = {"learning_rate": 0.1} | arguments
    ours = steps(Adam(**arguments), jit_compile=jit_compile)
    stock = steps(keras.optimizers.Adam(**arguments))
    for mine, theirs in zip(ours, stock, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)  # of steps of 0.1


def test_the_update_is_fused():
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = Adam()
    optimizer.build([variable])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
    graph = step.get_concrete_function(tf.TensorSpec(3)).graph
    assert "ResourceApplyAdam" in {operation.type for operation in graph.get_operations()}


def test_gradients_of_rows_take_the_stock_way():
    variable = keras.Variable(np.zeros((3, 2), "float32"))
    optimizer = Adam(0.1)
    rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([3, 2]))
    optimizer.apply([rows], [variable])
    np.testing.assert_allclose(variable, [[0, 0], [-0.1, -0.1], [0, 0]], rtol=1e-5)


def test_a_saved_model_goes_on_with_it(make_vae, images, tmp_path):
    vae = make_vae()
    vae.compile(Adam(0.01))
    vae.fit(images, verbose=0)
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is Adam
    for before, after in zip(vae.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(before, after)
