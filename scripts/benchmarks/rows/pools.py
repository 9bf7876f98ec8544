"""Refilling the pool, which happens behind the callers' backs."""

from ..bench import Bench, close_all
from ..model import SERVER, Measurement, NotAvailable, Row, Target


def refill(bench: Bench) -> Measurement:
    """The host's own mean over refills of an otherwise idle host: each sample is the mean of one whole refill."""
    result = Measurement()
    for _ in range(bench.count(20)):
        before = bench.full_pool()
        close_all([bench.create() for _ in range(before["target"])])
        after = bench.full_pool()["refill_ms"]
        made = after["count"] - before["refill_ms"]["count"]
        if made:
            result.add(SERVER, (after["sum_ms"] - before["refill_ms"]["sum_ms"]) / made)
    if not result.series:
        raise NotAvailable("the host counted no refill")
    return result


ROWS = (
    Row(
        "pool-refill", "pool refill per VM (cloned, warmed, paused)", "ms", refill,
        (Target(SERVER, "p50", 25),), "12 ms",
    ),
)
