"""What every contestant is: a process that does a piece of work whenever it is told to.

Contestants live in environments of their own, so that this module and `images` need nothing but
NumPy. A contestant reads its task from its first argument, prepares, warms up, and says `{}`; then
it answers each line of its input by one of output, in JSON.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def serve(**jobs: Callable[[dict], Callable[[], object]]) -> None:
    """Does the work of a job once for every line of input, and answers its seconds.

    Args:
        **jobs: From the task to the work: a function that answers `None` or a dict of numbers,
            among them its own `seconds` if not all it did counts. The task names its `job`.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    task = json.loads(sys.argv[1])
    work = jobs[task["job"]](task)
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        numbers = work() or {}
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds} | numbers), file=answers, flush=True)


def learner(
    train_one_epoch: Callable[[], object], elbo: Callable[[], float]
) -> Callable[[], dict[str, float]]:
    """Returns the work of an epoch: its seconds, and the ELBO behind it, which does not count."""

    def epoch():
        start = time.perf_counter()
        train_one_epoch()
        return {"seconds": time.perf_counter() - start, "elbo": elbo()}

    return epoch


def peak_bytes() -> int:
    """Returns the most memory that this process has had.

    `resource.getrusage` counts that of the process that started it, too, if that was more.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(peak)


def timed(call: Callable[[], object], seconds: float = 0.5) -> float:
    """Returns the median milliseconds of a call, of at least ten."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 10 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
