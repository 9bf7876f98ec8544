"""Forking a live sandbox."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from podflare import Client, Sandbox

from ..bench import Bench, close_all
from ..figures import percentile
from ..model import CLIENT, SERVER, Measurement, Row, Target
from .creates import FIRECRACKER_RESTORE_MS

WARM_UP_FORKS = 3
CHILDREN = 5
STORM = 100
STORM_BATCH = 25
PER_CLONE = "per clone"
SERVER_PER_CLONE = "server, per clone"
AGAINST_BARE = "server, times that without a network"
CLIENT_AGAINST_BARE = "client, times that without a network"


def warm(bench: Bench) -> Measurement:
    """A parent that has run code and has been forked before."""
    result = Measurement(notes=[f"after {WARM_UP_FORKS} forks that are not counted"])
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        parent.run_code("data = list(range(100_000))")
        for _ in range(WARM_UP_FORKS):
            close_all(parent.fork(1))
        for turn in range(bench.count(60)):
            parent.run_code(f"data[{turn}] += 1")
            close_all(bench.timed(result, lambda: parent.fork(1)))
    return result


def fresh(bench: Bench) -> Measurement:
    """The first fork of a sandbox just created."""
    result = Measurement()
    for _ in range(bench.count(30)):
        with bench.sandbox() as parent:
            if not result.series:
                bench.require_fork(parent)
        with bench.sandbox() as parent:
            close_all(bench.timed(result, lambda: parent.fork(1)))
    return result


def five_answered(bench: Bench) -> Measurement:
    """From before the fork of five until the last of them, asked at the same time, has answered its first run."""
    result = Measurement()
    clients = [Client(host=bench.url, timeout=60.0) for _ in range(CHILDREN)]
    for client in clients:
        client.healthz()  # connected, as a program that has been at work is
    with bench.sandbox() as parent, ThreadPoolExecutor(CHILDREN) as pool:
        bench.require_fork(parent)
        for _ in range(bench.count(30)):
            parent.run_code("x = 1")
            began = time.perf_counter()
            children = parent.fork(CHILDREN)
            result.add("fork returned", (time.perf_counter() - began) * 1000)
            result.add(SERVER, bench.timings.last())
            answers = list(pool.map(first_answer, children, clients))
            result.add(CLIENT, (time.perf_counter() - began) * 1000)
            close_all(children)
            if answers != ["1"] * CHILDREN:
                result.notes.append(f"wrong answers: {answers}")
    return result


def first_answer(child: Sandbox, client: Client) -> str:
    return Sandbox._from_id(child.id, client=client).run_code("print(1)").stdout


def storm(bench: Bench) -> Measurement:
    """A hundred children by requests that follow each other; their time is shared among them."""
    result = Measurement(notes=[f"{STORM} children in requests for {STORM_BATCH}; removing them is not timed"])
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        for _ in range(bench.count(10)):
            parent.run_code("x = 1")
            result.add(PER_CLONE, one_storm(bench, parent, result))
    for series, shown, times in (
        (SERVER_PER_CLONE, "server, no network", AGAINST_BARE),
        (PER_CLONE, "per clone, no network", CLIENT_AGAINST_BARE),
    ):
        if bare := bench.bare("fork-storm", series):
            result.series[shown] = bare
            result.add(times, percentile(result.series[series], 50) / percentile(bare, 50))
    if AGAINST_BARE in result.series:
        result.notes.append("the host without a network was measured before this one, on the same machine")
    return result


def one_storm(bench: Bench, parent: Sandbox, result: Measurement) -> float:
    """Milliseconds per clone. All children are there in the end, if the host has room for them."""
    took = 0.0
    children: list[Sandbox] = []
    try:
        for _ in range(STORM // STORM_BATCH):
            try:
                seconds, born = timed_fork(parent)
            except httpx.HTTPStatusError:
                if not children:
                    raise
                note = f"the host had room for {len(children)} at once, which were removed before the others were made"
                if note not in result.notes:
                    result.notes.append(note)
                close_all(children)
                children.clear()
                seconds, born = timed_fork(parent)
            took += seconds
            children += born
            server = bench.timings.last()
            result.add(SERVER_PER_CLONE, server and server / STORM_BATCH)
    finally:
        close_all(children)
    return took * 1000 / STORM


def timed_fork(parent: Sandbox) -> tuple[float, list[Sandbox]]:
    began = time.perf_counter()
    born = parent.fork(STORM_BATCH)
    return time.perf_counter() - began, born


def bare_clone(bench: Bench) -> Measurement:
    """Until the parent runs on, and until the clone is somebody, which is more than a restore has done when it ends."""
    result = Measurement(notes=[f"a restore by Firecracker took {FIRECRACKER_RESTORE_MS} ms there"])
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        for _ in range(bench.count(30)):
            children = parent.fork(1)
            result.add("forked, parent runs on", bench.timings.last("clone"))
            total = bench.timings.last()
            close_all(children)
            result.add("identity acknowledged", total)
            if total:
                result.add("times faster", FIRECRACKER_RESTORE_MS / total)
    return result


ROWS = (
    Row("fork-warm", "fork(1), warm parent, identity acknowledged", "ms", warm, (Target(SERVER, "p50", 24),), "24 ms"),
    Row("fork-fresh", "fork(1), fresh parent", "ms", fresh, (Target(SERVER, "p50", 30),), "116 ms"),
    Row(
        "fork-five", "fork(5), all five answered print(1)", "ms", five_answered,
        (Target(CLIENT, "p50", 101),), "101 ms",
    ),
    Row(
        # No more than without one; a tenth is what two hosts started one after the other differ by anyway.
        "fork-storm", "fork storm: 100 children of one, per clone", "ms", storm,
        (Target(AGAINST_BARE, "p50", 1.1), Target(CLIENT_AGAINST_BARE, "p50", 1.1)), "–",
    ),
    Row(
        "clone", "clone, against Firecracker's restore", "ms", bare_clone,
        (Target("times faster", "p50", 20, higher_is_better=True),), "–",
    ),
)
