"""Clients that go away: the run is interrupted, the queue moves on, nothing stays behind."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from podflare import Client, Sandbox

from support.gate import Gate
from support.machine import Machine
from support.waiting import Stopwatch, wait_until
from support.wire import AbandonedRun, raw_exec

PROMPT_SECONDS = 120
"""Long for a machine that is emulated and busy, short beside what the code would take: ten minutes or for ever."""

COUNTING = """
import time
interrupted = False
try:
    for n in range(1_000_000):
        print(n)
        time.sleep(0.05)
except KeyboardInterrupt:
    interrupted = True
    raise
"""


def assert_next_run_is_prompt(sandbox: Sandbox) -> None:
    clock = Stopwatch()
    assert sandbox.run_code("print('next')").stdout == "next"
    assert clock.seconds < PROMPT_SECONDS, f"the next run took {clock.seconds:.1f} s"


def test_after_an_abandoned_stream_the_next_run_is_prompt_and_the_state_is_kept(url: str, box: Sandbox) -> None:
    client = Client(host=url)
    box.run_code("kept = 'yes'")
    stream = client.exec_stream(box.id, COUNTING)
    assert next(stream).data == "0"
    stream.close()
    assert_next_run_is_prompt(box)
    assert box.run_code("print(kept, interrupted)").stdout == "yes True"
    client.close()


def test_a_silent_run_whose_client_is_gone_is_interrupted_too(url: str, box: Sandbox) -> None:
    run = AbandonedRun(url, box.id, "import time; time.sleep(600)")
    assert run.wait_for_headers() == 200
    run.leave()
    assert_next_run_is_prompt(box)


def test_processes_of_an_abandoned_bash_run_are_killed(url: str, box: Sandbox) -> None:
    run = AbandonedRun(url, box.id, "sleep 98765 & echo started; sleep 98765", language="bash")
    assert run.wait_for_event()["data"] == "started"
    run.leave()
    assert_next_run_is_prompt(box)
    left = "pgrep -fc '^sleep 98765'"
    wait_until("they are gone", lambda: box.run_code(left, language="bash").stdout == "0")


def test_subprocesses_that_ignore_signals_do_not_keep_an_abandoned_run_alive(url: str, box: Sandbox) -> None:
    stubborn = "trap '' INT TERM; while :; do sleep 1; done"
    code = f"import subprocess\nprint('go', flush=True)\nsubprocess.run(['bash', '-c', {stubborn!r}])"
    run = AbandonedRun(url, box.id, code)
    run.wait_for_event()
    run.leave()
    assert_next_run_is_prompt(box)


def test_a_run_whose_client_left_while_it_was_queued_never_starts(
    url: str, http: httpx.Client, box: Sandbox
) -> None:
    def runs() -> int:
        return http.get(f"/v1/sandboxes/{box.id}").json()["running_execs"]

    gate = Gate()
    first = AbandonedRun(url, box.id, f"import os, time; print('go', flush=True)\n{gate.wait}")
    first.wait_for_event()
    queued = AbandonedRun(url, box.id, "open('/root/must_not_exist', 'w').close()")
    queued.wait_for_headers()
    wait_until("both are counted", lambda: runs() == 2)
    queued.leave()
    wait_until("the host knows that it is left", lambda: runs() == 1)
    time.sleep(1)  # and its guest does
    gate.open(url, box.id)
    exists = raw_exec(url, box.id, "import os; os.path.exists('/root/must_not_exist')")
    assert exists.output() == "False"
    first.leave()


def test_many_clients_that_leave_cost_the_daemon_nothing(url: str, box: Sandbox, machine: Machine) -> None:
    def leave_once() -> None:
        run = AbandonedRun(url, box.id, "print('go', flush=True)\nimport time; time.sleep(600)")
        run.wait_for_event()
        run.leave()

    leave_once()
    assert_next_run_is_prompt(box)
    before = machine.descriptor_count("podflare-hostd")
    for _ in range(15):
        leave_once()
    assert_next_run_is_prompt(box)
    wait_until(
        f"podflare-hostd is back at about {before} open descriptors",
        lambda: machine.descriptor_count("podflare-hostd") <= before + 3,
    )


def test_a_client_that_never_reads_does_not_block_other_sandboxes(url: str, box: Sandbox, neighbour: Sandbox) -> None:
    flood = AbandonedRun(url, box.id, "while True: print('x' * 1000)")
    flood.wait_for_headers()
    time.sleep(3)  # long enough to fill every buffer between guest and client
    # Nobody reads while this runs: if it had to wait for that, it would wait for ever.
    assert neighbour.run_code("print('free')").stdout == "free"
    flood.leave()
    assert_next_run_is_prompt(box)


def test_a_hundred_clients_that_connect_at_once_are_all_answered(url: str) -> None:
    ready = threading.Barrier(100)

    def ask(_: int) -> str:
        with httpx.Client(timeout=180, trust_env=False) as client:
            ready.wait(180)
            return client.get(f"{url}/v1/healthz").text.strip()

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(ask, range(100))) == {"ok"}
