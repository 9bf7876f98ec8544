"""VMs that end although nobody asked: only that one is gone, and everyone who asks is told so."""

import json
from typing import Any

import httpx
import pytest
from podflare import Sandbox
from podflare.types import Event

from support.machine import Machine
from support.waiting import Stopwatch, wait_until
from support.wire import assert_error

END_SECONDS = 120

TICKING = "import time\nfor n in range(10_000):\n    print('tick', n, flush=True)\n    time.sleep(0.2)"

REBOOT_CALL = "import ctypes, os; os.sync(); ctypes.CDLL(None).reboot({command:#x})"
POWER_OFF = REBOOT_CALL.format(command=0x4321FEDC)
RESTART = REBOOT_CALL.format(command=0x01234567)
PANIC = "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60"


def info(http: httpx.Client, sandbox: Sandbox) -> dict[str, Any]:
    answer = http.get(f"/v1/sandboxes/{sandbox.id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_until_failed(http: httpx.Client, sandbox: Sandbox) -> dict[str, Any]:
    def failed() -> dict[str, Any] | None:
        now = info(http, sandbox)
        return now if now["state"] == "failed" else None

    return wait_until(f"the host reports {sandbox.id} as failed", failed, END_SECONDS)


def assert_calls_fail_clearly(http: httpx.Client, sandbox: Sandbox) -> None:
    clock = Stopwatch()
    body = assert_error(http.post(f"/v1/sandboxes/{sandbox.id}/exec", json={"code": "print(1)"}), 500)
    assert body["code"] == "sandbox_failed"
    assert clock.seconds < 30, "a client waits no longer for an answer"


def drain(stream: Any) -> list[Event]:
    clock = Stopwatch()
    events = list(stream)
    assert clock.seconds < END_SECONDS, f"the stream went on for {clock.seconds:.1f} s after the VM had ended"
    return events


def test_a_killed_vmm_takes_down_its_own_sandbox_only(
    http: httpx.Client, fresh: Sandbox, neighbour: Sandbox, machine: Machine
) -> None:
    neighbour.run_code("kept = 'untouched'")
    pid = info(http, fresh)["vmm_pid"]
    assert pid != info(http, neighbour)["vmm_pid"]
    stream = fresh.run_code_stream(TICKING)
    assert next(stream).data == "tick 0"

    machine.kill(pid)

    events = drain(stream)
    assert events[-1].type == "exit", "the running stream ends with an exit event"
    assert events[-1].data != 0
    assert any(event.type == "stderr" for event in events), "and says why on stderr"
    wait_until_failed(http, fresh)
    assert_calls_fail_clearly(http, fresh)
    assert neighbour.run_code("print(kept)").stdout == "untouched"
    assert http.delete(f"/v1/sandboxes/{fresh.id}").status_code == 204
    assert http.get(f"/v1/sandboxes/{fresh.id}").status_code == 404


@pytest.mark.parametrize(
    ("language", "code", "cause"),
    [("bash", PANIC, "panic"), ("python", POWER_OFF, "power"), ("python", RESTART, "reboot")],
    ids=["panic", "power-off", "reset"],
)
def test_the_end_of_a_guest_is_reported_with_its_cause(
    http: httpx.Client, fresh: Sandbox, neighbour: Sandbox, language: Any, code: str, cause: str
) -> None:
    events = drain(
        fresh.run_code_stream(
            f"echo going\n{code}" if language == "bash" else f"print('going', flush=True)\n{code}", language
        )
    )
    assert events[0].data == "going"
    assert events[-1].type == "exit"
    assert events[-1].data != 0

    reported = wait_until_failed(http, fresh)
    assert cause in stated_cause(reported), f"the report should name the cause: {json.dumps(reported)[:1000]}"
    assert_calls_fail_clearly(http, fresh)
    assert neighbour.run_code("print('untouched')").stdout == "untouched"


def test_a_panic_is_reported_with_the_end_of_the_console(http: httpx.Client, fresh: Sandbox) -> None:
    drain(fresh.run_code_stream(PANIC, "bash"))
    reported = wait_until_failed(http, fresh)
    console = http.get(f"/v1/sandboxes/{fresh.id}/console").text
    assert "sysrq triggered crash" in console + json.dumps(reported), "the console says what the kernel said last"


def stated_cause(report: dict[str, Any]) -> str:
    """All short texts of a report. The console's tail is left out: a panic message there is not a stated cause."""
    words: list[str] = []

    def collect(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(key, inner)
        elif isinstance(value, str) and "console" not in name:
            words.append(value)

    collect("", report)
    return " ".join(words).lower()
