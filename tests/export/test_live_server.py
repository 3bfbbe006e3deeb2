"""The client, the exports and the configuration against TensorFlow Serving itself.

Where `tensorflow_model_server` is on the PATH, this module starts it. A server that runs elsewhere
is used if TF_SERVING_REST_URL, TF_SERVING_GRPC_URL (host:port) and TF_SERVING_MODELS_DIR, the
folder where it finds its models, are set, and if it was started from

    keras-vae serving-config live_labelled@1,2 live_latest --out FOLDER

Otherwise all of it is skipped: no stand-in takes its place here.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import requests

from keras_vae import DenseVAE
from keras_vae.export import to_saved_model
from keras_vae.export.client import Grpc, Rest, ServingClient, ServingError
from keras_vae.export.serving import Batching, write_serving_config
from keras_vae.export.signatures import signatures

BINARY = shutil.which("tensorflow_model_server")
REMOTE = [os.environ.get(f"TF_SERVING_{name}") for name in ("REST_URL", "GRPC_URL", "MODELS_DIR")]

if not (BINARY or all(REMOTE)):
    pytest.skip(
        "no TensorFlow Serving: put tensorflow_model_server on the PATH, or set "
        "TF_SERVING_REST_URL, TF_SERVING_GRPC_URL and TF_SERVING_MODELS_DIR",
        allow_module_level=True,
    )

pytestmark = pytest.mark.server

# Another build of TensorFlow than the model's, which may add in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
PATIENCE_SECONDS = 60


class Server(NamedTuple):
    """Where a server listens, and the folder in which it looks for models."""

    rest: str
    grpc: str
    models_dir: Path


def build(version):
    """Returns the model of a version, the same one in every run; widths differ by version."""
    keras.utils.set_random_seed(version)
    return DenseVAE((5, 4, 1), 1 + version, hidden_units=(8,))


def export(models_dir, name, version):
    if not (models_dir / name / str(version)).exists():
        to_saved_model(build(version), models_dir / name, "vae", version=version, force=True)


def wait_until(condition, process=None):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(ServingError):
            if condition():
                return
        assert process is None or process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server did not come to it in time"
        time.sleep(0.2)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


@contextlib.contextmanager
def start(folder, models_dir, names, batching=None):
    """Runs the server with the flags and files that an operator's Compose file has."""
    written = write_serving_config(folder, names, batching=batching) / "config"
    models = written / "models.config"
    models.write_text(models.read_text().replace('"/models/', f'"{models_dir}/'))
    rest, grpc = free_ports(2)
    flags = [
        f"--port={grpc}",
        f"--rest_api_port={rest}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        f"--model_config_file={models}",
        f"--monitoring_config_file={written / 'monitoring.config'}",
    ]
    if batching is not None:
        file = written / "batching.config"
        flags += ["--enable_batching=true", f"--batching_parameters_file={file}"]
    with (
        open(folder / "log.txt", "w") as log,
        subprocess.Popen([BINARY, *flags], stdout=log, stderr=log) as process,
    ):
        server = Server(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", models_dir)
        try:
            client = ServingClient("live_latest", Rest(server.rest))
            wait_until(lambda: client.status()[0].state == "AVAILABLE", process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") if BINARY else Path(REMOTE[2])
    for name, version in (("live_labelled", 1), ("live_labelled", 2), ("live_latest", 1)):
        export(path, name, version)
    return path


@pytest.fixture(scope="module")
def server(models_dir, tmp_path_factory):
    if not BINARY:
        yield Server(*REMOTE[:2], models_dir)
        return
    names = ["live_labelled@1,2", "live_latest"]
    with start(tmp_path_factory.mktemp("server") / "config", models_dir, names) as running:
        yield running


@pytest.fixture(params=["columns", "rows", "grpc"])
def connect(request, server):
    with contextlib.ExitStack() as stack:

        def connect(name, **which):
            transport = {
                "columns": lambda: Rest(server.rest),
                "rows": lambda: Rest(server.rest, rows=True),
                "grpc": lambda: Grpc(server.grpc),
            }[request.param]()
            return stack.enter_context(ServingClient(name, transport, **which))

        yield connect


@pytest.mark.parametrize("version", [1, 2])
def test_every_signature_gives_what_the_model_gives(connect, version):
    model, client = build(version), connect("live_labelled", version=version)
    wait_until(lambda: client.status()[0].state == "AVAILABLE")
    rng = np.random.default_rng(0)
    known = {
        "image": rng.integers(0, 2, (5, 5, 4, 1)).astype(np.float32),
        "z": rng.normal(size=(5, 1 + version)).astype(np.float32),
        "num_samples": np.int32(3),
        "seed": np.int32([4, 0]),
    }
    for signature in signatures(model, "vae"):
        inputs = {spec.name: known[spec.name] for spec in signature.inputs}
        expected = signature.compiled(*inputs.values())
        received = client.predict(signature.name, **inputs)
        assert received.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(received[name], expected[name], **CLOSE)


@pytest.mark.parametrize(("label", "version"), [("stable", 1), ("canary", 2)])
def test_labels_lead_to_their_versions(connect, label, version):
    client = connect("live_labelled", label=label)
    wait_until(lambda: client.sample(1))
    expected = build(version).sample(3, seed=5)
    np.testing.assert_allclose(client.sample(3, seed=5)["image"], expected, **CLOSE)
    assert [status.version for status in client.status()] == [version]


def test_a_new_version_rolls_over_while_requests_go_on(connect, server):
    client = connect("live_latest")
    before = max(status.version for status in client.status())
    export(server.models_dir, "live_latest", before + 1)

    def has_rolled_over():
        client.sample(1)  # raises if there is a gap
        found = {status.version: status.state for status in client.status()}
        return found[max(found)] == "AVAILABLE" and max(found) == before + 1

    deadline = time.monotonic() + PATIENCE_SECONDS
    while not has_rolled_over():
        assert time.monotonic() < deadline
    model = build(before + 1)
    z = np.zeros((2, 2 + before), np.float32)
    wait_until(lambda: client.transport.signatures(client.servable)["decode"])
    np.testing.assert_allclose(client.decode(z)["image"], model.decode(z).mean(), **CLOSE)


@pytest.mark.parametrize(
    "where",
    [
        {"name": "live_nowhere"},
        {"name": "live_labelled", "version": 99},
        {"name": "live_labelled", "label": "unheard"},
    ],
)
def test_what_the_server_does_not_know_is_answered_in_its_words(connect, where):
    with pytest.raises(ServingError) as refused:
        connect(**where).sample(1)
    assert refused.value.said
    assert refused.value.status in (400, 404, "INVALID_ARGUMENT", "NOT_FOUND")


def test_a_wrong_width_is_refused_by_client_and_server(connect):
    client = connect("live_labelled", version=1)
    wide = np.zeros((2, 7), np.float32)
    with pytest.raises(ValueError, match=r"shape \(batch, 2\)"):
        client.decode(wide)
    outputs = client.transport.signatures(client.servable)["decode"].outputs
    with pytest.raises(ServingError) as refused:
        client.transport.predict(client.servable, "decode", {"z": wide}, outputs)
    assert refused.value.said


def test_a_body_that_is_no_json_is_a_bad_request(server):
    url = f"{server.rest}/v1/models/live_labelled/versions/1:predict"
    response = requests.post(url, data="{", timeout=10)
    assert response.status_code == 400
    assert "error" in response.json()


def test_the_numbers_for_prometheus_are_there(server):
    metrics = requests.get(f"{server.rest}/monitoring/prometheus/metrics", timeout=10)
    assert metrics.ok
    assert ":tensorflow:" in metrics.text


@pytest.mark.skipif(not BINARY, reason="it needs a server of its own: tensorflow_model_server")
def test_a_batching_server_refuses_sample_alone(models_dir, tmp_path):
    with start(tmp_path / "config", models_dir, ["live_latest"], Batching()) as server:
        client = ServingClient("live_latest", Rest(server.rest))
        width = client.transport.signatures(client.servable)["decode"].inputs["z"].shape[1]
        assert client.decode(np.zeros((2, width)))["image"].shape == (2, 5, 4, 1)
        with pytest.raises(ServingError, match="at least one dimension"):
            client.sample(1)
