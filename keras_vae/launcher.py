"""Starts the workers of one training on this machine, for people without a cluster manager."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

_QUIET = {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
_SECONDS_TO_SAVE = 30.0
_SECONDS_BETWEEN_LOOKS = 0.1


def launch(
    command: Sequence[str],
    num_workers: int,
    *,
    restarts: int = 0,
    show: Callable[[str], None],
    program: Sequence[str] = (sys.executable, "-m", "keras_vae.cli"),
) -> int:
    """Runs a command in several processes that find each other, and returns its status.

    Each process gets a `TF_CONFIG` with free ports of this machine, and its lines are prefixed with
    its number. When one ends with an error, the others are asked to end (SIGTERM), and killed if
    they have not half a minute later. SIGTERM and Ctrl-C are passed on to all.

    Args:
        command: Arguments of the program.
        num_workers: How many processes.
        restarts: How often all are started anew, after one ended with an error.
        show: Called with every line.
        program: What the arguments are for.

    Returns:
        0 if all ended well, and else the status of the first that did not; 128 plus the number of
        the signal, if one killed it.
    """
    for attempt in range(restarts + 1):
        status, is_asked_to_stop = _run(list(command), num_workers, show, list(program))
        if status == 0 or is_asked_to_stop or attempt == restarts:
            return status
        show(f"[launch] A worker ended with status {status}: starting all anew.")
    return status


def worker_environments(num_workers: int) -> list[dict[str, str]]:
    """Returns what each of some workers on this machine needs in its environment.

    Example:

    >>> environments = worker_environments(2)
    >>> json.loads(environments[1]["TF_CONFIG"])["task"]
    {'type': 'worker', 'index': 1}
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
    tasks = [{"type": "worker", "index": index} for index in range(num_workers)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def _run(command, num_workers, show, program):
    processes, readers, is_asked_to_stop = [], [], threading.Event()
    lock = threading.Lock()

    def read(index, stream):
        for line in stream:
            with lock:
                show(f"[{index}] {line.rstrip()}")

    def pass_on(number, frame):
        is_asked_to_stop.set()
        _signal_all(processes, number)

    with _handling((signal.SIGTERM, signal.SIGINT), pass_on):
        try:
            for index, environment in enumerate(worker_environments(num_workers)):
                process = subprocess.Popen(
                    [*program, *command],
                    env={**_QUIET, **os.environ, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # Ctrl-C reaches each of them once, through us
                )
                processes.append(process)
                readers.append(threading.Thread(target=read, args=(index, process.stdout)))
                readers[-1].start()
            status = _wait(processes, show)
        finally:
            _stop(processes)
            for process, reader in zip(processes, readers):  # noqa: B905 - one may lack its reader
                reader.join()
                process.stdout.close()
    return status, is_asked_to_stop.is_set()


def _wait(processes, show):
    running = dict(enumerate(processes))
    while running:
        for index, process in list(running.items()):
            status = process.poll()
            if status is None:
                continue
            del running[index]
            if status != 0:
                status = status if status > 0 else 128 - status
                if running:
                    show(
                        f"[launch] Worker {index} ended with status {status}: stopping the others."
                    )
                return status
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return 0


def _stop(processes):
    _signal_all(processes, signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS_TO_SAVE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _signal_all(processes, number):
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


@contextlib.contextmanager
def _handling(numbers, handler):
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
