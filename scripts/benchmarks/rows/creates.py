"""Creating a sandbox: from the pool, and when the pool is empty."""

import time

from ..bench import Bench, close_all
from ..figures import percentile
from ..model import SERVER, Measurement, Row, Target

FIRECRACKER_RESTORE_MS = 380
"""Start, load a snapshot of 1 GiB and resume, measured in the same emulated host."""

MISSES_AT_ONCE = 8
ANSWERED = "answered"
AGAINST_BARE = "times that without working sets"


def pool_hit(bench: Bench) -> Measurement:
    """Each from a full pool."""
    bench.full_pool()
    result = Measurement()
    strays = 0
    for _ in range(bench.count(60)):
        sandbox = bench.timed(result, bench.create)
        strays += bench.source(sandbox) != "pool"
        sandbox.close()
        bench.full_pool()
    if strays:
        result.notes.append(f"{strays} of them did not come from the pool")
    return result


def pool_miss(bench: Bench) -> Measurement:
    """Takes all there is in the pool and goes on at once; counts what the host then says it has cloned for us."""
    result = Measurement()
    for _ in range(bench.count(10)):
        taken = [bench.create() for _ in range(bench.full_pool()["target"])]
        for _ in range(MISSES_AT_ONCE):
            one = Measurement()
            taken.append(bench.timed(one, bench.create))
            if bench.source(taken[-1]) == "clone":
                for series, values in one.series.items():
                    result.series.setdefault(series, []).extend(values)
        close_all(taken)
    return result


def working_set(bench: Bench) -> Measurement:
    """From before the creation of a clone until its first answer, with the pages it is known to need put in place at
    once; and on a host where it touches them one by one."""
    result = Measurement()
    for _ in range(bench.count(10)):
        taken = [bench.create() for _ in range(bench.full_pool()["target"])]
        for _ in range(MISSES_AT_ONCE):
            began = time.perf_counter()
            taken.append(bench.create())
            created = time.perf_counter()
            taken[-1].run_code("print(1)")
            answered = time.perf_counter()
            if bench.source(taken[-1]) == "clone":
                result.add("created", (created - began) * 1000)
                result.add(ANSWERED, (answered - began) * 1000)
        close_all(taken)
    if bare := bench.bare("working-set", ANSWERED):
        result.series["created, no working set"] = bench.bare("working-set", "created")
        result.series["answered, no working set"] = bare
        result.add(AGAINST_BARE, percentile(result.series[ANSWERED], 50) / percentile(bare, 50))
        result.notes.append("the host without working sets was measured before this one, on the same machine")
    return result


ROWS = (
    Row("create-pool-hit", "create, pool hit", "ms", pool_hit, (Target(SERVER, "p50", 3),), "6 ms"),
    Row("create-pool-miss", "create, pool miss", "ms", pool_miss, (Target(SERVER, "p50", 40),), "1,400 ms"),
    Row(
        "working-set", "a clone's first answer, with its working set in place", "ms", working_set,
        (Target(AGAINST_BARE, "p50", 1),), "–",
    ),
)
