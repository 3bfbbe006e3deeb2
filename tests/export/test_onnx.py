"""ONNX files against the public methods of the model, run by onnxruntime."""

import errno
import hashlib
import importlib.metadata
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE, ConvVAE
from keras_vae.distributions import FixedScaleNormal, kl_divergence
from keras_vae.export import ExportError, Float16, Int8, to_onnx, verify
from keras_vae.networks import dense_encoder

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Other kernels, which add in another order: of float32's 7 digits, they may lose one or two.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def x(model):
    """Data that the likelihood allows."""
    return model.decode(model.prior.distribution().sample(5, seed=(1, 2))).sample(seed=(3, 4))


@pytest.fixture
def run(tmp_path):
    """Returns a function that exports a part and runs it, for several batches."""

    def run(model, part, **inputs):
        ((name, values),) = inputs.items()
        session = onnxruntime.InferenceSession(to_onnx(model, tmp_path / f"{part}.onnx", part))
        names = [output.name for output in session.get_outputs()]
        pieces = [
            session.run(names, {name: piece}) for piece in np.split(np.asarray(values), [1, 3])
        ]
        return {name: np.concatenate(piece) for name, *piece in zip(names, *pieces, strict=True)}

    return run


def assert_close(received, expected):
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], **CLOSE)


def test_decoder_decodes_as_the_model_does(model, run):
    z = model.prior.distribution().sample(5, seed=(5, 6))
    likelihood = model.decode(z)
    expected = {"image": likelihood.mean()}
    if "Normal" in type(model.likelihood).__name__:
        expected["scale"] = likelihood.stddev()
    assert_close(run(model, "decoder", z=z), expected)


def test_encoder_encodes_as_the_model_does(model, x, run):
    posterior = model.encode(x)
    kl = kl_divergence(posterior, model.prior.distribution(), None)
    expected = {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}
    assert_close(run(model, "encoder", image=x), expected)


def test_vae_reconstructs_as_the_model_does(model, x, run):
    assert_close(run(model, "vae", image=x), {"image_out": model.reconstruct(x)})


def test_mixed_precision_is_written_in_float32(run):
    sizes = {"filters": (4,), "hidden_units": 8}
    mixed = ConvVAE((9, 7, 1), 3, **sizes, dtype="mixed_bfloat16")
    full = ConvVAE((9, 7, 1), 3, **sizes)
    mixed.step.assign(1)
    full.set_weights(mixed.get_weights())
    z = full.prior.distribution().sample(5, seed=(5, 6))
    image = run(mixed, "decoder", z=z)["image"]
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, full.decode(z).mean(), **CLOSE)
    # The model itself goes on in its own precision.
    assert mixed.decoder.layers[1].compute_dtype == "bfloat16"
    assert np.abs(image - mixed.decode(z).mean()).max() > 1e-4


@pytest.mark.parametrize(
    ("part", "input_range"), [("decoder", "-inf to inf"), ("encoder", "0 to 1")]
)
def test_the_file_says_what_it_is(dense, tmp_path, part, input_range):
    metadata = {"name": "mine", "licence": "MIT"}
    proto = onnx.load(to_onnx(dense, tmp_path / "part.onnx", part, metadata=metadata))
    said = {prop.key: prop.value for prop in proto.metadata_props}
    assert said.pop("proof")
    digest = hashlib.sha256()
    for weight in getattr(dense, part).get_weights():
        digest.update(weight.tobytes())
    version = importlib.metadata.version("keras-vae")
    assert said == {
        "name": "mine",
        "class": "DenseVAE",
        "part": part,
        "signature": {"decoder": "decode", "encoder": "encode"}[part],
        "event_shape": "[9, 7, 1]",
        "latent_dim": "3",
        "likelihood": "Bernoulli",
        "input_range": input_range,
        "image_dtype": "float32",
        "weights_sha256": digest.hexdigest(),
        "keras_vae_version": version,
        "licence": "MIT",
    }
    assert (proto.producer_name, proto.producer_version) == ("keras-vae", version)
    assert [(entry.domain, entry.version) for entry in proto.opset_import][:1] == [("", 18)]
    for value in (*proto.graph.input, *proto.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_metadata_cannot_replace_what_the_file_says_by_itself(dense, tmp_path):
    with pytest.raises(ValueError, match="Received: 'weights_sha256'"):
        to_onnx(dense, tmp_path / "decoder.onnx", metadata={"weights_sha256": "0"})


# float16 has 3 digits. int8 has 256 steps over the range of each layer, and there are three layers.
@pytest.mark.parametrize(("quantize", "tolerance"), [(Float16(), 2e-3), (Int8(), 0.05)])
@pytest.mark.parametrize(
    ("kind", "part"), [("conv", "decoder"), ("conv", "encoder"), ("full_covariance", "decoder")]
)
def test_quantized_files_are_near_the_model(models, tmp_path, kind, part, quantize, tolerance):
    model = models[kind]
    x = model.decode(model.prior.distribution().sample(100, seed=(1, 2))).sample(seed=(3, 4))
    path = to_onnx(model, tmp_path / "part.onnx", part, quantize=quantize, examples=x.numpy())
    assert 0 < verify(path, model, examples=x.numpy(), tolerance=tolerance).largest
    with pytest.raises(ExportError, match="differs"):
        verify(path, model, tolerance=1e-6)


def test_quantized_files_are_smaller(make_vae, tmp_path):
    vae = make_vae(hidden_units=(512,))
    vae.step.assign(1)
    full, half, quarter = (
        to_onnx(vae, tmp_path / f"{quantize}.onnx", quantize=quantize)
        for quantize in (None, Float16(), Int8())
    )
    sizes = [path.stat().st_size - len(proof_of(path)) for path in (full, half, quarter)]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


def proof_of(path):
    return next(prop.value for prop in onnx.load(path).metadata_props if prop.key == "proof")


def test_lost_nats_are_those_of_the_images_in_the_file_and_are_kept_in_it(models, tmp_path):
    vae = models["dense"]
    z = vae.prior.distribution().sample(40, seed=(5, 6))
    x = vae.decode(z).sample(seed=(3, 4)).numpy()
    path = to_onnx(vae, tmp_path / "decoder.onnx", quantize=Int8(), examples=x)
    lost = verify(path, vae, examples=x).lost_nats
    loc = vae.encode(x).mean().numpy()
    (image,) = onnxruntime.InferenceSession(path).run(["image"], {"z": loc})
    probs = np.float64(image)
    log_prob = (x * np.log(probs) + (1 - x) * np.log1p(-probs)).sum(axis=(1, 2, 3))
    # Sums of 63 float32s of up to 1, whose difference is taken.
    assert lost == pytest.approx(np.mean(vae.decode(loc).log_prob(x) - log_prob), abs=1e-4)
    assert verify(path).lost_nats == pytest.approx(lost, abs=1e-6)


def test_more_than_a_protobuf_holds_is_refused_with_a_way_out(dense, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_vae.export.onnx"], "_MAX_BYTES", 1000)
    with pytest.raises(ExportError, match=r"2 GiB; larger models need external data"):
        to_onnx(dense, tmp_path / "decoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_expm1_keeps_its_digits_around_zero(tmp_path):
    # The mean of a continuous Bernoulli is the one thing that needs it: logits from 1e-4 to 30.
    logits = np.geomspace(1e-4, 30.0, 40, dtype=np.float32)
    logits = np.concatenate([-logits[::-1], logits])[:, np.newaxis]
    function = tf.function(tf.math.expm1, input_signature=[tf.TensorSpec((None, 1), name="x")])
    handlers = sys.modules["keras_vae.export.onnx"]._HANDLERS
    tf2onnx = pytest.importorskip("tf2onnx")
    proto, _ = tf2onnx.convert.from_function(
        function, function.input_signature, opset=18, custom_op_handlers=handlers
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (received,) = session.run(None, {session.get_inputs()[0].name: logits})
    np.testing.assert_allclose(received, np.expm1(np.float64(logits)), rtol=1e-6)


def test_a_decoder_takes_no_images_of_any_kind(dense, tmp_path):
    path = to_onnx(dense, tmp_path / "decoder.onnx", part="decoder", uint8_images=True)
    about = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert (about["image_dtype"], about["input_range"]) == ("float32", "-inf to inf")


def test_an_existing_file_is_kept_unless_overwrite_is_set(dense, tmp_path):
    path = tmp_path / "decoder.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True.*decoder.onnx"):
        to_onnx(dense, path)
    assert path.read_text() == "mine"
    to_onnx(dense, path, overwrite=True)
    verify(path, dense)


def test_a_folder_is_never_overwritten(dense, tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        to_onnx(dense, tmp_path, overwrite=True)


def test_an_unknown_part_is_answered_with_the_parts(dense, tmp_path):
    with pytest.raises(ValueError, match="'decoder', 'encoder', 'vae'.*'prior'"):
        to_onnx(dense, tmp_path / "prior.onnx", "prior")


def test_what_is_no_vae_is_refused(dense, tmp_path):
    with pytest.raises(TypeError, match="Functional"):
        to_onnx(dense.decoder, tmp_path / "decoder.onnx")


def decoder_that(function):
    """A VAE whose decoder ends in a function."""
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(function, output_shape=(3,))(inputs)
    encoder = dense_encoder((3,), 3, hidden_units=(4,))
    vae = VAE(encoder, keras.Model(inputs, outputs), likelihood=FixedScaleNormal())
    vae.step.assign(1)
    return vae


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda z: z + tf.random.normal(tf.shape(z)), "RandomStandardNormal"),
        (lambda z: z + tf.random.stateless_normal(tf.shape(z), [1, 2]), "StatelessRandomNormalV2"),
        (lambda z: tf.math.lgamma(1.0 + tf.abs(z)), "Lgamma"),
    ],
    ids=["random", "stateless_random", "unknown_operation"],
)
def test_what_cannot_be_converted_leaves_no_file_and_says_why(tmp_path, function, reason):
    with pytest.raises(ExportError, match=reason):
        to_onnx(decoder_that(function), tmp_path / "onnx" / "decoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_weight_is_found_and_the_old_file_stays(dense, tmp_path, monkeypatch):
    path = to_onnx(dense, tmp_path / "decoder.onnx")
    before = path.read_bytes()
    write_bytes = Path.write_bytes

    def write_wrong(path, content):
        proto = onnx.load_from_string(content)
        weights = proto.graph.initializer
        weight = next(value for value in weights if value.data_type == onnx.TensorProto.FLOAT)
        wrong = onnx.numpy_helper.to_array(weight) + 1
        weight.CopyFrom(onnx.numpy_helper.from_array(wrong, weight.name))
        write_bytes(path, proto.SerializeToString())

    monkeypatch.setattr(Path, "write_bytes", write_wrong)
    with pytest.raises(ExportError, match=r"decode\.image differs .* by up to"):
        to_onnx(dense, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(dense, tmp_path, monkeypatch):
    path = to_onnx(dense, tmp_path / "decoder.onnx")
    before = path.read_bytes()

    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        to_onnx(dense, path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("package", ["tf2onnx", "onnx", "onnxruntime"])
def test_a_missing_package_is_answered_with_the_command(dense, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'{package}.*pip install "keras-vae\[export\]" \(.*\)\.$'
    with pytest.raises(ImportError, match=message):
        to_onnx(dense, tmp_path / "decoder.onnx")
    assert list(tmp_path.iterdir()) == []


def test_importing_keras_vae_export_imports_none_of_the_extra(run_python):
    code = (
        "import sys, keras_vae.export; print({'tf2onnx', 'onnx', 'onnxruntime'} & {*sys.modules})"
    )
    assert run_python(code).strip() == "set()"
