"""Exports that differ from the model, or cannot be served, do not pass."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE
from keras_vae.distributions import FixedScaleNormal
from keras_vae.export import ExportError, check_onnx, check_saved_model, to_onnx, to_saved_model
from keras_vae.networks import dense_encoder


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """Every part of the dense model in both formats, for tests that leave them as they are."""
    folder = tmp_path_factory.mktemp("exported")
    model = models["dense"]
    for part in ("decoder", "encoder", "vae"):
        to_saved_model(model, folder / part, part)
        to_onnx(model, folder / f"{part}.onnx", part)
    return folder


CHECKS = {
    "saved_model": (check_saved_model, lambda folder, part: folder / part / "1"),
    "onnx": (check_onnx, lambda folder, part: folder / f"{part}.onnx"),
}


@pytest.fixture(params=CHECKS)
def check(request, exported):
    """Checks the export of a part in each format, against any model."""
    function, path = CHECKS[request.param]
    return lambda model, part, **options: function(model, path(exported, part), part, **options)


def move(model, network, amount):
    bias = getattr(model, network).get_layer("params").bias
    bias.assign_add(np.full(bias.shape, amount, np.float32))


def test_parity_names_every_output_and_its_difference(dense, exported):
    parity = check_saved_model(dense, exported / "vae" / "1", "vae")
    assert set(parity.differences) == {
        "serving_default.image",
        "reconstruct.image",
        "encode.loc",
        "encode.scale",
        "encode.kl",
        "decode.image",
        "sample.image",
        "score.elbo",
        "score.reconstruction",
        "score.kl",
    }
    assert parity.largest == max(parity.differences.values()) <= 1e-6
    assert set(check_onnx(dense, exported / "vae.onnx", "vae").differences) == {
        "reconstruct.image_out"
    }


def test_a_model_whose_weights_have_moved_is_told_apart(dense, build, check):
    # The mean of a Bernoulli moves by at most a quarter of its logit: by 2.5e-5 here, which is just
    # above the 1e-5 that onnxruntime is allowed.
    for network, amount, largest in (("decoder", 1e-4, "2.[0-9]*e-05"), ("encoder", 1e-3, "0.001")):
        model = build("dense")
        model.set_weights(dense.get_weights())
        check(model, network)
        move(model, network, amount)
        with pytest.raises(ExportError, match=f"differs from the model's by up to {largest}"):
            check(model, network)


def test_examples_are_what_is_compared_on(tmp_path):
    # Two models that differ only where a value is above one half.
    def build_encoder(slope):
        inputs = keras.Input((3,))
        kink = keras.layers.ReLU()(keras.layers.Rescaling(slope, -0.5 * slope)(inputs))
        outputs = keras.layers.Concatenate()([kink, inputs])
        return keras.Model(inputs, outputs)

    inputs = keras.Input((3,))
    decoder = keras.Model(inputs, keras.layers.Rescaling(0.0)(inputs))
    likelihood = FixedScaleNormal(1e-3)
    flat, kinked = (
        VAE(build_encoder(slope), decoder, likelihood=likelihood) for slope in (0.0, 1.0)
    )
    path = to_saved_model(flat, tmp_path / "encoder", "encoder")
    low, high = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    check_saved_model(kinked, path, "encoder", examples=low)
    with pytest.raises(ExportError, match="differs"):
        check_saved_model(kinked, path, "encoder", examples=high)


def test_examples_are_checked_as_data_is(dense, check):
    with pytest.raises(ValueError, match="shape"):
        check(dense, "encoder", examples=np.zeros((2, 5, 5, 1), np.float32))


def test_another_part_is_told_apart(dense, exported):
    for found, asked in (("decoder", "encoder"), ("encoder", "decoder"), ("decoder", "vae")):
        with pytest.raises(ExportError, match="inputs and outputs"):
            check_saved_model(dense, exported / found / "1", asked)
        with pytest.raises(ExportError, match="inputs and outputs"):
            check_onnx(dense, exported / f"{found}.onnx", asked)


def test_a_missing_or_broken_file_is_an_export_error(dense, exported, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(exported / "decoder" / "1", broken)
    (data,) = (broken / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ExportError, match="cannot be loaded"):
        check_saved_model(dense, broken, "decoder")
    with pytest.raises(ExportError, match="cannot be loaded"):
        check_saved_model(dense, tmp_path / "missing", "decoder")
    (tmp_path / "broken.onnx").write_bytes((exported / "decoder.onnx").read_bytes()[:1000])
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_onnx(dense, tmp_path / "broken.onnx", "decoder")
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_onnx(dense, tmp_path / "missing.onnx", "decoder")


@pytest.mark.parametrize("part", ["decoder", "encoder"])
@pytest.mark.parametrize("network", ["decoder", "encoder"])
@pytest.mark.parametrize("to", [to_saved_model, to_onnx])
def test_a_model_that_gives_nan_is_refused_and_nothing_is_left(build, tmp_path, to, network, part):
    model = build("dense")
    move(model, network, np.nan)
    with pytest.raises(ExportError, match="The model itself gives NaN"):
        to(model, tmp_path / "export", part)
    assert list(tmp_path.iterdir()) == []


def test_python_inside_of_the_graph_is_refused(tmp_path):
    def double(z):
        return tf.ensure_shape(
            tf.py_function(lambda values: 2 * values, [z], tf.float32), (None, 3)
        )

    inputs = keras.Input((3,))
    decoder = keras.Model(inputs, keras.layers.Lambda(double, output_shape=(3,))(inputs))
    model = VAE(dense_encoder((3,), 3, hidden_units=(4,)), decoder, likelihood=FixedScaleNormal())
    with pytest.raises(ExportError, match="EagerPyFunc"):
        to_saved_model(model, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []
