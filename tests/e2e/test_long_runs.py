"""Silence longer than the client's patience: it gives up after 30 s without a byte, so heartbeats must come.

One silent run, one run queued behind it and one queued behind both are started together, and looked at one by one.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from podflare import Client, Sandbox
from podflare.types import ExecResult

from support.waiting import wait_until
from support.wire import RawRun, api, raw_exec

SILENT_SECONDS = 45
LAST_SECONDS = 20
HEARTBEAT_SECONDS = 10
CLIENT_SECONDS = 30
"""Silence after which the official client gives up."""


@dataclass(frozen=True)
class Outcome:
    """What became of the three runs; seconds since the first began."""

    silent: ExecResult
    silent_seconds: float
    queued: ExecResult
    queued_seconds: float
    last: RawRun
    last_began_at: float


@pytest.fixture(scope="module")
def outcome(url: str, nothing_is_left_behind: None) -> Iterator[Outcome]:
    with Sandbox(host=url) as sandbox, ThreadPoolExecutor(3) as pool, api(url) as http:

        def through_own_client(code: str) -> tuple[ExecResult, float]:
            client = Client(host=url)
            result = Sandbox._from_id(sandbox.id, client).run_code(code)
            client.close()
            return result, time.monotonic() - began

        def wait_for_runs(number: int) -> None:
            info = f"/v1/sandboxes/{sandbox.id}"
            wait_until(f"{number} have come", lambda: http.get(info).json()["running_execs"] == number)

        sandbox.run_code("order = []; import time")
        wait_for_runs(0)
        began = time.monotonic()
        silent: Future[tuple[ExecResult, float]] = pool.submit(
            through_own_client, f"time.sleep({SILENT_SECONDS}); order.append('silent'); print('slept')"
        )
        wait_for_runs(1)
        queued = pool.submit(through_own_client, "order.append('queued'); print('my turn')")
        wait_for_runs(2)
        last_began_at = time.monotonic()
        code = f"print(order, flush=True); time.sleep({LAST_SECONDS})"
        last = pool.submit(raw_exec, url, sandbox.id, code)
        yield Outcome(*silent.result(240), *queued.result(240), last.result(240), last_began_at)


def test_a_run_that_is_silent_for_45_s_completes(outcome: Outcome) -> None:
    assert (outcome.silent.stdout, outcome.silent.exit_code) == ("slept", 0)
    assert outcome.silent_seconds >= SILENT_SECONDS


def test_a_run_that_waits_in_the_queue_for_more_than_30_s_completes(outcome: Outcome) -> None:
    assert (outcome.queued.stdout, outcome.queued.exit_code) == ("my turn", 0)
    assert outcome.queued_seconds > 30


def test_queued_runs_go_in_the_order_they_came(outcome: Outcome) -> None:
    assert outcome.last.output() == "['silent', 'queued']"


def test_heartbeats_come_every_ten_seconds_queued_and_running(outcome: Outcome) -> None:
    assert all(line.text == b"" for line in outcome.last.heartbeats)
    times = [outcome.last_began_at, *(line.at for line in outcome.last.lines)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(gaps) < CLIENT_SECONDS, f"longest silence is {max(gaps):.1f} s"
    printed_at = outcome.last.event_lines[0].at
    queued = [line for line in outcome.last.heartbeats if line.at < printed_at]
    running = [line for line in outcome.last.heartbeats if line.at > printed_at]
    # A machine that is busy may be late with one or the other; it is never early.
    for beats, seconds in ((queued, printed_at - times[0]), (running, times[-1] - printed_at)):
        expected = seconds / HEARTBEAT_SECONDS
        assert max(1, int(expected / 2)) <= len(beats) <= expected + 1, f"{len(beats)} heartbeats in {seconds:.1f} s"
