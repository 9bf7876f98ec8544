"""fork: copies of a running sandbox with everything in it, and nothing in common from then on."""

import time
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.family import close_all, forked, run_in_each
from support.gate import Gate
from support.waiting import Stopwatch, wait_until
from support.wire import AbandonedRun, assert_error, raw_exec, sandbox_ids

STATE = """
import collections, subprocess, threading, time
numbers = list(range(1000))
counter = collections.Counter("mississippi")
open("/root/written", "w").write("before")
handle = open("/root/written")
child = subprocess.Popen(["sleep", "1000"])
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.01)
threading.Thread(target=tick, daemon=True).start()
"""

SEEN = """
import os
first, deadline = ticks, time.monotonic() + 60
while ticks == first and time.monotonic() < deadline:
    time.sleep(0.01)
print(sum(numbers), counter["s"], handle.read(), open("/root/written").read(), ticks > first, child.poll())
_ = handle.seek(0)
"""


def info(http: httpx.Client, sandbox_id: str) -> dict[str, Any]:
    answer = http.get(f"/v1/sandboxes/{sandbox_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_children_have_variables_imports_files_threads_and_processes(url: str, fresh: Sandbox) -> None:
    fresh.run_code(STATE)
    with forked(fresh, 3) as children:
        assert len({fresh.id, *(child.id for child in children)}) == 4
        expected = "499500 4 before before True None"
        assert run_in_each(url, children, SEEN) == [expected] * 3
        assert fresh.run_code(SEEN).stdout == expected, "the parent is none the worse for it"


def test_nothing_written_later_is_shared_in_any_direction(url: str, fresh: Sandbox) -> None:
    fresh.run_code("where = 'parent'; open('/root/where', 'w').write(where); block = bytearray(4 << 20)")
    with forked(fresh, 3) as children:
        for number, child in enumerate(children):
            child.run_code(f"where = 'child {number}'; open('/root/where', 'w').write(where); block[:] = b'{number}' * len(block)")
        fresh.run_code("where = 'parent later'; open('/root/later', 'w').write(where)")
        look = "import os; print(where, open('/root/where').read(), os.path.exists('/root/later'), sum(block[::4096]))"
        seen = run_in_each(url, [fresh, *children], look)
        pages = 1024
        assert seen == [
            "parent later parent True 0",
            *(f"child {n} child {n} False {ord(str(n)) * pages}" for n in range(3)),
        ]


def test_a_child_of_a_child_of_a_child(http: httpx.Client, fresh: Sandbox) -> None:
    fresh.run_code("line = ['first']")
    family = [fresh]
    try:
        for depth in range(1, 6):
            (child,) = family[-1].fork(1)
            family.append(child)
            child.run_code(f"line.append({depth})")
            shown = info(http, child.id)
            assert shown["parent"] == family[-2].id
            assert shown["generation"] == depth
            assert shown["source"] == "fork"
        assert family[-1].run_code("print(line)").stdout == "['first', 1, 2, 3, 4, 5]"
        assert fresh.run_code("print(line)").stdout == "['first']"
        assert info(http, fresh.id)["children"] == [family[1].id]
    finally:
        close_all(family[1:])


@pytest.mark.timeout(900)
def test_thirty_two_children_of_a_large_parent(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    filled = fresh.run_code("import os, zlib; data = os.urandom(1 << 20) * 200; print(zlib.crc32(data))")
    clock = Stopwatch()
    with forked(fresh, 32) as children:
        took = clock.seconds
        assert len({child.id for child in children}) == 32
        assert took < 60, f"the official client waits no longer than 60 s; this took {took:.1f}"
        # Every page is read in some, and pages all over in each: reading 200 MiB takes an emulated machine some seconds.
        code = "seen = zlib.crc32(data); data = None; print(seen)"
        assert run_in_each(url, children[:2], code) == [filled.stdout] * 2
        sample = "print(zlib.crc32(data[:: 1 << 16]))"
        expected = fresh.run_code(sample).stdout
        assert set(run_in_each(url, children[2:], sample, at_once=4)) == {expected}
        assert fresh.run_code("print(zlib.crc32(data))").stdout == filled.stdout
        assert len(info(http, fresh.id)["children"]) == 32


@pytest.mark.parametrize("n", [0, 33, -1, "2", 1.5])
def test_other_numbers_are_refused_by_name(http: httpx.Client, box: Sandbox, n: object) -> None:
    before = sandbox_ids(http)
    assert_error(http.post(f"/v1/sandboxes/{box.id}/fork", json={"n": n}), 400, "n: expected")
    assert sandbox_ids(http) == before


def test_one_child_without_a_number(http: httpx.Client, box: Sandbox) -> None:
    answer = http.post(f"/v1/sandboxes/{box.id}/fork")
    assert answer.status_code == 200
    (child,) = answer.json()["children"]
    assert child in sandbox_ids(http)
    http.delete(f"/v1/sandboxes/{child}")


def test_an_unknown_sandbox_is_not_forked(http: httpx.Client) -> None:
    assert_error(http.post(f"/v1/sandboxes/sbx_{'0' * 32}/fork", json={"n": 1}), 404, "sandbox not found")


def test_other_shapes_are_forked_too_and_children_inherit_what_was_asked_for(http: httpx.Client) -> None:
    wanted = {"ram_mib": 384, "rootfs_gb": 5, "egress": False, "timeout_seconds": 600, "idle_timeout_seconds": 300}
    created = http.post("/v1/sandboxes", json=wanted)
    assert created.status_code == 200, created.text
    parent = created.json()["id"]
    assert info(http, parent)["source"] == "boot"
    children = http.post(f"/v1/sandboxes/{parent}/fork", json={"n": 2}).json()["children"]
    for child in children:
        shown = info(http, child)
        assert {name: shown[name] for name in wanted} == wanted
        run = raw_exec(str(http.base_url).rstrip("/"), child, "import os; print(os.sysconf('SC_PHYS_PAGES') * 4 // 1024)")
        assert 300 < int(run.output()) < 384
    for sandbox in [parent, *children]:
        http.delete(f"/v1/sandboxes/{sandbox}")


def test_a_fork_in_the_middle_of_a_run_copies_the_run(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    gate = Gate()
    code = f"""
import os, time
print('go', flush=True)
for step in range(30):
    time.sleep(0.02)
    {gate.wait}
print('counted', step, flush=True)
"""
    run = AbandonedRun(url, fresh.id, code)
    assert run.wait_for_event()["data"] == "go"
    with forked(fresh, 2) as children:
        for child in children:
            # A new run waits for the one that the child carries on.
            queued = AbandonedRun(url, child.id, "print(step)")
            queued.wait_for_headers()
            assert info(http, child.id)["running_execs"] == 2
            gate.open(url, child.id)
            assert queued.wait_for_event()["data"] == "29"
            assert queued.wait_for_event()["type"] == "exit"
            queued.leave()
        gate.open(url, fresh.id)
        last = run.wait_for_event()
        assert last["data"] == "counted 29"
        assert run.wait_for_event()["type"] == "exit"
        run.leave()


def test_a_busy_sandbox_is_forked_at_once(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    run = AbandonedRun(url, fresh.id, "print('go', flush=True)\nwhile True: pass")
    run.wait_for_event()
    # The run has no end that a fork could wait for.
    with forked(fresh, 1):
        assert info(http, fresh.id)["running_execs"] == 1
    run.leave()
    assert fresh.run_code("print('well')").stdout == "well"


def test_forks_of_one_sandbox_at_the_same_time(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    from concurrent.futures import ThreadPoolExecutor

    fresh.run_code("kept = 7")

    def fork(_: int) -> list[str]:
        answer = httpx.post(f"{url}/v1/sandboxes/{fresh.id}/fork", json={"n": 2}, timeout=180, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()["children"]

    with ThreadPoolExecutor(4) as pool:
        children = [child for pair in pool.map(fork, range(4)) for child in pair]
    assert len(set(children)) == 8
    for child in children:
        assert raw_exec(url, child, "print(kept)").output() == "7"
        http.delete(f"/v1/sandboxes/{child}")


def test_a_deleted_parent_leaves_its_children_alone(http: httpx.Client, url: str) -> None:
    with Sandbox(host=url) as parent:
        parent.run_code("kept = 'all'")
        (child,) = parent.fork(1)
    assert info(http, child.id)["parent"] == parent.id
    assert child.run_code("print(kept)").stdout == "all"
    child.close()


def test_a_parent_stands_still_for_a_moment_only(fresh: Sandbox) -> None:
    watch = """
import threading, time
gaps = []
def watch():
    last = time.monotonic()
    while not stop:
        now = time.monotonic()
        gaps.append(now - last)
        last = now
        time.sleep(0.001)
stop = False
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
"""
    longest = []
    # On a busy emulated machine a thread is late by itself, but not each time; a parent that waited for its children
    # would be seconds late every time.
    while not longest or min(longest) >= 1.5:
        assert len(longest) < 8, f"the parent stood still for {longest} s"
        fresh.run_code(watch)
        time.sleep(0.5)
        with forked(fresh, 4):
            pass
        longest.append(float(fresh.run_code("stop = True; watcher.join(); print(max(gaps))").stdout))


def test_a_fork_shows_in_the_list_and_in_the_tree(http: httpx.Client, cli: Any, fresh: Sandbox) -> None:
    with forked(fresh, 2) as children:
        tree = cli.run("sandbox", "tree", fresh.id, "--json").expect(0).json()["sandboxes"]
        assert [(branch["id"], branch["depth"]) for branch in tree][0] == (fresh.id, 0)
        assert {branch["id"] for branch in tree[1:]} == {child.id for child in children}
        drawn = cli.run("sandbox", "tree", fresh.id).expect(0).stdout
        assert "├─ " in drawn and "└─ " in drawn
        made = cli.run("sandbox", "fork", children[0].id).expect(0).stdout.strip()
        wait_until("the child of the child is listed", lambda: made in sandbox_ids(http))
        http.delete(f"/v1/sandboxes/{made}")
