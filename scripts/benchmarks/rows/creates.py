"""Creating a sandbox: from the pool, and when the pool is empty."""

from ..bench import Bench, close_all
from ..model import SERVER, Measurement, Row, Target

FIRECRACKER_RESTORE_MS = 380
"""Start, load a snapshot of 1 GiB and resume, measured in the same emulated host."""

MISSES_AT_ONCE = 8


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


ROWS = (
    Row("create-pool-hit", "create, pool hit", "ms", pool_hit, (Target(SERVER, "p50", 3),), "6 ms"),
    Row("create-pool-miss", "create, pool miss", "ms", pool_miss, (Target(SERVER, "p50", 40),), "1,400 ms"),
)
