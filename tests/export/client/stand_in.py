"""A stand-in that keeps TF Serving's contract and runs real SavedModels.

It is not TF Serving: it shows that the client speaks the protocol as documented.
`tests/export/test_live_server.py` does the same against the real server, where there is one.
"""

import base64
import contextlib
import http.server
import json
import re
import socket
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_vae.export.client import Grpc, Rest

# The same kernels as the model's, on another thread: differences are a last bit or two.
EXACT = {"rtol": 1e-6, "atol": 1e-6}
HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNAVAILABLE": 503}
TRANSPORTS = {
    "columns": lambda server, **options: Rest(server.url, **options),
    "rows": lambda server, **options: Rest(server.url, rows=True, **options),
    "grpc": lambda server, **options: Grpc(server.address, **options),
}


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
        # TensorFlow Serving passes over the label here (model_servers/get_model_status_impl.cc).
        if name not in self.models:
            raise Refusal("NOT_FOUND", f"Could not find any versions of model {name}")
        if version is not None:
            return [self.find(name, version)[0]]
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
            version, _, definitions = self.find(*located(request.model_spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version
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


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
