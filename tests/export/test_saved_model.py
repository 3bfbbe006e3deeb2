"""SavedModels against the public methods of the model, loaded as a server loads them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE, ConvVAE
from keras_vae.distributions import kl_divergence
from keras_vae.export import ExportError, find_exports, saved_model, to_saved_model, verify
from keras_vae.export.signatures import signatures
from tests.strategies import mirrored

# Each of these is computed by the same kernels as in the model: differences are a last bit or two.
EXACT = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture
def x(model):
    """Data that the likelihood allows."""
    return model.decode(model.prior.distribution().sample(5, seed=(1, 2))).sample(seed=(3, 4))


@pytest.fixture
def latents(model):
    return model.prior.distribution().sample(5, seed=(5, 6))


@pytest.fixture
def export(tmp_path):
    """Returns a function that exports a part and loads its signatures."""

    def export(model, part):
        export.path = to_saved_model(model, tmp_path / part, part)
        export.loaded = tf.saved_model.load(export.path)  # keeps the functions' variables alive
        return export.loaded.signatures

    return export


def assert_close(received, expected):
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], **EXACT)


def describe(model, x):
    posterior = model.encode(x)
    kl = kl_divergence(posterior, model.prior.distribution(), None)
    return {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}


def shapes(signatures):
    return {
        name: {key: tuple(spec.shape) for key, spec in signature.structured_outputs.items()}
        for name, signature in signatures.items()
    }


def documented_shapes(model):
    image, z = (None, *model.event_shape), (None, model.latent_dim)
    has_scale = "Normal" in type(model.likelihood).__name__
    return {
        "serving_default": {"image": image},
        "reconstruct": {"image": image},
        "encode": {"loc": z, "scale": z, "kl": (None,)},
        "decode": {"image": image, "scale": image} if has_scale else {"image": image},
        "sample": {"image": image},
        "score": {"elbo": (None,), "reconstruction": (None,), "kl": (None,)},
    }


def test_decoder_decodes_and_samples_as_the_model_does(model, latents, export):
    signatures = export(model, "decoder")
    assert set(signatures) == {"serving_default", "decode", "sample"}
    likelihood = model.decode(latents)
    expected = {"image": likelihood.mean()}
    if "Normal" in type(model.likelihood).__name__:
        expected["scale"] = likelihood.stddev()
    assert_close(signatures["decode"](z=latents), expected)
    assert_close(signatures["serving_default"](z=latents), expected)
    sampled = signatures["sample"](num_samples=tf.constant(4), seed=tf.constant([11, 0]))
    assert_close(sampled, {"image": model.sample(4, seed=11)})


def test_encoder_encodes_as_the_model_does(model, x, export):
    signatures = export(model, "encoder")
    assert set(signatures) == {"serving_default", "encode"}
    assert_close(signatures["encode"](image=x), describe(model, x))
    assert_close(signatures["serving_default"](image=x), describe(model, x))


def test_vae_offers_what_its_parts_do_and_reconstructs_and_scores(model, x, latents, export):
    signatures = export(model, "vae")
    assert shapes(signatures) == documented_shapes(model)
    assert_close(signatures["reconstruct"](image=x), {"image": model.reconstruct(x)})
    assert_close(signatures["serving_default"](image=x), {"image": model.reconstruct(x)})
    assert_close(signatures["encode"](image=x), describe(model, x))
    np.testing.assert_allclose(
        signatures["decode"](z=latents)["image"], model.decode(latents).mean(), **EXACT
    )
    score = signatures["score"](image=x)
    reconstruction = -model.decode(model.encode(x).mean()).log_prob(x)
    np.testing.assert_allclose(score["reconstruction"], reconstruction, **EXACT)
    np.testing.assert_allclose(score["kl"], describe(model, x)["kl"], **EXACT)
    np.testing.assert_allclose(score["elbo"], -(score["reconstruction"] + score["kl"]), **EXACT)


def test_the_same_seed_gives_the_same_images_and_another_one_others(dense, export):
    sample = export(dense, "decoder")["sample"]

    def images(seed):
        return sample(num_samples=tf.constant(3), seed=tf.constant(seed))["image"].numpy()

    np.testing.assert_array_equal(images([7, 0]), images([7, 0]))
    assert np.abs(images([7, 0]) - images([8, 0])).max() > 1e-3
    assert np.abs(images([7, 0]) - images([7, 1])).max() > 1e-3


@pytest.mark.parametrize(
    ("part", "name", "output"), [("decoder", "decode", "image"), ("vae", "score", "elbo")]
)
def test_a_process_with_tensorflow_alone_takes_gradients(tmp_path, run_python, part, name, output):
    # Of SiLU and of the Bernoulli's log-density, whose gradients TensorFlow does not know.
    keras.utils.set_random_seed(0)
    vae = ConvVAE((8, 8, 1), 3, filters=(8, 8), hidden_units=8, activation="silu")
    path = to_saved_model(vae, tmp_path / "served", part, force=True)
    (signature,) = [offered for offered in signatures(vae, part) if offered.name == name]
    (argument,) = signature.inputs
    value = np.random.default_rng(0).uniform(size=(2, *argument.shape[1:])).astype(np.float32)
    np.save(tmp_path / "value.npy", value)
    code = f"""
import numpy as np
import tensorflow as tf
value = tf.constant(np.load({str(tmp_path / "value.npy")!r}))
module = tf.saved_model.load({str(path)!r})
with tf.GradientTape() as tape:
    tape.watch(value)
    outputs = module.signatures[{name!r}]({argument.name}=value)
np.save({str(tmp_path / "slope.npy")!r}, tape.gradient(outputs[{output!r}], value))
"""
    run_python(code)
    value = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        outputs = signature.function(value)
    expected = tape.gradient(outputs[output], value)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(np.load(tmp_path / "slope.npy"), expected, rtol=1e-4, atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class OwnGradient(keras.layers.Layer):
    """The identity, with a gradient that no server runs, or that cannot even be written."""

    def __init__(self, can_be_written):
        super().__init__()
        self.can_be_written = can_be_written

    def call(self, inputs):
        @tf.custom_gradient
        def same(value):
            def gradient(upstream):
                if not self.can_be_written:
                    raise ValueError("no gradient today")
                return tf.numpy_function(lambda array: 2.0 * array, [upstream], tf.float32)

            return tf.identity(value), gradient

        return same(inputs)


@pytest.mark.parametrize("can_be_written", [True, False])
def test_a_gradient_that_no_server_runs_does_not_keep_an_export_from_one(
    dense, export, caplog, can_be_written
):
    inputs = keras.Input((dense.latent_dim,))
    decoder = keras.Model(inputs, dense.decoder(OwnGradient(can_be_written)(inputs)))
    model = VAE(dense.encoder, decoder, prior=dense.prior, posterior=dense.posterior)
    model.step.assign(1)
    z = model.prior.distribution().sample(5, seed=(5, 6))
    assert_close(export(model, "decoder")["decode"](z=z), {"image": model.decode(z).mean()})
    assert ("will not be differentiable" in caplog.text) == (not can_be_written)


def test_only_the_weights_of_the_part_are_written(build, export):
    model = build("dense")
    model.compile("adam")
    model.fit(np.zeros((4, 9, 7, 1)), verbose=0)
    export(model, "decoder")
    written = tf.train.list_variables(str(export.path / "variables" / "variables"))
    sizes = sorted(np.prod(shape) for name, shape in written if name.startswith("weights/"))
    assert sizes == sorted(weight.size for weight in model.decoder.get_weights())
    # Beside them only what TensorFlow adds: the graph of what belongs to what.
    assert len(written) == len(sizes) + 1


def test_exports_of_a_distributed_model_hold_the_trained_weights(build, export):
    with mirrored().scope():
        model = build("dense")
        model.compile(keras.optimizers.SGD(0.1))
    x = np.ones((8, 9, 7, 1), np.float32)
    untrained = model.reconstruct(x)
    model.fit(x, verbose=0)
    reconstructed = export(model, "vae")["reconstruct"](image=tf.constant(x))
    assert_close(reconstructed, {"image": model.reconstruct(x)})
    assert np.abs(reconstructed["image"] - untrained).max() > 1e-3


def test_mixed_precision_takes_and_gives_float32(export):
    model = ConvVAE((9, 7, 1), 3, filters=(4,), hidden_units=8, dtype="mixed_bfloat16")
    model.step.assign(1)
    decode = export(model, "decoder")["decode"]
    assert {spec.dtype for spec in decode.inputs[:1] + decode.outputs} == {tf.float32}
    z = model.prior.distribution().sample(5, seed=(5, 6))
    assert_close(decode(z=z), {"image": model.decode(z).mean()})


FRESH = """
import sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
inputs = np.load(sys.argv[2])
decoded = loaded.signatures["decode"](z=tf.constant(inputs["z"]))["image"]
seed = tf.constant([11, 0])
sampled = loaded.signatures["sample"](num_samples=tf.constant(4), seed=seed)["image"]
np.savez(sys.argv[3], decoded=decoded, sampled=sampled)
print({"keras_vae", "tensorflow_probability"} & set(sys.modules) or "TensorFlow alone")
"""


def test_a_process_with_tensorflow_alone_decodes_and_samples(dense, tmp_path, run_python):
    z = dense.prior.distribution().sample(5, seed=(5, 6))
    np.savez(tmp_path / "inputs.npz", z=z)
    path = to_saved_model(dense, tmp_path / "served")
    files = tmp_path / "inputs.npz", tmp_path / "outputs.npz"
    assert run_python(FRESH, path, *files).strip() == "TensorFlow alone"
    outputs = np.load(files[1])
    np.testing.assert_allclose(outputs["decoded"], dense.decode(z).mean(), **EXACT)
    np.testing.assert_allclose(outputs["sampled"], dense.sample(4, seed=11), **EXACT)


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_versions_count_up_and_leave_the_older_ones_alone(dense, tmp_path):
    base = tmp_path / "served"
    assert to_saved_model(dense, base) == base / "1"
    first = contents(base)
    assert to_saved_model(dense, base, version=10) == base / "10"
    (base / "notes").mkdir()
    assert to_saved_model(dense, base) == base / "11"
    with pytest.raises(FileExistsError, match="10"):
        to_saved_model(dense, base, version=10)
    assert first.items() <= contents(base).items()
    assert {path.name for path in base.iterdir()} == {"1", "10", "11", "notes"}


def test_of_two_exports_at_once_the_slower_one_takes_the_next_number(dense, tmp_path, monkeypatch):
    write_warm_up, others = saved_model.write_warm_up, iter([1, 2])

    def meanwhile(*arguments):
        write_warm_up(*arguments)
        if (other := next(others, None)) is not None:
            (tmp_path / "served" / str(other) / "variables").mkdir(parents=True)

    monkeypatch.setattr(saved_model, "write_warm_up", meanwhile)
    assert to_saved_model(dense, tmp_path / "served").name == "3"
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["1", "2", "3"]
    others = iter([7])
    with pytest.raises(FileExistsError, match="7"):
        to_saved_model(dense, tmp_path / "served", version=7)


@pytest.mark.parametrize(("part", "warned"), [("vae", True), ("decoder", False)])
def test_images_of_another_dtype_under_one_name_are_warned_of(
    dense, tmp_path, caplog, part, warned
):
    to_saved_model(dense, tmp_path, part, uint8_images=True)
    assert "images" not in caplog.text
    to_saved_model(dense, tmp_path, part)
    said = f"Version 1 in {tmp_path} takes images as uint8, and the new one as float32"
    assert (said in caplog.text) == warned


@pytest.mark.parametrize("version", [-1, 1.0, "1"])
def test_a_version_that_is_no_whole_number_is_refused(dense, tmp_path, version):
    with pytest.raises(ValueError, match="version"):
        to_saved_model(dense, tmp_path / "served", version=version)


def test_an_unknown_part_is_answered_with_the_parts(dense, tmp_path):
    with pytest.raises(ValueError, match="'decoder', 'encoder', 'vae'.*'prior'"):
        to_saved_model(dense, tmp_path / "served", "prior")


def test_what_is_no_vae_is_refused(dense, tmp_path):
    with pytest.raises(TypeError, match="Functional"):
        to_saved_model(dense.decoder, tmp_path / "served")


# By 2e-5, the bias of a logit moves a mean by at most 5e-6, which only other machines are allowed.
@pytest.mark.parametrize("amount", [1.0, 2e-5])
def test_a_wrong_weight_is_found_and_nothing_is_left(dense, tmp_path, monkeypatch, amount):
    save = tf.saved_model.save

    def save_wrong(module, *args, **kwargs):
        (weight,) = (weight for weight in module.weights if weight.shape == (63,))
        right = weight.numpy()
        weight.assign(right + amount)
        save(module, *args, **kwargs)
        weight.assign(right)

    monkeypatch.setattr(tf.saved_model, "save", save_wrong)
    with pytest.raises(ExportError, match="image differs .* by up to"):
        to_saved_model(dense, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_version_and_nothing_else(dense, tmp_path, monkeypatch):
    to_saved_model(dense, tmp_path / "served")
    before = contents(tmp_path)

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "part-0; No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        to_saved_model(dense, tmp_path / "served")
    assert contents(tmp_path) == before
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["1"]


def test_a_file_in_the_place_of_the_folder_is_named(dense, tmp_path):
    (tmp_path / "served").write_text("mine")
    with pytest.raises(NotADirectoryError, match="served"):
        to_saved_model(dense, tmp_path / "served")
    assert (tmp_path / "served").read_text() == "mine"


EXPORTING = """
import sys
from keras_vae import DenseVAE
from keras_vae.export import to_saved_model

vae = DenseVAE((9, 7, 1), 3, hidden_units=(2000,))
vae.step.assign(1)
while True:
    to_saved_model(vae, sys.argv[1])
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_whole_versions_only(tmp_path):
    base = tmp_path / "served"

    def versions():
        return sorted(path.name for path in base.glob("[0-9]*"))

    for delay in (0.0, 0.05, 0.4):  # after a folder was begun: in the graph, weights, proof
        before = set(base.glob(".*.tmp"))
        process = subprocess.Popen([sys.executable, "-c", EXPORTING, str(base)])
        try:
            # The second version of a process: what TensorFlow does once is behind it.
            expected = len(versions()) + 1
            while len(versions()) < expected or set(base.glob(".*.tmp")) <= before:
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert list(base.glob(".*.tmp")), "all were killed too late, with nothing in the middle"
    assert len(versions()) >= 3
    for version in versions():
        assert verify(base / version).largest <= 1e-6
    assert [path.name for path in find_exports(base)] == versions()
