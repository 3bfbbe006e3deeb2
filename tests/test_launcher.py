"""Workers on this machine: their environments, their lines, their end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_vae.launcher import launch

SHOW = "import os, json; print('task', json.loads(os.environ['TF_CONFIG'])['task']['index'])"
INDEX = "import json, os; index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"


def run(code, num_workers=2, **options):
    lines = []
    program = [sys.executable, "-c", code]
    return launch([], num_workers, show=lines.append, program=program, **options), lines


def test_every_line_says_which_worker_it_is_from():
    status, lines = run(SHOW, num_workers=3)
    assert status == 0
    assert sorted(lines) == ["[0] task 0", "[1] task 1", "[2] task 2"]


def test_workers_share_one_cluster_with_a_port_each():
    status, lines = run("import os; print(os.environ['TF_CONFIG'])")
    configs = [json.loads(line[4:]) for line in sorted(lines)]
    assert configs[0]["cluster"] == configs[1]["cluster"]
    assert len(set(configs[0]["cluster"]["worker"])) == 2


def test_when_one_fails_all_are_stopped_and_its_status_is_returned():
    start = time.monotonic()
    status, lines = run(INDEX + "import sys, time; time.sleep(60) if index == 0 else sys.exit(7)")
    assert status == 7
    assert time.monotonic() - start < 30
    assert "[launch] Worker 1 ended with status 7: stopping the others." in lines


def test_a_worker_killed_by_a_signal_gives_its_status():
    code = (
        INDEX + "import signal, time; index or os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"
    )
    assert run(code)[0] == 137


def test_all_are_started_anew_as_often_as_wanted(tmp_path):
    # Fails until two starts have left a mark.
    code = (
        f"{INDEX}import pathlib, sys, time; folder = pathlib.Path({str(tmp_path)!r})\n"
        "if index: sys.exit(0)\n"
        "marks = len(list(folder.iterdir())); (folder / str(marks)).touch()\n"
        "sys.exit(3 * (marks < 2))"
    )
    status, lines = run(code, restarts=1)
    assert status == 3
    status, lines = run(code, restarts=1)
    assert status == 0
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_and_nothing_is_started_anew(number):
    worker = (
        "import signal, sys, time\n"
        "for n in (2, 15): signal.signal(n, lambda n, f: sys.exit(138))\n"
        "print('ready'); time.sleep(60)"
    )
    code = (
        "import sys; from keras_vae.launcher import launch\n"
        "show = lambda line: print(line, flush=True)\n"
        f"program = [sys.executable, '-c', {worker!r}]\n"
        "sys.exit(launch([], 2, restarts=5, show=show, program=program))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert sorted(process.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        process.send_signal(number)
        assert process.wait(30) == 138
        assert "anew" not in process.stdout.read()


def test_if_one_cannot_be_started_none_is_left(monkeypatch):
    started, start = [], subprocess.Popen

    def second_fails(*arguments, **options):
        if started:
            raise OSError("out of processes")
        started.append(start(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", second_fails)
    with pytest.raises(OSError, match="out of processes"):
        run("import time; time.sleep(60)")
    assert started[0].poll() == -signal.SIGTERM
