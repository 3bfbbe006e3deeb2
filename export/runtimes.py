"""What serves an export: TensorFlow's session, onnxruntime, LiteRT, each behind the same methods.

This module imports nothing of keras_vae. Run as a script, it is the fresh process in which a
SavedModel is proved: requests come pickled on the standard input, answers leave by the output.
"""

import logging
import operator
import os
import pickle
import re
import statistics
import sys
import time
from pathlib import Path

WARM_UP = Path("assets.extra", "tf_serving_warmup_requests")
WARM_UP_BATCH_SIZES = (1, 64)

# TF Serving registers all operations of TensorFlow's core. These need Python, or a compiler that
# the stock server is built without.
_NOT_SERVED = {
    "PyFunc|PyFunction": "run Python, which no server can",
    "^Xla|^TPU": "need the XLA compiler, which the stock server is built without",
}


class Unservable(Exception):
    """A file that its runtime cannot load or run; the message says why."""


class Runtime:
    """An export, loaded by what will serve it.

    Attributes:
        signatures: The names of inputs and outputs of each function, by its name.
    """

    signatures: dict[str, tuple[list[str], list[str]]]

    def run(self, name: str, inputs: dict) -> dict:
        """Returns the outputs of a function, arrays by name.

        Raises:
            Unservable: If it cannot be run.
        """
        try:
            return self._run(name, inputs)
        except Exception as error:  # Each runtime has its own.
            raise Unservable(f"`{name}` cannot be run: {error}") from error

    def milliseconds(self, name: str, inputs: dict, seconds: float) -> float:
        """Returns the median time of the calls that fit into some seconds, and at least of ten.

        Some calls before them warm up.
        """
        for _ in range(3):
            self.run(name, inputs)
        times, end = [], time.perf_counter() + seconds
        while len(times) < 10 or time.perf_counter() < end:
            start = time.perf_counter()
            self._run(name, inputs)
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)

    def replay_warm_up(self) -> int:
        """Runs the recorded first requests, if there are any, and returns their number."""
        return 0

    def close(self) -> None:
        """Lets go of the file."""


class SavedModelRuntime(Runtime):
    """One version of a SavedModel, loaded as TF Serving does: the tag `serve`, in a session.

    Raises:
        Unservable: If it cannot be loaded, or a stock server could not run it.
    """

    def __init__(self, path: str | os.PathLike):
        import tensorflow as tf

        # On a CPU, as the model it is compared with: a GPU may add in another order.
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        self._path = Path(path)
        # TensorFlow calls its loader for sessions deprecated. It is what TF Serving uses.
        tf.get_logger().setLevel(logging.ERROR)
        try:
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], os.fspath(path))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self.close()
            patterns = re.search(r"[*?\[]", os.path.abspath(path))
            hint = f" TensorFlow takes {patterns[0]!r} in a path for a pattern." if patterns else ""
            raise Unservable(f"The SavedModel cannot be loaded: {error}{hint}") from error
        try:
            _refuse_what_is_not_served(self._session.graph.as_graph_def())
        except Unservable:
            self.close()
            raise
        self._signatures = dict(loaded.signature_def)
        self.signatures = {
            name: (sorted(signature.inputs), sorted(signature.outputs))
            for name, signature in self._signatures.items()
        }

    def _run(self, name, inputs):
        signature = self._signatures[name]
        feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        return self._session.run({key: out.name for key, out in signature.outputs.items()}, feeds)

    def replay_warm_up(self):
        if not (self._path / WARM_UP).exists():
            return 0
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2

        records = tf.compat.v1.io.tf_record_iterator(os.fspath(self._path / WARM_UP))
        number = 0
        for number, record in enumerate(records, start=1):  # noqa: B007
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            feeds = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            self.run(request.model_spec.signature_name, feeds)
        return number

    def close(self):
        self._session.close()


class OnnxRuntime(Runtime):
    """An ONNX file, checked in full and loaded by onnxruntime.

    Raises:
        Unservable: If it is not valid.
    """

    def __init__(self, path: str | os.PathLike):
        import onnx
        import onnxruntime

        try:
            onnx.checker.check_model(os.fspath(path), full_check=True)
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's share no class.
            raise Unservable(f"It is not valid ONNX: {first_line(error)}") from error
        inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]
        # A file holds one function, without a name: the exporter puts it among the properties.
        name = self._session.get_modelmeta().custom_metadata_map.get("signature", "")
        self.signatures = {name: (sorted(inputs), sorted(self._outputs))}

    def _run(self, name, inputs):
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


class LiteRTRuntime(Runtime):
    """A LiteRT file, loaded by its interpreter.

    Raises:
        Unservable: If it is not valid, or holds other than built-in operations.
    """

    def __init__(self, path: str | os.PathLike):
        from ai_edge_litert import interpreter as litert

        try:
            self._interpreter = litert.Interpreter(os.fspath(path))
        except (RuntimeError, ValueError) as error:
            raise Unservable(f"It is not a valid LiteRT file: {error}") from error
        self.signatures = {
            name: (sorted(tensors["inputs"]), sorted(tensors["outputs"]))
            for name, tensors in self._interpreter.get_signature_list().items()
        }
        self._runners = {}

    def _run(self, name, inputs):
        if name not in self._runners:
            self._runners[name] = self._interpreter.get_signature_runner(name)
        return self._runners[name](**inputs)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)


_functions_of = operator.attrgetter("library.function")


def nodes_of(graph_def) -> list:
    """Returns the operations of a graph and of all its functions."""
    inner = (node for function in _functions_of(graph_def) for node in function.node_def)
    return [*graph_def.node, *inner]


def _served_functions(graph_def):
    """Returns the functions that the graph calls, in whatever way; it calls none of gradients."""
    functions = {function.signature.name: function for function in _functions_of(graph_def)}
    called, nodes = {}, list(graph_def.node)
    while nodes:
        for value in nodes.pop().attr.values():
            for name in (value.func.name, *(each.name for each in value.list.func)):
                if name in functions and name not in called:
                    called[name] = functions[name]
                    nodes.extend(functions[name].node_def)
    return list(called.values())


def _refuse_what_is_not_served(graph_def):
    functions = _served_functions(graph_def)
    nodes = [*graph_def.node, *(node for function in functions for node in function.node_def)]
    for pattern, reason in _NOT_SERVED.items():
        if found := sorted({node.op for node in nodes if re.search(pattern, node.op)}):
            raise Unservable(f"The graph holds operations that {reason}: {', '.join(found)}.")
    for holder in (*nodes, *functions):
        if "_XlaMustCompile" in holder.attr and holder.attr["_XlaMustCompile"].b:
            raise Unservable(
                "The graph holds a function of `jit_compile=True`, and the stock server is built "
                "without the XLA compiler. Build the layer without it."
            )


def _answer_requests():
    """Answers (method, arguments) by (result, error) until the input ends."""
    # What libraries print must not get between the answers.
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.modules["keras_vae"] = None  # Whatever needs it fails, as it would on a server.
    runtime = None
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        result = error = None
        try:
            if method == "open":
                runtime = SavedModelRuntime(*arguments)
                result = runtime.signatures
            elif runtime is not None:
                result = getattr(runtime, method)(*arguments)
        except Unservable as unservable:
            error = str(unservable)
        pickle.dump((result, error), answers)
        answers.flush()


if __name__ == "__main__":
    _answer_requests()
