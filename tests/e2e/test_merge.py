"""merge_into: one sandbox takes the place of another, under its id."""

from typing import Any

import httpx
from podflare import Sandbox

from support.family import forked
from support.gate import Gate
from support.machine import Machine
from support.waiting import wait_until
from support.wire import AbandonedRun, assert_error, sandbox_ids


def pid_of(http: httpx.Client, sandbox: Sandbox) -> int:
    return http.get(f"/v1/sandboxes/{sandbox.id}").json()["vmm_pid"]


def test_the_parent_becomes_the_winner_and_siblings_stay(http: httpx.Client, fresh: Sandbox, machine: Machine) -> None:
    fresh.run_code("state = 'parent'")
    with forked(fresh, 3) as (first, winner, third):
        for number, child in enumerate((first, winner, third)):
            child.run_code(f"state = 'child {number}'; open('/root/mine', 'w').write(state)")
        old, new = pid_of(http, fresh), pid_of(http, winner)
        fresh.merge_into(winner)
        assert fresh.run_code("print(state, open('/root/mine').read())").stdout == "child 1 child 1"
        assert pid_of(http, fresh) == new
        assert_error(http.get(f"/v1/sandboxes/{winner.id}"), 404)
        assert_error(http.post(f"/v1/sandboxes/{winner.id}/exec", json={"code": "1"}), 404, "sandbox not found")
        assert winner.id not in sandbox_ids(http)
        winner.close()
        assert fresh.run_code("print(state)").stdout == "child 1", "closing what was merged does nothing"
        assert [child.run_code("print(state)").stdout for child in (first, third)] == ["child 0", "child 2"]
        assert sorted(http.get(f"/v1/sandboxes/{fresh.id}").json()["children"]) == sorted((first.id, third.id))
        wait_until(
            "the loser's VM is gone",
            lambda: old not in {process.pid for process in machine.processes("podflare-vmm")},
        )


def test_merging_twice_into_oneself_and_with_strangers(http: httpx.Client, fresh: Sandbox) -> None:
    with forked(fresh, 1) as (winner,):
        into = f"/v1/sandboxes/{fresh.id}/merge_into"
        answer = http.post(f"{into}/{winner.id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert_error(http.post(f"{into}/{winner.id}"), 404, "sandbox not found")
        assert_error(http.post(f"{into}/{fresh.id}"), 400, "itself")
        assert_error(http.post(f"{into}/sbx_{'0' * 32}"), 404)
        assert_error(http.post(f"{into}/nobody"), 404)
        assert_error(http.post(f"/v1/sandboxes/{winner.id}/merge_into/{fresh.id}"), 404)
    assert fresh.run_code("print('well')").stdout == "well"


def test_a_winner_need_not_be_a_child(url: str, fresh: Sandbox) -> None:
    with Sandbox(host=url) as stranger:
        stranger.run_code("who = 'stranger'")
        fresh.merge_into(stranger)
    assert fresh.run_code("print(who)").stdout == "stranger"


def test_runs_end_in_the_loser_and_go_on_in_the_winner(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    with forked(fresh, 1) as (winner,):
        losing = AbandonedRun(url, fresh.id, "print('lose', flush=True)\nimport time; time.sleep(600)")
        gate = Gate()
        winning = AbandonedRun(url, winner.id, f"print('win', flush=True)\nimport os, time\n{gate.wait}\nprint('won')")
        assert losing.wait_for_event()["data"] == "lose"
        assert winning.wait_for_event()["data"] == "win"
        fresh.merge_into(winner)
        words: list[Any] = []
        while not words or words[-1]["type"] != "exit":
            words.append(losing.wait_for_event())
        assert "taken the place" in words[0]["data"]
        assert words[-1]["data"] != 0
        gate.open(url, fresh.id)
        assert winning.wait_for_event()["data"] == "won"
        assert winning.wait_for_event()["data"] == 0
        losing.leave()
        winning.leave()


def test_a_merge_saves_a_sandbox_whose_vm_is_gone(http: httpx.Client, fresh: Sandbox, machine: Machine) -> None:
    fresh.run_code("kept = 'safe'")
    with forked(fresh, 1) as (winner,):
        machine.kill(pid_of(http, fresh))
        wait_until(
            "the host reports the parent as failed",
            lambda: http.get(f"/v1/sandboxes/{fresh.id}").json()["state"] == "failed",
        )
        assert_error(http.post(f"/v1/sandboxes/{winner.id}/merge_into/{fresh.id}"), 409)
        fresh.merge_into(winner)
    assert fresh.run_code("print(kept)").stdout == "safe"


def test_the_command_line_merges(cli: Any, fresh: Sandbox) -> None:
    child = cli.run("sandbox", "fork", fresh.id).expect(0).stdout.strip()
    cli.run("sandbox", "exec", child, "-c", "mark = 'child'").expect(0)
    assert cli.run("sandbox", "merge", fresh.id, child).expect(0).stdout.strip() == fresh.id
    assert fresh.run_code("print(mark)").stdout == "child"
