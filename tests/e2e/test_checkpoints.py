"""Checkpoints and rollback: snapshot before a risky command, undo after, under the same id."""

import httpx
from podflare import Sandbox

from support.cli import Cli
from support.machine import Machine
from support.waiting import wait_until
from support.wire import AbandonedRun, assert_error


def checkpoint(http: httpx.Client, box: Sandbox, name: str | None = None) -> dict:
    answer = http.post(f"/v1/sandboxes/{box.id}/checkpoints", json={"name": name} if name else {})
    assert answer.status_code == 200, answer.text
    return answer.json()


def roll_back(http: httpx.Client, box: Sandbox, to: str | None = None) -> httpx.Response:
    answer = http.post(f"/v1/sandboxes/{box.id}/rollback", json={"checkpoint": to} if to else {})
    assert answer.status_code == 200, answer.text
    return answer


def pid_of(http: httpx.Client, box: Sandbox) -> int:
    return http.get(f"/v1/sandboxes/{box.id}").json()["vmm_pid"]


COUNTER = """
import subprocess
counter = subprocess.Popen(['sh', '-c', 'while sleep 0.2; do echo >> /tmp/count; done'])
"""


def test_undo_restores_files_variables_and_processes_under_the_same_id_twice(
    http: httpx.Client, fresh: Sandbox, machine: Machine
) -> None:
    fresh.run_code("import os; os.makedirs('/root/desk/deep'); open('/root/desk/deep/a', 'w').write('precious')")
    fresh.run_code("x = [1, 2]; held = open('/root/desk/deep/a')\n" + COUNTER)
    hostname = fresh.run_code("hostname", language="bash").stdout
    made = checkpoint(http, fresh, "before")
    old = pid_of(http, fresh)
    for _ in range(2):
        fresh.run_code("rm -rf /root/desk; sync", language="bash")
        fresh.run_code("x.append(3); held.close(); counter.kill(); counter.wait()")
        answer = roll_back(http, fresh)
        assert answer.json()["checkpoint"]["id"] == made["id"]
        assert "identity;dur=" in answer.headers["server-timing"]
        assert fresh.run_code("print(x, held.read(), counter.poll())").stdout == "[1, 2] precious None"
        assert fresh.run_code("cat /root/desk/deep/a; echo; hostname", language="bash").stdout == f"precious\n{hostname}"
        # The background process goes on counting, in both.
        counted = "import os; print(os.path.getsize('/tmp/count') if os.path.exists('/tmp/count') else 0)"
        seen = int(fresh.run_code(counted).stdout)
        wait_until("it counts on", lambda: int(fresh.run_code(counted).stdout) > seen)
    wait_until("the VMs before are gone", lambda: old not in {p.pid for p in machine.processes("podflare-vmm")})
    assert fresh.run_code("import datetime, time; print(time.time())").exit_code == 0


def test_a_run_in_progress_ends_with_a_word_and_randomness_is_new(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    fresh.run_code("import random")
    checkpoint(http, fresh, "calm")
    draws = []
    for _ in range(2):
        run = AbandonedRun(url, fresh.id, "print('risky', flush=True)\nimport time; time.sleep(600)")
        assert run.wait_for_event()["data"] == "risky"
        assert roll_back(http, fresh, "calm").json()["ended_execs"] == 1
        word = run.wait_for_event()
        assert "rolled back" in word["data"]
        assert run.wait_for_event()["data"] == 137
        run.leave()
        draws.append(fresh.run_code("print(random.random())").stdout)
    assert draws[0] != draws[1], "what goes on from one checkpoint twice draws differently"


def test_names_deletion_and_limits(http: httpx.Client, fresh: Sandbox) -> None:
    path = f"/v1/sandboxes/{fresh.id}/checkpoints"
    assert_error(http.post(f"/v1/sandboxes/{fresh.id}/rollback"), 404, "no checkpoints")
    fresh.run_code("n = 1")
    one = checkpoint(http, fresh, "one")
    fresh.run_code("n = 2")
    two = checkpoint(http, fresh)
    assert two["name"] == "checkpoint-1"
    assert_error(http.post(path, json={"name": "one"}), 409, "one")
    assert_error(http.post(path, json={"name": "no/slash"}), 400, "name")
    assert [entry["id"] for entry in http.get(path).json()["checkpoints"]] == [one["id"], two["id"]]
    roll_back(http, fresh, one["id"])
    assert fresh.run_code("print(n)").stdout == "1"
    roll_back(http, fresh)
    assert fresh.run_code("print(n)").stdout == "2"
    assert_error(http.post(f"/v1/sandboxes/{fresh.id}/rollback", json={"checkpoint": "three"}), 404, "one, checkpoint-1")
    for _ in range(2):
        assert http.delete(f"{path}/one").status_code == 204
    assert_error(http.post(f"/v1/sandboxes/{fresh.id}/rollback", json={"checkpoint": "one"}), 404)
    assert fresh.run_code("print(n)").stdout == "2"


def test_a_killed_checkpoint_is_lost_and_a_checkpoint_saves_a_dead_sandbox(
    http: httpx.Client, fresh: Sandbox, machine: Machine
) -> None:
    fresh.run_code("kept = 'safe'")
    checkpoint(http, fresh, "safe")
    before = {process.pid for process in machine.processes("podflare-vmm")}
    checkpoint(http, fresh, "doomed")
    new = {process.pid for process in machine.processes("podflare-vmm")} - before
    # Pools may have got one meanwhile, or lost one.
    parents = {pid: machine.output("sh", "-c", f"cut -d' ' -f4 /proc/{pid}/stat || true").strip() for pid in new}
    (doomed,) = [pid for pid, parent in parents.items() if parent == str(pid_of(http, fresh))]
    machine.kill(doomed)
    path = f"/v1/sandboxes/{fresh.id}"

    def states() -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in http.get(f"{path}/checkpoints").json()["checkpoints"]}

    wait_until("it is reported lost", lambda: states() == {"safe": "ready", "doomed": "lost"})
    assert_error(http.post(f"{path}/rollback"), 409, "lost")
    assert fresh.run_code("print(kept)").stdout == "safe"
    machine.kill(pid_of(http, fresh))
    wait_until("the sandbox has failed", lambda: http.get(path).json()["state"] == "failed")
    roll_back(http, fresh, "safe")
    assert fresh.run_code("print(kept)").stdout == "safe"
    assert http.get(path).json()["state"] == "ready"


def test_the_command_line_keeps_goes_back_and_draws(cli: Cli, fresh: Sandbox) -> None:
    fresh.run_code("v = 'old'")
    assert cli.run("sandbox", "checkpoint", fresh.id, "--name", "mark").expect(0).stdout == "mark\n"
    fresh.run_code("v = 'new'")
    assert "checkpoints: mark" in cli.run("sandbox", "tree", fresh.id).expect(0).stdout
    assert cli.run("sandbox", "rollback", fresh.id).expect(0).stdout == "mark\n"
    assert fresh.run_code("print(v)").stdout == "old"
    cli.run("sandbox", "checkpoints", fresh.id, "--rm", "mark").expect(0)
    assert "no checkpoints" in cli.run("sandbox", "rollback", fresh.id).expect(1).stderr
