"""Contestants against each other: started together, at work one after the other."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)


class Contestant:
    """A process that works when it is told to; see `contestants.process`.

    Args:
        python: The interpreter of its environment.
        module: Its module in `contestants`.
        task: Its `job` and what to prepare for it; see `contestants.process.serve`.

    Raises:
        RuntimeError: If it does not come up, or fails at its work.
    """

    def __init__(self, python: str, module: str, task: dict):
        command = [python, "-m", f"benchmarks.speed.contestants.{module}", json.dumps(task)]
        self.messages = tempfile.TemporaryFile()  # a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            cwd=Path(__file__).parents[2],
            env={"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ,
        )

    def answer(self) -> dict:
        """Waits for a line."""
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.messages.seek(0)
        messages = self.messages.read().decode(errors="replace")
        raise RuntimeError(f"{self.process.args[2]} failed:\n{messages[-2000:]}")

    def work(self) -> dict:
        """Lets it work once, and returns what it measured."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()
        self.messages.close()


def start(
    contestants: dict[str, tuple[str, bool, dict]], peers: str | None, task: dict
) -> dict[str, Contestant]:
    """Starts contestants: module, whether it lives in the peers' environment, and further task.

    Without an environment for them, the peers stay away.
    """
    return {
        name: Contestant(peers if is_peer else sys.executable, module, task | further)
        for name, (module, is_peer, further) in contestants.items()
        if peers or not is_peer
    }


def race(
    contestants: dict[str, Contestant],
    rounds: int,
    is_done: Callable[[dict], bool] = lambda answer: False,
) -> dict[str, list[dict]]:
    """Returns what each contestant measured in each round, working one after the other.

    One that has given an answer that `is_done` rests for the remaining rounds.
    """
    try:
        for contestant in contestants.values():  # one by one, as warming up takes all cores
            contestant.answer()
        measured = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, contestant in contestants.items():
                if not (measured[name] and is_done(measured[name][-1])):
                    measured[name].append(contestant.work())
                    _log.info("%s, round %d: %s", name, len(measured[name]), measured[name][-1])
        return measured
    finally:
        for contestant in contestants.values():
            contestant.close()
