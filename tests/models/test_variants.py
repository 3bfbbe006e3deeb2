"""The one check that every variant of `keras_vae.models` passes."""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE, export, models
from keras_vae.distributions import FullCovarianceNormal, PerValueScaleNormal, StandardNormal
from keras_vae.networks import dense_decoder, dense_encoder
from keras_vae.objectives import ELBO
from keras_vae.schedules import Linear

VARIANTS = [
    kind for _, kind in inspect.getmembers(models, inspect.isclass) if issubclass(kind, VAE)
]

# A value for each argument that a variant may have, and none of them its default. A new argument
# needs a line here.
ARGUMENTS = {
    "event_shape": lambda: (8, 8, 1),
    "latent_dim": lambda: 2,
    "filters": lambda: (4, 5),
    "activation": lambda: "silu",
    "gated": lambda: True,
    "beta": lambda: Linear(0.5, 2.0, num_steps=10),
    "encoder": lambda: dense_encoder(
        (8, 8, 1), 2, hidden_units=(8,), posterior=FullCovarianceNormal()
    ),
    "decoder": lambda: dense_decoder(
        2, (8, 8, 1), hidden_units=(8,), likelihood=PerValueScaleNormal()
    ),
    "prior": lambda: StandardNormal(2, name="my_prior"),
    "posterior": lambda: FullCovarianceNormal(max_log_scale=3.0),
    "likelihood": lambda: PerValueScaleNormal(0.2),
    "objective": lambda: ELBO(Linear(0.5, 2.0, num_steps=10), free_bits=0.1, num_samples=2),
    "name": lambda: "my_vae",
    "dtype": lambda: "mixed_bfloat16",
}


def parameters_of(kind):
    return dict(list(inspect.signature(kind.__init__).parameters.items())[1:])


def arguments_of(kind):
    """Returns a value for every argument."""
    arguments = {}
    for name, parameter in parameters_of(kind).items():
        if name == "hidden_units":
            arguments[name] = (8, 6) if isinstance(parameter.default, tuple) else 8
        else:
            arguments[name] = ARGUMENTS[name]()
    return arguments


def train(kind, images, dtype="float32", **compile_arguments):
    keras.utils.set_random_seed(0)
    vae = kind(**arguments_of(kind) | {"dtype": dtype})
    vae.compile(keras.optimizers.Adam(0.01), **compile_arguments)
    before = vae.get_weights()
    history = vae.fit(images, epochs=10, batch_size=8, verbose=0).history
    return vae, before, history["loss"]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind, images):
    return train(kind, images)


def test_every_variant_is_public():
    import keras_vae

    assert VARIANTS
    for kind in VARIANTS:
        assert getattr(keras_vae, kind.__name__) is kind
        assert keras.saving.get_registered_name(kind) == f"keras_vae>{kind.__name__}"


@pytest.mark.parametrize("kind", [VAE, *VARIANTS])
def test_config_is_exactly_the_constructors_arguments(kind):
    assert set(kind(**arguments_of(kind)).get_config()) == set(parameters_of(kind))


@pytest.mark.parametrize("kind", [VAE, *VARIANTS])
def test_config_round_trip_keeps_every_argument(kind):
    arguments = arguments_of(kind)
    for name, parameter in parameters_of(kind).items():
        assert arguments[name] != parameter.default, f"the value of {name} is its default"
    text = json.dumps(keras.saving.serialize_keras_object(kind(**arguments)))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is kind
    again = json.dumps(keras.saving.serialize_keras_object(copy))
    assert json.loads(again) == json.loads(text)


def test_loss_falls(trained):
    _, _, losses = trained
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0] - 1.0


def test_every_weight_gets_a_finite_gradient(trained):
    vae, before, _ = trained
    for weight, old in zip(vae.weights, before, strict=True):
        assert np.all(np.isfinite(weight.numpy())), weight.path
        assert np.any(weight.numpy() != old), weight.path


def test_same_seed_gives_the_same_weights(kind, images, trained):
    again, _, _ = train(kind, images)
    for one, other in zip(trained[0].get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_loss_falls_under_xla_too(kind, images, trained):
    _, _, losses = train(kind, images, jit_compile=True)
    # From the same seed XLA draws other noise, so only the start is alike.
    assert losses[0] == pytest.approx(trained[2][0], rel=0.02)
    assert losses[-1] < losses[0] - 1.0


def test_mixed_precision_gives_nearly_the_same_losses(kind, images, trained):
    mixed, _, losses = train(kind, images, dtype="mixed_bfloat16")
    assert {weight.dtype for weight in mixed.trainable_weights} == {"float32"}
    # bfloat16 keeps 8 bits: half a percent for each layer.
    np.testing.assert_allclose(losses, trained[2], rtol=0.05)


def test_known_and_unknown_batch_sizes_give_the_same(trained, images):
    vae, _, _ = trained
    expected = vae(images)
    assert expected.shape == (32, 8, 8, 1)
    for batch_size in (None, 32):
        traced = tf.function(vae, input_signature=[tf.TensorSpec((batch_size, 8, 8, 1))])
        np.testing.assert_allclose(traced(images), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(vae.predict(images, batch_size=5, verbose=0), expected, rtol=1e-4)


def test_export_is_equal_to_the_model(trained, tmp_path):
    vae, _, _ = trained
    path = export.to_saved_model(vae, tmp_path, part="vae")  # compares the two by itself
    assert (path / "saved_model.pb").exists()


@pytest.fixture(scope="module")
def saved(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    np.save(folder / "images.npy", images)
    for kind in (VAE, *VARIANTS):
        vae = kind(**arguments_of(kind))
        vae.compile(keras.optimizers.Adam(0.02))
        vae.save(folder / f"{kind.__name__}.keras")
        np.save(folder / f"{kind.__name__}.npy", vae.predict(images, verbose=0))
    return folder


@pytest.mark.parametrize("order", ["keras_vae, keras", "keras, keras_vae"])
def test_reloads_in_a_fresh_process(order, saved, run_python):
    # One process for all of them, since TensorFlow takes seconds to load.
    lines = run_python(
        f"""
import {order}
import numpy as np
from pathlib import Path
folder = Path({str(saved)!r})
images = np.load(folder / "images.npy")
for path in sorted(folder.glob("*.keras")):
    vae = keras.saving.load_model(path)
    difference = np.abs(vae.predict(images, verbose=0) - np.load(path.with_suffix(".npy"))).max()
    print(type(vae).__name__, np.float32(vae.optimizer.learning_rate), difference < 1e-5)
"""
    ).splitlines()
    names = sorted(kind.__name__ for kind in (VAE, *VARIANTS))
    assert [line.split() for line in lines] == [[name, "0.02", "True"] for name in names]


def test_a_dense_decoder_mirrors_its_encoder():
    vae = models.DenseVAE((5,), 2, hidden_units=(8, 6))
    encoder, decoder = (
        [weight.shape for weight in network.weights if len(weight.shape) == 2]
        for network in (vae.encoder, vae.decoder)
    )
    assert encoder == [(5, 8), (8, 6), (6, 4)]
    assert decoder == [(2, 6), (6, 8), (8, 5)]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_dropout_is_active_in_fit_and_nowhere_else(make_noiseless_vae, images, part):
    vae = make_noiseless_vae()
    parts = {"encoder": vae.encoder, "decoder": vae.decoder}
    inputs = keras.Input(parts[part].input_shape[1:])
    parts[part] = keras.Sequential([inputs, parts[part], keras.layers.Dropout(0.5)])
    dropping = VAE(**parts, posterior=vae.posterior)
    for model in (vae, dropping):
        model.compile(keras.optimizers.SGD(0.0))
    expected = vae.evaluate(images, return_dict=True, verbose=0)
    options = {"epochs": 2, "batch_size": 32, "verbose": 0}
    losses = dropping.fit(images, validation_data=images, **options).history
    # Half of the parameters are zero, and the others are doubled, others in each epoch.
    assert min(abs(np.diff([expected["loss"], *losses["loss"]]))) > 0.01
    assert losses["val_loss"] == pytest.approx(2 * [expected["loss"]], rel=1e-6)
    assert dropping.evaluate(images, return_dict=True, verbose=0) == pytest.approx(expected)
    for score in (VAE.elbo, VAE.predict_on_batch, VAE.reconstruct):
        np.testing.assert_allclose(score(dropping, images), score(vae, images), rtol=1e-5)
    for training in (False, True):
        called = dropping(images, training=training)
        assert np.allclose(called, vae(images), rtol=1e-5) == (not training)
