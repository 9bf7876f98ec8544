"""kill -9 of any of a family: the others live, and what was killed is replaced or reported."""

import threading
from typing import Any

import httpx
from podflare import Sandbox

from support.family import forked
from support.machine import Machine
from support.waiting import wait_until


def pid_of(http: httpx.Client, sandbox: Sandbox) -> int:
    return http.get(f"/v1/sandboxes/{sandbox.id}").json()["vmm_pid"]


def wait_until_failed(http: httpx.Client, sandbox: Sandbox) -> None:
    wait_until(
        f"the host reports {sandbox.id} as failed",
        lambda: http.get(f"/v1/sandboxes/{sandbox.id}").json()["state"] == "failed",
    )


def default_pool(http: httpx.Client) -> dict[str, Any]:
    pools = http.get("/v1/capacity").json()["pools"]
    return next(pool for pool in pools if pool["template"] == "default")


def test_a_killed_child_is_missed_by_nobody(http: httpx.Client, machine: Machine, fresh: Sandbox) -> None:
    fresh.run_code("kept = 'all'")
    with forked(fresh, 3) as (victim, second, third):
        machine.kill(pid_of(http, victim))
        wait_until_failed(http, victim)
        for sandbox in (fresh, second, third):
            assert sandbox.run_code("print(kept)").stdout == "all"
        (again,) = fresh.fork(1)
        assert again.run_code("print(kept)").stdout == "all"
        again.close()


def test_a_killed_parent_takes_no_child_with_it(http: httpx.Client, machine: Machine, fresh: Sandbox) -> None:
    fresh.run_code("kept = 'all'")
    with forked(fresh, 3) as children:
        machine.kill(pid_of(http, fresh))
        wait_until_failed(http, fresh)
        for child in children:
            assert child.run_code("print(kept); kept = 'more'").stdout == "all"
        (grandchild,) = children[0].fork(1)
        assert grandchild.run_code("print(kept)").stdout == "more"
        grandchild.close()


def test_a_killed_zygote_comes_back_by_itself(url: str, http: httpx.Client, machine: Machine) -> None:
    wait_until("the default template is ready", lambda: default_pool(http)["state"] == "ready")
    restores = default_pool(http)["restores"]
    machine.kill(machine.zygote(http, "default"))
    # As many as empty any pool, so that some need the zygote.
    sandboxes = [Sandbox(host=url) for _ in range(default_pool(http)["target"] + 3)]
    for sandbox in sandboxes:
        assert sandbox.run_code("print('well')").stdout == "well"
        sandbox.close()
    wait_until("there is another zygote", lambda: default_pool(http)["restores"] > restores)
    wait_until("the pool is full", lambda: default_pool(http)["size"] == default_pool(http)["target"])


def test_a_zygote_killed_while_it_clones_leaves_nothing_behind(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    answers: list[int] = []
    stop = threading.Event()

    def create() -> None:
        with httpx.Client(base_url=url, timeout=180, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/v1/sandboxes", json={})
                answers.append(answer.status_code)
                if answer.status_code == 200:
                    client.delete(f"/v1/sandboxes/{answer.json()['id']}")
                else:
                    assert answer.json()["code"] in ("boot_failed", "no_capacity"), answer.text

    workers = [threading.Thread(target=create) for _ in range(3)]
    for worker in workers:
        worker.start()
    killed = {0}

    def another() -> int | None:
        pool = default_pool(http)
        # One that is dead may be shown for a moment.
        return pool.get("zygote_pid") if pool["state"] == "ready" and pool.get("zygote_pid") not in killed else None

    for _ in range(3):
        zygote = wait_until("the default template is ready", another)
        killed.add(zygote)
        machine.kill(zygote)
    wait_until("the default template is ready", another)
    stop.set()
    for worker in workers:
        worker.join()
    assert 200 in answers
    wait_until("only zygotes and pooled VMs are left, orphans have been ended", lambda: machine.strays(http) == 0)
