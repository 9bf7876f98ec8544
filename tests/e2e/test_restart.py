"""Daemons that are killed or replaced while sandboxes run: everything that a client was told of is there afterwards."""

import base64
import json

import httpx
from podflare import Client, Sandbox

from support.cli import Cli
from support.gate import Gate
from support.machine import Machine
from support.restarts import kill_daemon, replace_daemon, wait_for_the_next
from support.terminals import opened
from support.waiting import wait_until
from support.wire import AbandonedRun, raw_exec

LINES = 400
COUNTING = f"""
import os, time
for n in range({LINES}):
    print(f'line-{{n:05}} ' + 'x' * 200, flush=True)
    time.sleep(0.02)
"""


def again(url: str, sandbox_id: str) -> Sandbox:
    """The same sandbox for a client that has just been started."""
    return Sandbox._from_id(sandbox_id, Client(host=url))


def attached(http: httpx.Client, sandbox_id: str, pty_id: str, text: str) -> bool:
    """Whether a terminal's output has a text."""
    read = http.post(f"/v1/sandboxes/{sandbox_id}/pty/{pty_id}/read", json={"since_seq": 0, "timeout_ms": 0})
    assert read.status_code == 200, read.text
    return text in base64.b64decode(read.json()["data_b64"]).decode(errors="replace")


def test_state_files_processes_and_a_terminal_survive_a_killed_daemon(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    with Sandbox(host=url) as box:
        box.run_code(
            "import subprocess, threading, time\nx = 42\nf = open('/tmp/open', 'w+')\nf.write('kept'); f.flush()\n"
            "ticks = 0\ndef tick():\n    global ticks\n    while True:\n        time.sleep(0.05); ticks += 1\n"
            "threading.Thread(target=tick, daemon=True).start()\nother = subprocess.Popen(['sleep', '1000'])"
        )
        http.put(f"/v1/sandboxes/{box.id}/files?path=/root/data.bin", content=bytes(range(256)) * 64)
        pty, output = opened(box, "bash")
        output.wait_for("# ")
        pty.send_input("marker=7; echo set-$marker\n")
        output.wait_for("set-7")
        before = http.get(f"/v1/sandboxes/{box.id}").json()
        replace_daemon(machine, http)
        after = http.get(f"/v1/sandboxes/{box.id}").json()
        for info in (before, after):
            for moving in ("stats", "expires_at_ms", "idle_expires_at_ms", "last_active_at_ms"):
                info.pop(moving, None)
        assert after == before
        run = raw_exec(url, box.id, "print(x, f.seek(0), f.read(), other.poll(), ticks > 5)")
        assert run.output() == "42 0 kept None True"
        read = http.get(f"/v1/sandboxes/{box.id}/files?path=/root/data.bin")
        assert read.content == bytes(range(256)) * 64
        listed = http.get(f"/v1/sandboxes/{box.id}/pty").json()
        assert [session["pty_id"] for session in listed] == [pty.id]
        typed = {"data_b64": "ZWNobyBzdGlsbC0kbWFya2VyCg=="}  # echo still-$marker
        sent = http.post(f"/v1/sandboxes/{box.id}/pty/{pty.id}/input", json=typed)
        assert sent.status_code < 300, sent.text
        wait_until("the shell answers", lambda: attached(http, box.id, pty.id, "still-7"))


def test_a_run_in_progress_goes_on_and_its_replay_has_every_byte(url: str, http: httpx.Client, machine: Machine) -> None:
    with Sandbox(host=url) as box:
        box.run_code("print('before')")
        # It does not end before the next daemon is there.
        gate = Gate()
        run = AbandonedRun(url, box.id, f"{COUNTING}    while n == {LINES - 50} and {gate.is_shut}: time.sleep(0.02)\n")
        run.wait_for_event()
        replace_daemon(machine, http)
        info = http.get(f"/v1/sandboxes/{box.id}").json()
        assert info["running_execs"] == 1
        queued = AbandonedRun(url, box.id, "print(n)")
        queued.wait_for_headers()
        gate.open(url, box.id)
        assert queued.wait_for_event()["data"] == str(LINES - 1), "a new run waits for the one that goes on"
        assert queued.wait_for_event()["data"] == 0
        queued.leave()
        answer = http.get(f"/v1/sandboxes/{box.id}/replay?follow=true", timeout=180)
        events = [json.loads(line) for line in answer.text.split("\n") if line]
        expected = ["before", *(f"line-{n:05} " + "x" * 200 for n in range(LINES)), str(LINES - 1)]
        assert [event["data"] for event in events if event["type"] == "stdout"] == expected
        assert [event["data"] for event in events if event["type"] == "exit"] == [0, 0, 0]
        run.leave()


def test_a_client_that_leaves_still_interrupts_its_run_under_the_next_daemon(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    with Sandbox(host=url) as box:
        replace_daemon(machine, http)
        run = AbandonedRun(url, box.id, "import time\nprint('on', flush=True)\ntime.sleep(600)")
        run.wait_for_event()
        run.leave()
        # Long before the code would have ended.
        assert raw_exec(url, box.id, "print('next')").output() == "next"


def test_families_merges_and_a_vm_that_died_meanwhile(url: str, http: httpx.Client, machine: Machine) -> None:
    with Sandbox(host=url) as parent, Sandbox(host=url) as doomed:
        parent.run_code("x = 'parent'")
        first, second = parent.fork(2)
        first.run_code("x = 'first'")
        (grandchild,) = first.fork(1)
        parent.merge_into(first)
        pid = http.get(f"/v1/sandboxes/{doomed.id}").json()["vmm_pid"]
        machine.output("sh", "-c", f"kill -9 $(cat /run/hostd.pid) {pid}")
        wait_for_the_next(http)
        info = http.get(f"/v1/sandboxes/{parent.id}").json()
        assert sorted(info["children"]) == sorted([second.id, grandchild.id])
        assert http.get(f"/v1/sandboxes/{first.id}").status_code == 404
        for sandbox, said in ((parent, "first"), (second, "parent"), (grandchild, "first")):
            assert raw_exec(url, sandbox.id, "print(x)").output() == said
        lost = http.get(f"/v1/sandboxes/{doomed.id}").json()
        assert lost["state"] == "failed" and "no daemon was running" in lost["last_error"]
        (late,) = again(url, grandchild.id).fork(1)
        assert raw_exec(url, late.id, "print(x)").output() == "first"
        for sandbox in (second, grandchild, late):
            http.delete(f"/v1/sandboxes/{sandbox.id}")


def test_a_checkpoint_can_be_gone_back_to_under_the_next_daemon(url: str, http: httpx.Client, machine: Machine) -> None:
    with Sandbox(host=url) as box:
        box.run_code("x = 'before'")
        made = http.post(f"/v1/sandboxes/{box.id}/checkpoints", json={"name": "mark"})
        assert made.status_code == 200, made.text
        box.run_code("x = 'after'")
        replace_daemon(machine, http)
        assert http.get(f"/v1/sandboxes/{box.id}/checkpoints").json()["checkpoints"] == [made.json()]
        assert raw_exec(url, box.id, "print(x)").output() == "after"
        for _ in range(2):
            back = http.post(f"/v1/sandboxes/{box.id}/rollback", json={"checkpoint": "mark"})
            assert back.status_code == 200, back.text
            assert raw_exec(url, box.id, "print(x); x = 'again'").output() == "before"
        refused = http.post(f"/v1/sandboxes/{box.id}/freeze")
        assert refused.status_code == 409 and "mark" in refused.json()["error"]


def test_a_daemon_is_replaced_in_order_by_one_command(url: str, http: httpx.Client, cli: Cli) -> None:
    with Sandbox(host=url) as box:
        box.run_code("x = 1")
        done = cli.run("restart", "--json", seconds=300).expect()
        assert done.json()["took_ms"] > 0
        assert raw_exec(url, box.id, "print(x)").output() == "1"


def test_what_was_deleted_stays_deleted_and_nothing_is_left_over(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    with Sandbox(host=url) as box:
        gone = Sandbox(host=url)
        gone.close()
        kill_daemon(machine)
        wait_for_the_next(http)
        assert http.get(f"/v1/sandboxes/{gone.id}").status_code == 404
        assert raw_exec(url, box.id, "print('here')").output() == "here"
    wait_until("no VM process is left over", lambda: machine.strays(http) == 0)
