"""Freezing a sandbox to disk and going on with it, beside the dump of all its memory."""

import time

import httpx

from ..bench import Bench
from ..model import CLIENT, Measurement, Row, Target

TOUCHED_MIB = 100
FILL = f"import os; blob = os.urandom({TOUCHED_MIB} << 20); print(len(blob))"


def freeze(bench: Bench) -> Measurement:
    """A sandbox with 100 MiB touched, frozen and resumed over and over; the figures of a dump are series of their own.

    Dumps have a sandbox of their own: what was dumped whole lies over no template any more, and each later freeze of it is
    a dump, too.
    """
    result = Measurement()
    rounds(bench, result, bench.count(20), whole=False)
    rounds(bench, result, bench.count(5), whole=True)
    return result


def rounds(bench: Bench, result: Measurement, count: int, *, whole: bool) -> None:
    raw = httpx.Client(base_url=bench.url, timeout=180.0, trust_env=False)
    sandbox_id = bench.create().id
    prefix = "dump: " if whole else ""
    try:
        run(raw, sandbox_id, FILL)
        for _ in range(count):
            began = time.perf_counter()
            answer = raw.post(f"/v1/sandboxes/{sandbox_id}/freeze", json={"whole": whole})
            answer.raise_for_status()
            frozen = time.perf_counter()
            space = answer.json()
            answer = raw.post(f"/v1/spaces/{space['id']}/resume", json={})
            answer.raise_for_status()
            sandbox_id = answer.json()["id"]
            run(raw, sandbox_id, "print(1)")
            resumed = time.perf_counter()
            result.add("dump: freeze" if whole else CLIENT, (frozen - began) * 1000)
            result.add(f"{prefix}resume to first answer", (resumed - frozen) * 1000)
            result.add(f"{prefix}MiB on disk", space["bytes"] / (1 << 20))
    finally:
        raw.delete(f"/v1/sandboxes/{sandbox_id}")


def run(raw: httpx.Client, sandbox_id: str, code: str) -> None:
    raw.post(f"/v1/sandboxes/{sandbox_id}/exec", json={"code": code}).raise_for_status()


ROWS = (
    Row(
        "freeze", f"freeze with {TOUCHED_MIB} MiB touched, and resume", "ms", freeze,
        (
            Target(CLIENT, "p50", 1000),
            Target("resume to first answer", "p50", 250),
            Target("MiB on disk", "p50", 1.3 * TOUCHED_MIB),
        ),
        "–",
    ),
)
