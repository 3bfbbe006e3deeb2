"""Exports that differ from the model, or cannot be served, do not pass."""

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import VAE, ConvVAE, zoo
from keras_vae.distributions import FixedScaleNormal
from keras_vae.export import (
    ExportError,
    Int8,
    carried,
    find_exports,
    fresh_process,
    proof,
    runtimes,
    to_litert,
    to_onnx,
    to_saved_model,
    verification,
    verify,
)
from keras_vae.export.proof import Proof
from keras_vae.networks import dense_encoder

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """Every part of the dense model in every format, for tests that leave them as they are."""
    folder = tmp_path_factory.mktemp("exported")
    model = models["dense"]
    for part in ("decoder", "encoder", "vae"):
        to_saved_model(model, folder / part, part)
        to_onnx(model, folder / f"{part}.onnx", part)
        to_litert(model, folder / f"{part}.tflite", part)
    return folder


PATHS = {
    "saved_model": lambda folder, part: folder / part / "1",
    "onnx": lambda folder, part: folder / f"{part}.onnx",
    "litert": lambda folder, part: folder / f"{part}.tflite",
}


@pytest.fixture(params=PATHS)
def path_of(request, exported):
    """Where the export of a part is, in each format."""
    return lambda part: PATHS[request.param](exported, part)


def move(model, network, amount):
    bias = getattr(model, network).get_layer("params").bias
    bias.assign_add(np.full(bias.shape, amount, np.float32))


def test_parity_names_every_output_and_its_difference(dense, exported):
    parity = verify(exported / "vae" / "1", dense)
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
    assert set(verify(exported / "vae.onnx", dense).differences) == {"reconstruct.image_out"}


def test_a_model_whose_weights_have_moved_is_told_apart(dense, build, path_of):
    # The mean of a Bernoulli moves by at most a quarter of its logit: by 2.5e-5 here, which is just
    # above the 1e-5 that onnxruntime is allowed.
    for network, amount, largest in (("decoder", 1e-4, "2.[0-9]*e-05"), ("encoder", 1e-3, "0.001")):
        model = build("dense")
        model.set_weights(dense.get_weights())
        verify(path_of(network), model)
        move(model, network, amount)
        with pytest.raises(ExportError, match=f"differs from the model's by up to {largest}"):
            verify(path_of(network), model)


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
    flat.step.assign(1)
    path = to_saved_model(flat, tmp_path / "encoder", "encoder")
    low, high = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    verify(path, kinked, examples=low)
    with pytest.raises(ExportError, match="differs"):
        verify(path, kinked, examples=high)


def test_examples_are_checked_as_data_is(dense, path_of):
    with pytest.raises(ValueError, match="shape"):
        verify(path_of("encoder"), dense, examples=np.zeros((2, 5, 5, 1), np.float32))


def test_examples_without_a_model_are_refused(path_of):
    with pytest.raises(ValueError, match="both, or neither"):
        verify(path_of("encoder"), examples=np.zeros((2, 9, 7, 1), np.float32))


@pytest.mark.parametrize("part", ["decoder", "encoder", "vae"])
def test_an_export_is_proved_by_what_it_carries_alone(path_of, part):
    parity = verify(path_of(part), time=True)
    assert 0 <= parity.largest <= 1e-5
    assert sorted(parity.milliseconds) == [1, 64]
    assert min(parity.milliseconds.values()) > 0


def test_an_export_whose_weights_are_changed_fails_its_own_proof(build, path_of, tmp_path):
    # The proof of one model, and the graph and weights of another.
    original = path_of("decoder")
    keras.utils.set_random_seed(1)
    model = build("dense")
    changed = tmp_path / original.name
    if original.is_dir():
        to_saved_model(model, tmp_path, "decoder", version=int(original.name))
        carried = Path("assets.extra", "keras_vae", "proof.npz")
        shutil.copy(original / carried, changed / carried)
    elif original.suffix == ".onnx":
        proof = next(p for p in onnx.load(original).metadata_props if p.key == "proof")
        proto = onnx.load(to_onnx(model, changed))
        next(p for p in proto.metadata_props if p.key == "proof").value = proof.value
        onnx.save(proto, changed)
    else:
        to_litert(model, changed)
        with zipfile.ZipFile(original) as archive, zipfile.ZipFile(changed, "a") as other:
            with warnings.catch_warnings(action="ignore"):  # of the name that is there twice
                other.writestr("proof.npz", archive.read("proof.npz"))
    with pytest.raises(ExportError, match=r"image differs from the model's by up to"):
        verify(changed)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_another_machine_may_round_a_saved_model_in_another_way(tmp_path, dtype, allowed):
    model = ConvVAE((9, 7, 1), 3, filters=(4,), hidden_units=8, dtype=dtype)
    model.step.assign(1)
    path = to_saved_model(model, tmp_path, "vae")
    file = path / "assets.extra" / "keras_vae" / "proof.npz"
    proof = Proof.from_bytes(file.read_bytes())

    def move_answers(amount):
        def moved(case):
            values = {key: v + amount * np.maximum(1, abs(v)) for key, v in case.outputs.items()}
            return dataclasses.replace(case, outputs=values)

        cases = [moved(case) for case in proof.cases]
        file.write_bytes(dataclasses.replace(proof, cases=cases).to_bytes())

    move_answers(np.float32(0.9 * allowed))
    verify(path)
    move_answers(np.float32(1.2 * allowed))
    with pytest.raises(ExportError, match="differs"):
        verify(path)


SINGLE_FILES = [
    (to_onnx, "decoder.onnx", runtimes.OnnxRuntime),
    (to_litert, "decoder.tflite", runtimes.LiteRTRuntime),
]


@pytest.fixture(params=SINGLE_FILES, ids=["onnx", "litert"])
def single(request, tmp_path, monkeypatch):
    """Returns an exporter, a path for it, and what lets its runtime give other values."""
    to, name, runtime = request.param
    run = runtime._run

    def alter(change):
        def changed(*asked):
            return {key: change(value) for key, value in run(*asked).items()}

        monkeypatch.setattr(runtime, "_run", changed)

    return to, tmp_path / name, alter


def test_what_cancels_in_float32_is_exported_with_a_tolerance_of_its_own(dense, single):
    to, path, alter = single
    alter(lambda value: value + np.float32(1e-4))
    with pytest.raises(ExportError, match="1e-05 is allowed"):
        to(dense, path)
    assert verify(to(dense, path, tolerance=1e-3)).largest == pytest.approx(1e-4, rel=0.1)
    with pytest.raises(ValueError, match=r"> 0\. Received: tolerance=0"):
        to(dense, path, tolerance=0, overwrite=True)


def test_a_useless_int8_decoder_is_refused_by_the_nats_that_it_loses(single):
    to, path, alter = single
    digits = zoo.load("dense_digits")
    alter(lambda value: np.full_like(value, 0.5))  # is within the tolerance of any mean
    with pytest.raises(ExportError, match=r"lose .* nats per example .* and 1\.28 are allowed"):
        to(digits, path, quantize=Int8())
    assert not path.exists()
    assert verify(to(digits, path, quantize=Int8(max_lost_nats=100))).lost_nats > 10


def test_a_file_of_another_ending_is_refused_before_it_is_written(dense, single):
    to, path, _ = single
    with pytest.raises(ValueError, match=rf"should end in {path.suffix}\. Received: .*decoder'"):
        to(dense, path.with_suffix(""))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("to", [to_saved_model, to_onnx, to_litert])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_bucket_is_refused(dense, tmp_path, monkeypatch, to, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="local folder"):
        to(dense, kind("gs://bucket/decoder"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("received", [3.0, -np.inf, np.nan])
def test_only_infinity_passes_for_infinity(received):
    expected = np.float32([np.inf, 1.0])
    assert proof._difference("image", expected, expected, 0.5) == 0.0
    with pytest.raises(ExportError, match="image differs"):
        proof._difference("image", expected, np.float32([received, 1.0]), 0.5)


def test_a_version_without_its_graph_is_found_and_told_of(exported, tmp_path):
    version = tmp_path / "models" / "decoder" / "7"
    shutil.copytree(exported / "decoder" / "1", version)
    (version / "saved_model.pb").unlink()
    assert find_exports(tmp_path) == [version]
    with pytest.raises(ValueError, match=r"7 is a SavedModel without its saved_model\.pb"):
        verify(version)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        find_exports(tmp_path)


def test_a_path_that_tensorflow_takes_for_a_pattern_is_told_of(exported, tmp_path):
    version = tmp_path / "filters=[32,64]" / "1"
    shutil.copytree(exported / "decoder" / "1", version)
    with pytest.raises(ExportError, match=r"cannot be loaded: .* takes '\[' in a path"):
        verify(version)


def test_a_call_that_fails_while_it_is_timed_is_told_of_as_such(exported, monkeypatch):
    def fail(*_):
        raise runtimes.Unservable("`decode` cannot be run: out of cheese")

    monkeypatch.setattr(runtimes.OnnxRuntime, "milliseconds", fail)
    with pytest.raises(ExportError, match="^`decode` cannot be run: out of cheese"):
        verify(exported / "decoder.onnx", time=True)


def test_a_checker_that_says_nothing_is_quoted_by_its_error(exported, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(onnx.checker, "check_model", fail)
    with pytest.raises(ExportError, match=r"not valid ONNX: RuntimeError\(\)"):
        verify(exported / "decoder.onnx")


def test_a_missing_or_broken_file_is_told_of(dense, exported, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(exported / "decoder" / "1", broken)
    (data,) = (broken / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ExportError, match="cannot be loaded"):
        verify(broken)
    for name in ("broken.onnx", "broken.tflite"):
        whole = (exported / f"decoder{Path(name).suffix}").read_bytes()
        (tmp_path / name).write_bytes(whole[:1000])
        with pytest.raises(ExportError, match="carries no proof"):
            verify(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx"):
        verify(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="one version of a SavedModel"):
        verify(tmp_path)


def test_exports_are_found_below_a_folder(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "all")
    (tmp_path / "all" / ".decoder.onnx.0123.tmp").write_text("left by a kill -9")
    shutil.copytree(tmp_path / "all" / "decoder" / "1", tmp_path / "all" / "decoder" / ".2.01.tmp")
    found = [path.relative_to(tmp_path / "all").as_posix() for path in find_exports(tmp_path)]
    parts = ("decoder", "encoder", "vae")
    assert sorted(found) == sorted(
        f"{part}{end}" for part in parts for end in ("/1", ".onnx", ".tflite")
    )
    assert find_exports(exported / "vae.onnx") == [exported / "vae.onnx"]
    assert find_exports(exported / "vae" / "1") == [exported / "vae" / "1"]


def test_exports_behind_links_are_found_once(exported, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "1").symlink_to(exported / "decoder" / "1")
    (served / "back").symlink_to(served)
    shutil.copytree(exported / "encoder" / "1", served / "2")
    (served / "0").symlink_to("2")
    assert find_exports(served) == [served / "1", served / "2"]


def test_a_saved_model_without_the_export_extra_is_answered_with_the_command(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    monkeypatch.delattr("tensorflow_serving.apis.prediction_log_pb2", raising=False)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[export\]"'):
        verify(exported / "decoder" / "1")


def test_the_process_that_proves_has_nothing_of_keras_vae(exported, tmp_path):
    # A keras_vae that cannot be imported stands first on the path of the process.
    (tmp_path / "keras_vae.py").write_text("raise SystemExit('keras_vae was imported')")
    answers = subprocess.run(
        [sys.executable, "-P", runtimes.__file__],
        input=pickle.dumps(("open", (exported / "vae" / "1",))) + pickle.dumps(("close", ())),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=True,
    ).stdout
    offered, error = pickle.loads(answers)
    assert error is None
    assert {"serving_default", "reconstruct", "score"} <= set(offered)


def test_warm_up_records_are_requests_for_every_signature_that_takes_batches(dense, tmp_path):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = to_saved_model(dense, tmp_path / "digits", "vae")
    records = tf.data.TFRecordDataset(str(path / runtimes.WARM_UP)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    requests = [log.predict_log.request for log in logs]
    assert {request.model_spec.name for request in requests} == {"digits"}
    sizes = {}
    for request in requests:
        (size,) = {tf.make_ndarray(value).shape[0] for value in request.inputs.values()}
        sizes.setdefault(request.model_spec.signature_name, []).append(size)
    # A server that joins requests refuses `sample`, and a version whose warm-up fails.
    signatures = set(tf.saved_model.load(path).signatures) - {"sample"}
    assert sizes == dict.fromkeys(signatures, [1, 64])
    with fresh_process.open_saved_model(path) as runtime:
        assert runtime.replay_warm_up() == 2 * len(signatures)


def test_a_process_that_dies_is_told_of_and_replaced(tmp_path, dense):
    path = to_saved_model(dense, tmp_path)
    with fresh_process.open_saved_model(path) as runtime:
        fresh_process._process._process.kill()
        with pytest.raises(runtimes.Unservable, match="ended with status -9"):
            runtime.run("decode", {"z": np.zeros((1, 3), np.float32)})
    assert verify(path).largest <= 1e-6


def test_ctrl_c_leaves_no_answer_for_the_next_question(tmp_path, dense, monkeypatch):
    path = to_saved_model(dense, tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    def run_interrupted():
        with fresh_process.open_saved_model(path) as runtime, monkeypatch.context() as patch:
            patch.setattr(pickle, "load", interrupt)
            runtime.run("decode", {"z": np.zeros((1, 3), np.float32)})

    with pytest.raises(KeyboardInterrupt):
        run_interrupted()
    assert not fresh_process._process.is_alive
    assert verify(path).largest <= 1e-6


def test_the_digest_is_of_all_that_the_answers_depend_on(build):
    model = build("series")
    before = {part: carried.weights_sha256(model, part) for part in ("encoder", "decoder", "vae")}
    model.likelihood.log_scale.assign(0.25)
    after = {part: carried.weights_sha256(model, part) for part in before}
    assert {part for part in before if before[part] != after[part]} == {"decoder", "vae"}


@pytest.mark.parametrize("to", [to_saved_model, to_onnx, to_litert])
def test_an_untrained_model_is_refused_unless_forced(build, tmp_path, to):
    model = build("dense")
    model.step.assign(0)
    path = tmp_path / "new" / "decoder.onnx" if to is to_onnx else tmp_path / "new" / "d.tflite"
    with pytest.raises(ExportError, match=r"untrained.*force=True"):
        to(model, path)
    assert list(tmp_path.iterdir()) == []
    assert verify(to(model, path, force=True)).largest <= 1e-5


@pytest.mark.parametrize("to", [to_saved_model, to_onnx, to_litert])
def test_a_model_that_gives_nan_can_be_forced(build, tmp_path, to):
    model = build("dense")
    move(model, "decoder", np.nan)
    path = tmp_path / "decoder.onnx" if to is to_onnx else tmp_path / "decoder.tflite"
    assert verify(to(model, path, force=True)).largest == 0.0


@pytest.mark.parametrize("to", [to_saved_model, to_onnx, to_litert])
@pytest.mark.parametrize("part", ["encoder", "vae"])
def test_uint8_images_are_scaled_in_the_graph(dense, tmp_path, to, part):
    suffix = {to_onnx: ".onnx", to_litert: ".tflite"}.get(to, "")
    path = to(dense, tmp_path / f"{part}{suffix}", part, uint8_images=True)
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 1), np.uint8)
    with verification._opened(verification.format_of(path), path) as runtime:
        name = "encode" if part == "encoder" else "reconstruct"
        received = runtime.run(name, {"image": image})
    posterior = dense.encode(image / np.float32(255))
    if part == "encoder":
        np.testing.assert_allclose(received["loc"], posterior.mean(), atol=1e-5)
    else:
        expected = dense.decode(posterior.mean()).mean()
        (values,) = received.values()
        np.testing.assert_allclose(values, expected, atol=1e-5)
    assert verify(path, dense).largest <= 1e-5


@pytest.mark.parametrize("part", ["decoder", "encoder"])
@pytest.mark.parametrize("network", ["decoder", "encoder"])
@pytest.mark.parametrize("to", [to_saved_model, to_onnx, to_litert])
def test_a_model_that_gives_nan_is_refused_and_nothing_is_left(build, tmp_path, to, network, part):
    model = build("dense")
    move(model, network, np.nan)
    suffix = {to_onnx: ".onnx", to_litert: ".tflite"}.get(to, "")
    with pytest.raises(ExportError, match="The model itself gives NaN"):
        to(model, tmp_path / f"export{suffix}", part)
    assert list(tmp_path.iterdir()) == []


def test_python_inside_of_the_graph_is_refused(tmp_path):
    def double(z):
        return tf.ensure_shape(
            tf.py_function(lambda values: 2 * values, [z], tf.float32), (None, 3)
        )

    inputs = keras.Input((3,))
    decoder = keras.Model(inputs, keras.layers.Lambda(double, output_shape=(3,))(inputs))
    model = VAE(dense_encoder((3,), 3, hidden_units=(4,)), decoder, likelihood=FixedScaleNormal())
    model.step.assign(1)
    with pytest.raises(ExportError, match="EagerPyFunc"):
        to_saved_model(model, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_xla_must_compile_is_refused(tmp_path):
    double = tf.function(lambda z: 2.0 * z, jit_compile=True)
    inputs = keras.Input((3,))
    decoder = keras.Model(inputs, keras.layers.Lambda(double, output_shape=(3,))(inputs))
    model = VAE(dense_encoder((3,), 3, hidden_units=(4,)), decoder, likelihood=FixedScaleNormal())
    model.step.assign(1)
    with pytest.raises(ExportError, match="jit_compile=True"):
        to_saved_model(model, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []
