"""A whole short session: create, run once, close."""

import time

from ..bench import Bench
from ..model import CLIENT, Measurement, Row, Target


def session(bench: Bench) -> Measurement:
    """One after the other without waiting for the pool."""
    result = Measurement()
    for _ in range(bench.count(100)):
        began = time.perf_counter()
        sandbox = bench.create()
        created = time.perf_counter()
        sandbox.run_code("echo ready", language="bash")
        ran = time.perf_counter()
        sandbox.close()
        closed = time.perf_counter()
        result.add("create", (created - began) * 1000)
        result.add("first run", (ran - created) * 1000)
        result.add("close", (closed - ran) * 1000)
        result.add(CLIENT, (closed - began) * 1000)
    return result


ROWS = (
    Row(
        "session", "create → run → close over loopback", "ms", session,
        (Target(CLIENT, "p50", 30), Target(CLIENT, "p95", 60)), "43 / 78 ms",
    ),
)
