"""A SavedModel in a fresh process that holds TensorFlow and nothing of keras_vae."""

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from keras_vae.export import runtimes

_SECONDS_TO_END = 5.0


class _Process:
    """The process; TensorFlow takes seconds to start, so one serves all exports of this program."""

    def __init__(self):
        self.parent = os.getpid()
        self._errors = tempfile.TemporaryFile()
        # `-P`: the script's folder is not on the path, where `onnx.py` would hide the package.
        self._process = subprocess.Popen(
            [sys.executable, "-P", runtimes.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )

    @property
    def is_alive(self):
        return self._process.poll() is None

    def close(self):
        """Ends the process: it stops when its input does."""
        self._process.stdin.close()
        self._wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, method, *arguments):
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            result, error = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as lost:
            status = self._wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise runtimes.Unservable(
                f"The process that loads the SavedModel ended with status {status}: "
                f"{lines[-1] if lines else 'it said nothing'}"
            ) from lost
        except BaseException:  # Ctrl-C: the answer would be taken for that to another question
            self._process.kill()
            self._process.wait()
            raise
        if error is not None:
            raise runtimes.Unservable(error)
        return result

    def _wait(self):
        """Returns the status of the process, which ought to end by itself."""
        try:
            return self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _Remote(runtimes.Runtime):
    def __init__(self, process, path):
        self._ask = process.ask
        self.signatures = self._ask("open", os.path.abspath(path))

    def run(self, name, inputs):
        return self._ask("run", name, inputs)

    def milliseconds(self, name, inputs, seconds):
        return self._ask("milliseconds", name, inputs, seconds)

    def replay_warm_up(self):
        return self._ask("replay_warm_up")

    def close(self):
        self._ask("close")


_lock = threading.Lock()
_process = None


@atexit.register
def _close():
    global _process
    # A fork of this program has the process of its parent, which is not its own to end.
    if _process is not None and _process.parent == os.getpid():
        with contextlib.suppress(OSError):
            _process.close()
    _process = None


def start() -> None:
    """Starts the process, so that it gets ready while the caller does something else."""
    global _process
    with _lock:
        if _process is not None and _process.parent == os.getpid():
            if _process.is_alive:
                return
            _close()
        _process = _Process()


@contextlib.contextmanager
def open_saved_model(path: str | os.PathLike) -> Iterator[runtimes.Runtime]:
    """Yields a SavedModel that is loaded and run in the process.

    Raises:
        runtimes.Unservable: If it cannot be loaded, or a stock server could not run it.
    """
    start()
    with _lock:
        runtime = _Remote(_process, path)
        try:
            yield runtime
        finally:
            if _process.is_alive:
                with contextlib.suppress(runtimes.Unservable):  # nothing is wrong with the model
                    runtime.close()
