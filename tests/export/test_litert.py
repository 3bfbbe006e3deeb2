"""LiteRT files against the public methods of the model, run by the LiteRT interpreter."""

import errno
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE, ConvVAE
from keras_vae.distributions import FixedScaleNormal, kl_divergence
from keras_vae.export import ExportError, Float16, Int8, to_litert, verify
from keras_vae.networks import dense_encoder

litert = pytest.importorskip("ai_edge_litert.interpreter")

KINDS = ["dense", "conv", "beta", "series", "full_covariance"]
# Other kernels, which add in another order: of float32's 7 digits, they may lose one or two.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# float16 has 3 digits. int8 has 256 steps over the range of each layer, and there are three layers.
QUANTIZED = [(Float16(), 2e-3), (Int8(), 0.05)]


@pytest.fixture
def run(tmp_path):
    """Returns a function that exports a part and runs it, for several batches."""

    def run(model, part, values, **options):
        interpreter = litert.Interpreter(
            os.fspath(to_litert(model, tmp_path / f"{part}.tflite", part, **options))
        )
        ((name, names),) = interpreter.get_signature_list().items()
        runner = interpreter.get_signature_runner(name)
        pieces = [
            runner(**{names["inputs"][0]: piece}) for piece in np.split(np.asarray(values), [1, 3])
        ]
        return {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}

    return run


def draw_latents(model, size=5):
    return model.prior.distribution().sample(size, seed=(5, 6))


def draw_images(model, size=5):
    """Data that the likelihood allows."""
    return model.decode(draw_latents(model, size)).sample(seed=(3, 4))


def decoded(model, z):
    likelihood = model.decode(z)
    scale = {"scale": likelihood.stddev()} if "Normal" in type(model.likelihood).__name__ else {}
    return {"image": likelihood.mean()} | scale


def encoded(model, x):
    posterior = model.encode(x)
    kl = kl_divergence(posterior, model.prior.distribution(), None)
    return {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}


def assert_close(received, expected, **tolerance):
    assert received.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], **(tolerance or CLOSE))


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_decodes_as_the_model_does(models, run, kind):
    z = draw_latents(models[kind])
    assert_close(run(models[kind], "decoder", z), decoded(models[kind], z))


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_encodes_as_the_model_does(models, run, kind):
    x = draw_images(models[kind])
    assert_close(run(models[kind], "encoder", x), encoded(models[kind], x))


def test_vae_reconstructs_as_the_model_does(models, run):
    x = draw_images(models["conv"])
    assert_close(run(models["conv"], "vae", x), {"image": models["conv"].reconstruct(x)})


@pytest.mark.parametrize(("quantize", "tolerance"), QUANTIZED)
@pytest.mark.parametrize("kind", ["conv", "full_covariance"])
def test_quantized_decoder_is_near_the_model(models, run, kind, quantize, tolerance):
    z = draw_latents(models[kind])
    received = run(models[kind], "decoder", z, quantize=quantize)
    assert_close(received, decoded(models[kind], z), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("quantize", "tolerance"), QUANTIZED)
def test_quantized_encoder_is_near_the_model(models, run, quantize, tolerance):
    x = draw_images(models["conv"])
    received = run(models["conv"], "encoder", x, quantize=quantize, examples=x)
    assert_close(received, encoded(models["conv"], x), rtol=tolerance, atol=tolerance)


def test_quantized_files_are_smaller(make_vae, tmp_path):
    vae = make_vae(hidden_units=(256,))
    vae.step.assign(1)
    full, half, quarter = (
        to_litert(vae, tmp_path / f"{quantize}.tflite", quantize=quantize).stat().st_size
        for quantize in (None, Float16(), Int8())
    )
    # The graph itself takes some kilobytes.
    assert half < 0.6 * full
    assert quarter < 0.4 * full


def test_any_batch_runs_after_a_resize(models, tmp_path):
    path = to_litert(models["conv"], tmp_path / "decoder.tflite")
    interpreter = litert.Interpreter(os.fspath(path))
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert inputs["shape_signature"].tolist() == [-1, 3]
    for size in (1, 7, 64):
        z = draw_latents(models["conv"], size)
        interpreter.resize_tensor_input(inputs["index"], z.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(inputs["index"], z)
        interpreter.invoke()
        received = interpreter.get_tensor(outputs["index"])
        np.testing.assert_allclose(received, models["conv"].decode(z).mean(), **CLOSE)


def test_mixed_precision_is_written_in_float32(run):
    sizes = {"filters": (4,), "hidden_units": 8}
    mixed = ConvVAE((9, 7, 1), 3, **sizes, dtype="mixed_bfloat16")
    full = ConvVAE((9, 7, 1), 3, **sizes)
    mixed.step.assign(1)
    full.set_weights(mixed.get_weights())
    z = draw_latents(full)
    assert_close(run(mixed, "decoder", z), decoded(full, z))
    assert mixed.decoder.layers[1].compute_dtype == "bfloat16"


def test_int8_keeps_dark_pixels_above_zero(build, run):
    vae = build("dense")
    kernel, bias = vae.decoder.layers[-2].get_weights()
    # A mean of 5e-5 is far below a step of 1/256.
    vae.decoder.layers[-2].set_weights([kernel, np.full_like(bias, -10.0)])
    image = run(vae, "decoder", draw_latents(vae), quantize=Int8())["image"]
    assert 1e-6 < image.min() < image.max() < 1e-3


def test_lost_nats_are_those_of_the_images_in_the_file(build, tmp_path):
    vae = build("dense")
    # Steeper, so that rounding costs something.
    vae.decoder.set_weights([3.0 * weight for weight in vae.decoder.get_weights()])
    x = draw_images(vae, 40).numpy()
    path = to_litert(vae, tmp_path / "decoder.tflite", quantize=Int8(), examples=x)
    lost = verify(path, vae, examples=x).lost_nats
    z = vae.encode(x).mean()
    decode = litert.Interpreter(os.fspath(path)).get_signature_runner("decode")
    probs = np.float64(decode(z=z)["image"])
    log_prob = (x * np.log(probs) + (1 - x) * np.log1p(-probs)).sum(axis=(1, 2, 3))
    expected = np.mean(vae.decode(z).log_prob(x) - log_prob)
    assert abs(expected) > 1e-3
    # Sums of 63 float32s of up to 1, whose difference is taken.
    assert lost == pytest.approx(expected, abs=1e-4)


def test_float32_loses_no_nats(models, tmp_path):
    vae = models["beta"]
    parity = verify(to_litert(vae, tmp_path / "decoder.tflite"), vae)
    # Sums of 63 terms in float32.
    assert parity.lost_nats == pytest.approx(0.0, abs=1e-4)
    assert parity.largest <= 1e-5


def test_an_encoder_has_no_lost_nats(dense, tmp_path):
    assert verify(to_litert(dense, tmp_path / "encoder.tflite", "encoder"), dense).lost_nats is None


def test_an_existing_file_is_kept_unless_overwrite_is_set(dense, tmp_path):
    path = tmp_path / "decoder.tflite"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"overwrite=True.*decoder\.tflite"):
        to_litert(dense, path)
    assert path.read_text() == "mine"
    to_litert(dense, path, overwrite=True)
    litert.Interpreter(os.fspath(path)).get_signature_runner("decode")


def test_a_folder_is_never_overwritten(dense, tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        to_litert(dense, tmp_path, overwrite=True)


def test_an_unknown_part_is_answered_with_the_parts(dense, tmp_path):
    with pytest.raises(ValueError, match="'decoder', 'encoder', 'vae'.*'prior'"):
        to_litert(dense, tmp_path / "prior.tflite", "prior")


def test_what_is_no_vae_is_refused(dense, tmp_path):
    with pytest.raises(TypeError, match="Functional"):
        to_litert(dense.decoder, tmp_path / "decoder.tflite")


def test_a_quantization_by_name_is_refused(dense, tmp_path):
    with pytest.raises(TypeError, match="Float16, an Int8 or None. Received: a str"):
        to_litert(dense, tmp_path / "decoder.tflite", quantize="int8")


@pytest.mark.parametrize("quantization", [Float16, Int8])
def test_a_tolerance_of_zero_is_refused(quantization):
    with pytest.raises(ValueError, match=r"> 0\. Received: tolerance=0"):
        quantization(tolerance=0)


def test_a_bound_of_zero_nats_is_refused():
    with pytest.raises(ValueError, match=r"> 0\. Received: max_lost_nats=0"):
        Int8(max_lost_nats=0)


@pytest.mark.parametrize("quantize", [None, Int8()])
def test_a_model_of_nan_leaves_no_file(build, tmp_path, quantize):
    vae = build("dense")
    vae.decoder.set_weights([weight * np.nan for weight in vae.decoder.get_weights()])
    with pytest.raises(ExportError, match="The model itself gives NaN"):
        to_litert(vae, tmp_path / "litert" / "decoder.tflite", quantize=quantize)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda z: z + tf.random.normal(tf.shape(z)), "RandomStandardNormal"),
        (lambda z: z + tf.random.stateless_normal(tf.shape(z), [1, 2]), "StatelessRandomNormalV2"),
        (tf.math.bessel_i0e, "no operation BesselI0e"),
    ],
    ids=["random", "stateless_random", "unknown_operation"],
)
def test_what_cannot_be_converted_leaves_no_file_and_says_why(tmp_path, function, reason):
    inputs = keras.Input((3,))
    decoder = keras.Model(inputs, keras.layers.Lambda(function, output_shape=(3,))(inputs))
    encoder = dense_encoder((3,), 3, hidden_units=(4,))
    vae = VAE(encoder, decoder, likelihood=FixedScaleNormal())
    vae.step.assign(1)
    with pytest.raises(ExportError, match=reason):
        to_litert(vae, tmp_path / "litert" / "decoder.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_says_nothing_is_quoted_by_its_error(dense, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(sys.modules["keras_vae.export.litert"], "_convert_to_int8", fail)
    with pytest.raises(ExportError, match=r"cannot convert `decode`: RuntimeError\(\)"):
        to_litert(dense, tmp_path / "decoder.tflite", quantize=Int8())


def test_a_loss_beyond_the_tolerance_leaves_no_file(dense, tmp_path):
    with pytest.raises(ExportError, match=r"differs .* and 1e-06 is allowed"):
        to_litert(dense, tmp_path / "decoder.tflite", quantize=Int8(tolerance=1e-6))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_weight_is_found_and_the_old_file_stays(dense, tmp_path, monkeypatch):
    path = tmp_path / "decoder.tflite"
    path.write_text("old")
    kernel = dense.decoder.layers[1].get_weights()[0].T
    write_bytes = Path.write_bytes

    def write_wrong(path, content):
        assert content.count(kernel.tobytes()) == 1
        write_bytes(path, content.replace(kernel.tobytes(), (kernel + 1).tobytes()))

    monkeypatch.setattr(Path, "write_bytes", write_wrong)
    with pytest.raises(ExportError, match=r"decode\.image differs .* by up to"):
        to_litert(dense, path, overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(dense, tmp_path, monkeypatch):
    path = tmp_path / "decoder.tflite"
    path.write_text("old")

    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        to_litert(dense, path, overwrite=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_something_else_is_refused(dense, tmp_path):
    path = tmp_path / "decoder.tflite"
    path.write_text("not a model")
    with pytest.raises(ExportError, match="carries no proof"):
        verify(path, dense)


def test_a_missing_package_is_answered_with_the_command(dense, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    message = r'ai-edge-litert.*pip install "keras-vae\[export\]" \(.*\)\.$'
    with pytest.raises(ImportError, match=message):
        to_litert(dense, tmp_path / "decoder.tflite")
    assert list(tmp_path.iterdir()) == []
