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

from support.wire import RawRun, raw_exec

SILENT_SECONDS = 45
LAST_SECONDS = 13
HEARTBEAT_SECONDS = 10


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
    with Sandbox(host=url) as sandbox, ThreadPoolExecutor(3) as pool:

        def through_own_client(code: str) -> tuple[ExecResult, float]:
            client = Client(host=url)
            result = Sandbox._from_id(sandbox.id, client).run_code(code)
            client.close()
            return result, time.monotonic() - began

        sandbox.run_code("order = []; import time")
        began = time.monotonic()
        silent: Future[tuple[ExecResult, float]] = pool.submit(
            through_own_client, f"time.sleep({SILENT_SECONDS}); order.append('silent'); print('slept')"
        )
        time.sleep(1)
        queued = pool.submit(through_own_client, "order.append('queued'); print('my turn')")
        time.sleep(1)
        last_began_at = time.monotonic()
        code = f"print(order, flush=True); time.sleep({LAST_SECONDS})"
        last = pool.submit(raw_exec, url, sandbox.id, code)
        yield Outcome(*silent.result(120), *queued.result(120), last.result(120), last_began_at)


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
    assert max(gaps) < HEARTBEAT_SECONDS + 5, f"longest silence is {max(gaps):.1f} s"
    printed_at = outcome.last.event_lines[0].at
    queued = [line for line in outcome.last.heartbeats if line.at < printed_at]
    running = [line for line in outcome.last.heartbeats if line.at > printed_at]
    assert 3 <= len(queued) <= 8, f"{len(queued)} heartbeats in about 43 s of queue"
    assert 1 <= len(running) <= 3, f"{len(running)} heartbeats in {LAST_SECONDS} s of running"
