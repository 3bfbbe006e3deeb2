"""What every contestant is: a process that does a piece of work whenever it is told to.

Contestants live in environments of their own, so that this module and `inputs` need nothing but
NumPy. A contestant reads its task from its first argument, prepares, warms up, and says `{}`; then
it answers each line of its input by one of output, in JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable


def serve(prepare: Callable[[dict], Callable[[], object]]) -> None:
    """Does the work that `prepare` returns once for every line of input, and answers its seconds.

    Args:
        prepare: From the task to the work: a function that answers `None` or a dict of numbers.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    work = prepare(json.loads(sys.argv[1]))
    print("{}", file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        numbers = work() or {}
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds} | numbers), file=answers, flush=True)
