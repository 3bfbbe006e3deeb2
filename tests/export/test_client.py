"""The client against a stand-in that keeps TF Serving's contract and runs real SavedModels.

The stand-in is not TF Serving: it shows that the client speaks the protocol as documented.
`test_live_server.py` does the same against the real server, where there is one. Run as a script,
this file writes the generated parts of docs/serving.md anew.
"""

import base64
import contextlib
import http.server
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from importlib import resources
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_vae import DenseVAE
from keras_vae.distributions import SharedScaleNormal
from keras_vae.export import to_saved_model
from keras_vae.export.client import Grpc, Rest, ServingClient, ServingError, VersionStatus
from keras_vae.export.signatures import PARTS, signatures

# The same kernels as the model's, on another thread: differences are a last bit or two.
EXACT = {"rtol": 1e-6, "atol": 1e-6}
HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNAVAILABLE": 503}
DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


class Refusal(Exception):
    """A request that the stand-in refuses, with gRPC's name of the status."""

    def __init__(self, status, said):
        super().__init__(said)
        self.status, self.said = status, said


class StandIn(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Stands in for TF Serving: its REST and gRPC contract on loopback, with real SavedModels.

    What it says is worded as in TF Serving's sources, http_rest_api_handler.cc and json_tensor.cc.
    """

    def __init__(self):
        self.models, self.labels = {}, {}
        self.asked = []  # (path, body) of each request to predict, refused ones included
        self.failures = []  # `Refusal`s for the next requests to predict
        self.delay = 0.0
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.stand_in = self
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self._grpc = grpc.server(futures.ThreadPoolExecutor(2))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._grpc)
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._grpc.start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None)
        for versions in self.models.values():
            for session, _ in versions.values():
                session.close()

    def load(self, name, path):
        """Loads a version as TF Serving does, as a graph in a session."""
        session = tf.compat.v1.Session(graph=tf.Graph())
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        versions = self.models.setdefault(name, {})
        versions[int(Path(path).name)] = session, dict(loaded.signature_def)

    def find(self, name, version=None, label=None):
        versions = self.models.get(name, {})
        if label is not None:
            if label not in self.labels.get(name, {}):
                said = f"Unrecognized servable version label: {label}"
                raise Refusal("INVALID_ARGUMENT", said)
            version = self.labels[name][label]
        if version is None and versions:
            version = max(versions)
        if version not in versions:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refusal("NOT_FOUND", f"Servable not found for request: {which}")
        return version, *versions[version]

    def definition(self, name, version, label, signature):
        _, session, definitions = self.find(name, version, label)
        if signature not in definitions:
            said = f'Serving signature name: "{signature}" not found in signature def'
            raise Refusal("INVALID_ARGUMENT", said)
        return session, definitions[signature]

    def run(self, session, definition, inputs):
        time.sleep(self.delay)
        if self.failures:
            raise self.failures.pop(0)
        fetches = {name: info.name for name, info in sorted(definition.outputs.items())}
        try:
            feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
            return session.run(fetches, feeds)
        except (KeyError, ValueError, tf.errors.OpError) as error:
            raise Refusal("INVALID_ARGUMENT", str(error)) from error

    def status(self, name, version=None, label=None):
        if name not in self.models:
            raise Refusal("NOT_FOUND", f"Could not find any versions of model {name}")
        if version is not None or label is not None:
            return [self.find(name, version, label)[0]]
        return sorted(self.models[name], reverse=True)

    # REST

    def answer(self, method, path, body):
        pattern = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(|/metadata|:predict)"
        found = re.fullmatch(pattern, path)
        verb = found and ("POST" if found[4] == ":predict" else "GET")
        if verb != method:
            raise Refusal("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
        where = found[1], found[2] and int(found[2]), found[3]
        if found[4] == ":predict":
            return self._predict_json(where, body)
        if found[4] == "/metadata":
            version, _, definitions = self.find(*where)
            spec = {"name": where[0], "signature_name": "", "version": str(version)}
            message = signature_def_map(definitions)
            metadata = json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return {"model_spec": spec, "metadata": {"signature_def": metadata}}
        good = {"error_code": "OK", "error_message": ""}
        known = self.status(*where)
        statuses = [{"version": str(v), "state": "AVAILABLE", "status": good} for v in known]
        return {"model_version_status": statuses}

    def _predict_json(self, where, body):
        signature = body.get("signature_name", "serving_default")
        session, definition = self.definition(*where, signature)
        infos = {
            name: tf.as_dtype(info.dtype).as_numpy_dtype for name, info in definition.inputs.items()
        }
        rows = body.get("instances")
        if rows is not None:
            named = isinstance(rows[0], dict) and "b64" not in rows[0]
            columns = {name: [row[name] if named else row for row in rows] for name in infos}
        else:
            columns = body["inputs"]
            if not isinstance(columns, dict) or "b64" in columns:
                columns = {name: columns for name in infos}
        for name in infos:
            if name not in columns:
                said = f"Missing named input: {name} in 'inputs' object."
                raise Refusal("INVALID_ARGUMENT", said)
        inputs = {name: np.asarray(from_json(columns[name]), infos[name]) for name in infos}
        outputs = self.run(session, definition, inputs)
        if rows is None:
            lists = {name: to_json(value) for name, value in outputs.items()}
            return {"outputs": lists if len(lists) > 1 else next(iter(lists.values()))}
        names = list(outputs)
        zipped = zip(*(to_json(outputs[name]) for name in names), strict=True)
        items = [dict(zip(names, row, strict=True)) for row in zipped]
        return {"predictions": items if len(names) > 1 else [item[names[0]] for item in items]}

    # gRPC, by the names of its services' methods

    def Predict(self, request, context):
        self.asked.append(("Predict", request))
        with refusing(context):
            where = located(request.model_spec)
            session, definition = self.definition(*where, request.model_spec.signature_name)
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for name, value in self.run(session, definition, inputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    def GetModelMetadata(self, request, context):
        with refusing(context):
            _, _, definitions = self.find(*located(request.model_spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(signature_def_map(definitions))
            return response

    def GetModelStatus(self, request, context):
        with refusing(context):
            response = get_model_status_pb2.GetModelStatusResponse()
            for version in self.status(*located(request.model_spec)):
                available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
                response.model_version_status.add(version=version, state=available)
            return response


class Handler(http.server.BaseHTTPRequestHandler):
    """Carries what the stand-in says over HTTP."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.respond(None)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.stand_in.asked.append((self.path, body))
        self.respond(body)

    def respond(self, body):
        try:
            status, text = (
                200,
                json.dumps(self.server.stand_in.answer(self.command, self.path, body), indent=1),
            )
        except Refusal as refusal:
            status = HTTP_STATUS[refusal.status]
            is_page = refusal.said.startswith("<html>")
            text = refusal.said if is_page else json.dumps({"error": refusal.said})
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        # A client whose patience is over has gone.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def located(spec):
    chosen = spec.WhichOneof("version_choice")
    version = spec.version.value if chosen == "version" else None
    return spec.name, version, spec.version_label if chosen == "version_label" else None


@contextlib.contextmanager
def refusing(context):
    try:
        yield
    except Refusal as refusal:
        context.abort(getattr(grpc.StatusCode, refusal.status), refusal.said)


def signature_def_map(definitions):
    message = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in definitions.items():
        message.signature_def[name].CopyFrom(definition)
    return message


def to_json(value):
    """Returns lists of the shortest numbers that stand for the same float32, as TF Serving does."""
    if value.ndim:
        return [to_json(item) for item in value]
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def from_json(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [from_json(item) for item in value] if isinstance(value, list) else value


TRANSPORTS = {
    "columns": lambda server, **options: Rest(server.url, **options),
    "rows": lambda server, **options: Rest(server.url, rows=True, **options),
    "grpc": lambda server, **options: Grpc(server.address, **options),
}


@pytest.fixture(params=list(TRANSPORTS))
def transport(request, server):
    """Returns a builder of each transport to the stand-in in turn."""
    build = TRANSPORTS[request.param]
    return lambda **options: build(server, **options)


@pytest.fixture
def connect(transport):
    """Returns a builder of clients, which are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, *, version=None, label=None, **options: stack.enter_context(
            ServingClient(name, transport(**options), version=version, label=label)
        )


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    """Folders of two versions of one model, and of one of another likelihood."""
    base = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(1)
    wide = DenseVAE((9, 7, 1), 4, hidden_units=(8,))
    to_saved_model(models["dense"], base / "dense", "vae")
    to_saved_model(wide, base / "dense", "vae", force=True)
    to_saved_model(models["full_covariance"], base / "full_covariance", "vae")
    return base, {1: models["dense"], 2: wide}


@pytest.fixture(scope="module")
def running(exported):
    stand_in = StandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def server(running, exported):
    """The stand-in with version 1 of `dense` and one of `full_covariance`, and nothing asked."""
    base, _ = exported
    for name in ("dense", "full_covariance"):
        if name not in running.models:
            running.load(name, base / name / "1")
    running.labels = {}
    running.asked, running.failures, running.delay = [], [], 0.0
    yield running
    running.models["dense"].pop(2, None)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 2, (5, 9, 7, 1)).astype(np.float32)


@pytest.fixture
def z():
    return np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["dense", "full_covariance"])
def test_every_signature_gives_what_the_model_gives(kind, models, connect, images, z):
    model, client = models[kind], connect(kind)
    likelihood, posterior = model.decode(z), model.encode(images)
    decoded = {"image": likelihood.mean()}
    if kind == "full_covariance":
        decoded["scale"] = likelihood.stddev()
    scores = next(s for s in signatures(model, "vae") if s.name == "score").function(images)
    kl = scores["kl"]
    for received, expected in (
        (client.decode(z), decoded),
        (client.encode(images), {"loc": posterior.mean(), "scale": posterior.stddev(), "kl": kl}),
        (client.reconstruct(images), {"image": model.reconstruct(images)}),
        (client.score(images), scores),
        (client.sample(4, seed=11), {"image": model.sample(4, seed=11)}),
    ):
        assert received.keys() == expected.keys()
        for name in expected:
            assert received[name].dtype == np.float32
            np.testing.assert_allclose(received[name], expected[name], **EXACT)


def test_json_carries_floats_to_the_bit(server, z):
    received = [ServingClient("dense", build(server)).decode(z) for build in TRANSPORTS.values()]
    for other in received[1:]:
        np.testing.assert_array_equal(other["image"], received[0]["image"])


def test_rows_are_instances_and_what_has_no_batch_goes_in_columns(server, z):
    client = ServingClient("dense", Rest(server.url, rows=True))
    client.decode(z[:2])
    client.sample(2)
    (_, decode), (_, sample) = server.asked
    assert decode == {
        "signature_name": "decode",
        "instances": [{"z": row} for row in z[:2].tolist()],
    }
    assert sample == {"signature_name": "sample", "inputs": {"num_samples": 2, "seed": [0, 0]}}


def test_one_seed_is_that_of_the_model_and_two_are_all_of_it(connect):
    client = connect("dense")
    assert_same(client.sample(2, seed=7), client.sample(2, seed=(7, 0)))
    other = client.sample(2, seed=(7, 1))["image"]
    assert np.abs(other - client.sample(2, seed=7)["image"]).max() > 1e-3


def assert_same(received, expected):
    np.testing.assert_array_equal(received["image"], expected["image"])


def test_versions_labels_and_the_newest_are_told_apart(server, exported, connect):
    base, by_version = exported
    server.load("dense", base / "dense" / "2")
    server.labels = {"dense": {"stable": 1, "canary": 2}}
    ask = {
        1: ({"version": 1}, {"label": "stable"}),
        2: ({"version": 2}, {"label": "canary"}, {}),
    }
    for version, ways in ask.items():
        expected = by_version[version].sample(3, seed=5)
        for way in ways:
            received = connect("dense", **way).sample(3, seed=5)["image"]
            np.testing.assert_allclose(received, expected, **EXACT)


def test_status_lists_the_versions_newest_first(server, exported, connect):
    server.load("dense", exported[0] / "dense" / "2")
    assert connect("dense").status() == [
        VersionStatus(2, "AVAILABLE", ""),
        VersionStatus(1, "AVAILABLE", ""),
    ]
    assert connect("dense", version=1).status() == [VersionStatus(1, "AVAILABLE", "")]


def test_a_latent_of_the_wrong_width_is_answered_with_the_server_s_and_not_sent(server, connect):
    message = r"`z` of `decode` should be float32 of shape \(batch, 3\).*shape=\(2, 8\)"
    with pytest.raises(ValueError, match=message):
        connect("dense").decode(np.zeros((2, 8)))
    assert server.asked == []


def test_a_new_version_of_another_width_is_met_without_a_new_client(server, exported, connect, z):
    base, by_version = exported
    client = connect("dense")
    client.decode(z)
    server.load("dense", base / "dense" / "2")
    wider = np.concatenate([z, z[:, :1]], axis=1)
    received = client.decode(wider)["image"]
    np.testing.assert_allclose(received, by_version[2].decode(wider).mean(), **EXACT)
    with pytest.raises(ValueError, match=r"shape \(batch, 4\)"):
        client.decode(z)


def test_a_width_that_went_out_with_the_old_version_is_refused_by_the_server(
    server, exported, connect, z
):
    client = connect("dense")
    client.decode(z)
    server.load("dense", exported[0] / "dense" / "2")
    with pytest.raises(ServingError, match="shape") as refused:
        client.decode(z)
    assert refused.value.status in (400, "INVALID_ARGUMENT")
    with pytest.raises(ValueError, match=r"shape \(batch, 4\)"):
        client.decode(z)


def test_a_new_version_with_one_more_output_and_back_is_met_too(server, connect, z):
    client = connect("dense")
    assert set(client.decode(z)) == {"image"}
    server.models["dense"][2] = server.models["full_covariance"][1]
    assert set(client.decode(z)) == {"image", "scale"}
    with pytest.raises(ValueError, match="draw"):
        client.predict("draw")  # learns anew what the server offers
    server.models["dense"].pop(2)
    assert set(client.decode(z)) == {"image"}


@pytest.mark.parametrize(
    ("where", "statuses", "said"),
    [
        ({"name": "dance"}, (404, "NOT_FOUND"), "Servable not found for request: Latest(dance)"),
        ({"name": "dense", "version": 9}, (404, "NOT_FOUND"), "Specific(dense, 9)"),
        (
            {"name": "dense", "label": "stable"},
            (400, "INVALID_ARGUMENT"),
            "Unrecognized servable version label: stable",
        ),
    ],
)
def test_what_the_server_does_not_know_is_answered_in_its_words(connect, z, where, statuses, said):
    with pytest.raises(ServingError, match=re.escape(said)) as refused:
        connect(**where).decode(z)
    assert said in refused.value.said
    assert refused.value.status in statuses


def test_an_error_in_the_model_is_reported_at_once(server, connect, z):
    server.failures = [Refusal("INTERNAL", "out of cheese")]
    with pytest.raises(ServingError, match="out of cheese") as refused:
        connect("dense").decode(z)
    assert refused.value.status in (500, "INTERNAL")
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server, connect, z):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")] * 2
    assert connect("dense").decode(z)["image"].shape == (5, 9, 7, 1)
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_quoted(server, connect, z):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")] * 2
    with pytest.raises(ServingError, match="queue is full") as refused:
        connect("dense", retries=1).decode(z)
    assert refused.value.status in (503, "UNAVAILABLE")
    assert len(server.asked) == 2


def test_without_retries_a_busy_server_is_asked_once(server, connect, z):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")]
    with pytest.raises(ServingError, match="queue is full"):
        connect("dense", retries=0).decode(z)
    assert len(server.asked) == 1


def test_a_slow_server_is_given_up_after_the_timeout(server, connect, z):
    client = connect("dense", timeout=0.5, retries=0)
    client.decode(z)
    server.delay = 1.5
    start = time.monotonic()
    with pytest.raises(ServingError, match=r"timed out|DEADLINE_EXCEEDED"):
        client.decode(z)
    assert time.monotonic() - start < 1.4


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_server_that_is_not_there_is_named(kind):
    address = f"127.0.0.1:{free_port()}"
    transport = Grpc if kind == "grpc" else lambda address, **o: Rest(f"http://{address}", **o)
    with (
        ServingClient("dense", transport(address, retries=0)) as client,
        pytest.raises(ServingError, match=address) as refused,
    ):
        client.status()
    assert refused.value.status in (None, "UNAVAILABLE")


def test_a_page_in_the_place_of_json_is_quoted(server, z):
    server.failures = [Refusal("INTERNAL", "<html>Bad gateway</html>")]
    with pytest.raises(ServingError, match="<html>Bad gateway</html>") as refused:
        ServingClient("dense", Rest(server.url)).decode(z)
    assert refused.value.status == 500


@pytest.mark.parametrize("answer", [{"greeting": "hello"}, ["hello"], 5])
def test_another_kind_of_server_is_quoted(server, monkeypatch, answer):
    monkeypatch.setattr(server, "answer", lambda *_: answer)
    with pytest.raises(ServingError, match=r"(?s)200 OK: .*(hello|5)") as refused:
        ServingClient("dense", Rest(server.url)).status()
    assert refused.value.status == 200


def test_a_signature_that_is_not_offered_is_answered_with_those_that_are(connect):
    offered = "'decode', 'encode', 'reconstruct', 'sample', 'score', 'serving_default'"
    with pytest.raises(ValueError, match=f"{offered}. Received: signature='draw'"):
        connect("dense").predict("draw", z=[[0.0]])


def test_inputs_of_other_names_are_answered_with_the_names(connect):
    with pytest.raises(ValueError, match="inputs num_samples, seed.*Received: seed"):
        connect("dense").predict("sample", seed=(1, 0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 9, 7, 1), np.uint8), "Received: uint8. Scale it"),
        (np.full((2, 9, 7, 1), np.nan), "finite"),
        (np.full((2, 9, 7, 1), 1e300), "do not fit"),
        (np.zeros((2, 9, 7, 1), complex), "Received: complex128"),
        (np.zeros((0, 9, 7, 1)), r"Received: shape=\(0, 9, 7, 1\)"),
        (np.zeros((9, 7, 1)), r"Received: shape=\(9, 7, 1\)"),
        (np.zeros((2, 7, 9, 1)), r"\(batch, 9, 7, 1\)"),
    ],
)
def test_images_that_the_model_cannot_take_are_refused(server, connect, images, message):
    with pytest.raises(ValueError, match=message):
        connect("dense").encode(images)
    assert server.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_samples=0"),
        ((2.5,), "int32"),
        ((2, 2**40), "do not fit"),
        ((2, (1, 2, 3)), r"shape \(2,\)"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(server, connect, arguments, message):
    with pytest.raises(ValueError, match=message):
        connect("dense").sample(*arguments)
    assert server.asked == []


class Pictures(tf.Module):
    """Takes pixels as they come from a camera: as integers, and as bytes."""

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2), tf.uint8, "pixels")])
    def scale(self, pixels):
        return {"image": tf.cast(pixels, tf.float32) / 255}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "raw")])
    def read(self, raw):
        pixels = tf.reshape(tf.io.decode_raw(raw, tf.uint8), (-1, 2, 2))
        return {"image": tf.cast(pixels, tf.float32) / 255}


@pytest.fixture
def pictures(server, tmp_path):
    module = Pictures()
    offered = {"scale": module.scale, "read": module.read}
    tf.saved_model.save(module, tmp_path / "pictures" / "1", offered)
    server.load("pictures", tmp_path / "pictures" / "1")


@pytest.mark.usefixtures("pictures")
def test_pixels_go_as_integers_and_bytes_in_base64(server, connect):
    pixels = np.random.default_rng(2).integers(0, 256, (3, 2, 2)).astype(np.uint8)
    client = connect("pictures")
    expected = pixels.astype(np.float32) / 255
    np.testing.assert_allclose(client.predict("scale", pixels=pixels)["image"], expected, **EXACT)
    raw = [image.tobytes() for image in pixels]
    np.testing.assert_allclose(client.predict("read", raw=raw)["image"], expected, **EXACT)
    _, body = server.asked[-1]
    if isinstance(body, dict):
        assert base64.b64encode(raw[0]).decode() in json.dumps(body)


@pytest.mark.usefixtures("pictures")
def test_pixels_and_bytes_that_are_none_are_refused(connect):
    client = connect("pictures")
    with pytest.raises(ValueError, match=r"uint8.*from 0 to 256, which do not fit"):
        client.predict("scale", pixels=[[[0, 1], [2, 256]]])
    with pytest.raises(ValueError, match="uint8.*Received: float64"):
        client.predict("scale", pixels=[[[0.0, 1.0], [0.5, 1.0]]])
    with pytest.raises(ValueError, match="should be bytes"):
        client.predict("read", raw=["text"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ServingClient("m", version=1, label="stable"), "version=1, label='stable'"),
        (lambda: Rest("localhost:8501"), "url='localhost:8501'"),
        (lambda: Rest(timeout=0), "timeout=0"),
        (lambda: Rest(retries=-1), "retries=-1"),
        (lambda: Grpc(timeout=float("nan")), "timeout=nan"),
        (lambda: Grpc(retries=5), "between 0 and 4. Received: retries=5"),
    ],
)
def test_settings_that_cannot_work_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "module", "package"),
    [
        (Rest, "requests", "requests"),
        (Grpc, "tensorflow_serving.apis.predict_pb2", "tensorflow-serving-api"),
    ],
)
def test_a_missing_extra_names_the_install_command(monkeypatch, build, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{package}.*pip install "keras-vae\[serving\]"'):
        build()


def test_headers_reach_the_server(server, monkeypatch):
    seen = []
    answer = Handler.respond
    monkeypatch.setattr(
        Handler,
        "respond",
        lambda self, body: (seen.append(self.headers["Authorization"]), answer(self, body)),
    )
    rest = Rest(server.url + "/", headers={"Authorization": "Bearer token"})
    ServingClient("dense", rest).status()
    assert seen == ["Bearer token"]


def test_over_rest_the_client_works_without_tensorflow(server, run_python):
    output = run_python(
        "import sys\n"
        "from keras_vae.export.client import Rest, ServingClient\n"
        "client = ServingClient('dense', Rest(sys.argv[1]))\n"
        "print(client.decode([[0.0, 1.0, 2.0]])['image'].shape)\n"
        "assert not {'tensorflow', 'keras', 'grpc'} & {*sys.modules}",
        server.url,
    )
    assert output.strip() == "(1, 9, 7, 1)"


def probe(server, *names):
    script = resources.files("keras_vae.export.serving") / "templates" / "probe.sh"
    environment = {"PATH": "/usr/bin:/bin", "REST_PORT": str(server.port)}
    command = ["bash", str(script), *names]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_the_health_probe_succeeds_if_every_model_is_available(server):
    assert probe(server, "dense", "full_covariance") == 0
    assert probe(server, "dense", "dance") != 0


def test_the_health_probe_fails_while_a_model_loads_and_without_a_server(server, monkeypatch):
    known = server.answer("GET", "/v1/models/dense", None)
    known["model_version_status"][0]["state"] = "LOADING"
    monkeypatch.setattr(server, "answer", lambda *_: known)
    assert probe(server, "dense") != 0
    monkeypatch.setattr(server, "port", free_port())
    assert probe(server, "dense") != 0


REQUESTS = {
    "status": ("", None),
    "decode": (
        ":predict",
        {"signature_name": "decode", "inputs": {"z": [[0.0, 0.0], [1.0, -1.0]]}},
    ),
    "decode-rows": (
        ":predict",
        {"signature_name": "decode", "instances": [{"z": [0.0, 0.0]}, {"z": [1.0, -1.0]}]},
    ),
    "encode": (
        ":predict",
        {"signature_name": "encode", "instances": [{"image": [[[0.0], [1.0]], [[1.0], [0.0]]]}]},
    ),
    "score": (
        ":predict",
        {"signature_name": "score", "inputs": {"image": [[[[0.0], [1.0]], [[1.0], [0.0]]]]}},
    ),
    "sample": (
        ":predict",
        {"signature_name": "sample", "inputs": {"num_samples": 1, "seed": [7, 0]}},
    ),
    "label": ("/labels/stable", None),
    "no-signature": (":predict", {"signature_name": "draw", "inputs": {"z": [[0.0, 0.0]]}}),
    "no-version": ("/versions/9:predict", {"inputs": {"z": [[0.0, 0.0]]}}),
}


def curl(server, what, body):
    """Returns a request as one types it, and what the stand-in answers to it."""
    path = f"/v1/models/tiny{what}"
    try:
        answer = server.answer("GET" if body is None else "POST", path, body)
    except Refusal as refusal:
        answer = {"error": refusal.said}
    data = "" if body is None else f"-d '{json.dumps(body)}' \\\n    "
    command = f"$ curl {data}http://localhost:8501{path}"
    return f"```console\n{command}\n{json.dumps(answer)}\n```"


def signature_table():
    """Returns what `signatures` offers, in Markdown; sizes that no shape has stand for names."""
    settings = {"event_shape": (5, 6, 1), "latent_dim": 3, "hidden_units": (4,)}
    plain, normal = DenseVAE(**settings), DenseVAE(**settings, likelihood=SharedScaleNormal())
    names = {(None, 5, 6, 1): "(batch, *event_shape)", (None, 3): "(batch, latent_dim)"}
    names |= {(None,): "(batch,)"}

    def show(specs):
        shapes = [names.get(tuple(spec.shape), tuple(spec.shape)) for spec in specs]
        return [
            f"`{spec.name}` {spec.dtype.name} `{shape}`"
            for spec, shape in zip(specs, shapes, strict=True)
        ]

    lines = ["| part | signature | inputs | outputs |", "|---|---|---|---|"]
    for part in PARTS:
        offers = zip(signatures(plain, part), signatures(normal, part), strict=True)
        for i, (always, scaled) in enumerate(offers):
            name = f"`{always.name}`" + (" = `serving_default`" if i == 0 else "")
            outputs = show(always.outputs)
            more = (output for output in show(scaled.outputs) if output not in outputs)
            outputs += [f"{output} if the likelihood is a normal" for output in more]
            cells = part, name, ", ".join(show(always.inputs)), ", ".join(outputs)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def python_blocks():
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@contextlib.contextmanager
def documented_server():
    """Runs the stand-in with the model of the document's first example."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(python_blocks()[0], DOCUMENT, "exec"), {})
        stand_in = StandIn()
        try:
            stand_in.load("tiny", Path("models/tiny/1"))
            stand_in.labels = {"tiny": {"stable": 1}}
            yield stand_in
        finally:
            stand_in.close()


def document(server):
    """Returns docs/serving.md with its generated parts made anew."""
    blocks = {name: curl(server, *request) for name, request in REQUESTS.items()}
    blocks["signatures"] = signature_table()
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"
    return text


def test_the_document_shows_what_is_offered_asked_and_answered():
    with documented_server() as server:
        expected = document(server)
        client_example = python_blocks()[1].replace("http://localhost:8501", server.url)
        exec(compile(client_example, DOCUMENT, "exec"), {})
    number = r"-?\d+\.\d+(?:e-?\d+)?"
    found = DOCUMENT.read_text(encoding="utf-8")
    mend = "docs/serving.md is stale; write it anew: python tests/export/test_client.py"
    assert re.sub(number, "0.0", found) == re.sub(number, "0.0", expected), mend
    values = [[float(value) for value in re.findall(number, text)] for text in (found, expected)]
    # Other processors add in another order.
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5, err_msg=mend)


if __name__ == "__main__":
    with documented_server() as running_server:
        DOCUMENT.write_text(document(running_server), encoding="utf-8")
