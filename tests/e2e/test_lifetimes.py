"""How long sandboxes stay: idle time, lifetime, what puts them off, and what is said at the end."""

import time

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.machine import Machine
from support.terminals import opened
from support.waiting import wait_until
from support.wire import AbandonedRun, assert_error, raw_exec, sandbox_ids

IDLE_SECONDS = 12
LIFE_SECONDS = 20
"""Longer than it takes a busy machine to send the next request. The host may look late; it never ends anybody early."""


def gone(http: httpx.Client, sandbox_id: str) -> bool:
    return sandbox_id not in sandbox_ids(http)


def test_idle_reaps_and_nothing_raises_at_the_end_of_the_block(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url) as box:
        began = time.monotonic()
        assert box.run_code("print('here')").stdout == "here"
        assert http.patch(f"/v1/sandboxes/{box.id}", json={"idle_timeout_seconds": 4}).status_code == 200
        wait_until("the idle sandbox is gone", lambda: gone(http, box.id))
        assert time.monotonic() - began >= 4
        answer = http.post(f"/v1/sandboxes/{box.id}/exec", json={"code": "1"})
        assert_error(answer, 404, "sandbox not found", "idle for 4 s")
    for _ in range(2):
        assert http.delete(f"/v1/sandboxes/{box.id}").status_code == 204


def test_runs_and_terminals_put_the_idle_time_off(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url, idle_timeout_seconds=IDLE_SECONDS) as box:
        # A silent run, for longer than the idle time.
        assert box.run_code(f"import time; time.sleep({IDLE_SECONDS + 2}); print('done')").stdout == "done"
        terminal, output = opened(box, "while sleep 0.5; do echo tick; done")
        time.sleep(IDLE_SECONDS + 2)
        output.wait_for("tick")
        assert box.run_code("print('alive')").stdout == "alive"
        info = http.get(f"/v1/sandboxes/{box.id}").json()
        assert info["idle_expires_at_ms"] <= info["last_active_at_ms"] + IDLE_SECONDS * 1000
        terminal.kill()
        # Looking is no use.
        wait_until("it is gone though somebody looks", lambda: gone(http, box.id), every=1)


def test_the_lifetime_ends_a_busy_sandbox_and_its_run_hears_why(url: str, http: httpx.Client) -> None:
    answer = http.post("/v1/sandboxes", json={"timeout_seconds": LIFE_SECONDS, "idle_timeout_seconds": 300})
    sandbox_id = answer.json()["id"]
    run = raw_exec(url, sandbox_id, "print('begun', flush=True)\nimport time; time.sleep(600)")
    assert run.output() == "begun"
    assert run.exit_code == 124
    assert f"reached its lifetime of {LIFE_SECONDS} s" in run.output("stderr")
    assert_error(http.get(f"/v1/sandboxes/{sandbox_id}"), 404, f"lifetime of {LIFE_SECONDS} s")
    assert http.delete(f"/v1/sandboxes/{sandbox_id}").status_code == 204


def test_a_patch_extends_and_clear_mistakes_are_refused(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url, timeout_seconds=300) as box:
        path = f"/v1/sandboxes/{box.id}"
        before = http.get(path).json()
        after = http.patch(path, json={"timeout_seconds": 3600, "idle_timeout_seconds": 600}).json()
        assert (after["timeout_seconds"], after["idle_timeout_seconds"]) == (3600, 600)
        assert after["expires_at_ms"] > before["expires_at_ms"] + 3_000_000
        for change, words in (
            ({"timeout_seconds": 0}, "timeout_seconds"),
            ({"idle_timeout_seconds": "10m"}, "idle_timeout_seconds"),
            ({"persistent": 1}, "persistent"),
        ):
            assert_error(http.patch(path, json=change), 400, words)
        time.sleep(2)
        assert_error(http.patch(path, json={"timeout_seconds": 1}), 400, "timeout_seconds: expected more than")
        assert http.get(path).json()["timeout_seconds"] == 3600
        lifted = http.patch(path, json={"timeout_seconds": None, "idle_timeout_seconds": None}).json()
        assert "expires_at_ms" not in lifted and "idle_expires_at_ms" not in lifted
    assert_error(http.patch(path, json={}), 404)


def test_the_command_line_sets_extends_and_shows(cli: Cli, url: str) -> None:
    with Sandbox(host=url, timeout_seconds=600) as box:
        cli.run("sandbox", "set", box.id, "--timeout", "2h", "--idle", "10m").expect(0)
        cli.run("sandbox", "extend", box.id, "1h").expect(0)
        shown = cli.run("--json", "sandbox", "inspect", box.id).expect(0).json()
        assert (shown["timeout_seconds"], shown["idle_timeout_seconds"]) == (3 * 3600, 600)
        listing = cli.run("sandbox", "ls").expect(0).stdout
        (line,) = [line for line in listing.splitlines() if box.id in line]
        assert line.endswith("idle"), "the idle time comes first"


@pytest.mark.parametrize("jump", ["+1 day", "-1 day"])
def test_the_time_of_day_may_jump(jump: str, url: str, http: httpx.Client, machine: Machine) -> None:
    def set_clock(by: str) -> None:
        seconds = 86_400 if by.startswith("+") else -86_400
        command = f"date -u -s @$(( $(date -u +%s) + {seconds} ))"
        machine.output("sh", "-c", command)

    with Sandbox(host=url, idle_timeout_seconds=3600, timeout_seconds=7200) as box:
        run = AbandonedRun(url, box.id, "print('go', flush=True)\nimport time; time.sleep(6); print('well')")
        run.wait_for_event()
        set_clock(jump)
        try:
            assert run.wait_for_event()["data"] == "well"
            assert box.run_code("print('here')").stdout == "here"
            info = http.get(f"/v1/sandboxes/{box.id}").json()
            left = info["expires_at_ms"] - info["last_active_at_ms"]
            assert 6_000_000 < left <= 7_200_000, "what is shown follows the clock, what is counted does not"
        finally:
            set_clock("-" if jump.startswith("+") else "+")
            run.leave()
