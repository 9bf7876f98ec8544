"""Creating sandboxes as fast as the host can, by several callers at a time."""

import threading
import time

import httpx
from podflare import Client, Sandbox

from ..bench import Bench
from ..model import Measurement, Row, Target

CALLERS = (1, 8, 32)
SECONDS = 20.0
SECONDS_QUICK = 5.0
UNCOUNTED_SECONDS = 3.0
"""Until what was in the pool is used up: it was made before, and only the first would have it."""


def sustained(bench: Bench) -> Measurement:
    """Each caller creates and closes without a pause, and finds the pool empty. Callers and host share this machine."""
    result = Measurement()
    seconds = SECONDS_QUICK if bench.quick else SECONDS
    for callers in CALLERS:
        created, refused, took = flood(bench, callers, seconds)
        result.add(f"{callers} at a time", created / took)
        if refused:
            result.notes.append(f"{callers} at a time: {refused} refused for want of memory")
    rates = [rate for [rate] in result.series.values()]
    result.add("slowest of them", min(rates))
    result.add("fastest of them to the fastest of fewer", min(after / before for before, after in zip(rates, rates[1:])))
    return result


def flood(bench: Bench, callers: int, seconds: float) -> tuple[int, int, float]:
    created = [0] * callers
    refused = [0] * callers
    began = time.perf_counter() + UNCOUNTED_SECONDS

    def work(caller: int) -> None:
        client = Client(host=bench.url, timeout=120.0)
        while time.perf_counter() - began < seconds:
            try:
                sandbox = Sandbox(client=client)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503:
                    raise
                refused[caller] += 1
                time.sleep(0.05)
                continue
            created[caller] += time.perf_counter() >= began
            sandbox.close()
        client.close()

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(created), sum(refused), time.perf_counter() - began


ROWS = (
    Row(
        "creates-per-second", "sustained creates per second", "1/s", sustained,
        (Target("slowest of them", "p50", 40, higher_is_better=True),), "83 on 24 cores",
    ),
)
