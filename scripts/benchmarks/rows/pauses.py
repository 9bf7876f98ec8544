"""How long a fork stops its parent."""

import threading
import time

from podflare import Client, Sandbox

from ..bench import Bench, close_all
from ..model import SERVER, Measurement, Row, Target

WATCH_SECONDS = 1.0
FORK_AFTER_SECONDS = 0.3
# Looks at the clock all the time; the longest time between two looks is the pause, or somebody else's turn on the CPU.
WATCH = f"""
def _watch():
    import time
    clock = time.perf_counter
    longest, last, end = 0.0, clock(), clock() + {WATCH_SECONDS}
    while last < end:
        now = clock()
        if now - last > longest:
            longest = now - last
        last = now
    return longest * 1000
print(_watch())
"""


def pause(bench: Bench) -> Measurement:
    """By the host's word, and as code in the parent notices it; the same code without a fork beside it."""
    result = Measurement()
    watcher = Client(host=bench.url, timeout=60.0)
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        for _ in range(bench.count(20)):
            children: list[Sandbox] = []
            gap = watched(
                Sandbox._from_id(parent.id, client=watcher), lambda: children.extend(parent.fork(1))
            )
            result.add(SERVER, bench.timings.last("paused"))
            result.add("longest gap in the parent", gap)
            close_all(children)
            gap = watched(Sandbox._from_id(parent.id, client=watcher), lambda: None)
            result.add("longest gap without a fork", gap)
    if SERVER not in result.series:
        result.notes.append("Server-Timing of a fork has no `paused`")
    return result


def watched(parent: Sandbox, call) -> float:
    gaps: list[float] = []
    thread = threading.Thread(target=lambda: gaps.append(float(parent.run_code(WATCH).stdout)))
    thread.start()
    time.sleep(FORK_AFTER_SECONDS)
    call()
    thread.join()
    return gaps[0]


ROWS = (Row("parent-pause", "parent paused during fork", "ms", pause, (Target(SERVER, "p50", 5),), "about 7 ms"),)
