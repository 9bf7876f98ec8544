"""From create to destroy, and sandboxes side by side."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from podflare import Client, Sandbox

from support.machine import Machine
from support.waiting import wait_until
from support.wire import AbandonedRun, assert_error, sandbox_ids


def test_leaving_the_with_block_destroys_the_sandbox_and_its_vm(url: str, http: httpx.Client, machine: Machine) -> None:
    with Sandbox(host=url) as sandbox:
        assert sandbox.id in sandbox_ids(http)
        pid = http.get(f"/v1/sandboxes/{sandbox.id}").json()["vmm_pid"]
        assert pid in {process.pid for process in machine.processes("podflare-vmm")}
    assert sandbox.id not in sandbox_ids(http)
    assert_error(http.get(f"/v1/sandboxes/{sandbox.id}"), 404)
    body = assert_error(http.post(f"/v1/sandboxes/{sandbox.id}/exec", json={"code": "1"}), 404)
    assert "sandbox not found" in body["error"]
    with pytest.raises(httpx.HTTPStatusError) as raised:
        sandbox.run_code("print(1)")
    assert raised.value.response.status_code == 404
    for _ in range(2):
        assert http.delete(f"/v1/sandboxes/{sandbox.id}").status_code in (200, 204)
    sandbox.close()
    wait_until(
        f"VM process {pid} is gone",
        lambda: pid not in {process.pid for process in machine.processes("podflare-vmm")},
    )


def test_destroying_a_sandbox_ends_its_running_stream(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url) as sandbox:
        stream = sandbox.run_code_stream("import time\nprint('running', flush=True)\ntime.sleep(600)")
        assert next(stream).data == "running"
        queued = AbandonedRun(url, sandbox.id, "print('never')")
        queued.wait_for_headers()
        assert http.delete(f"/v1/sandboxes/{sandbox.id}").status_code == 204
        # Long before the code would end.
        rest = list(stream)
        assert rest[-1].type == "exit" and rest[-1].data != 0
        last = queued.wait_for_event()
        while last["type"] != "exit":
            last = queued.wait_for_event()
        assert last["data"] != 0
        queued.leave()


def test_deleting_twice_at_once_is_fine(url: str, http: httpx.Client) -> None:
    sandbox_id = http.post("/v1/sandboxes", json={}).json()["id"]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: httpx.delete(f"{url}/v1/sandboxes/{sandbox_id}", timeout=180).status_code, range(4))
        assert set(answers) <= {200, 204}


def test_the_list_shows_each_sandbox_with_its_state(http: httpx.Client, box: Sandbox, neighbour: Sandbox) -> None:
    assert {box.id, neighbour.id} <= sandbox_ids(http)


def test_three_sandboxes_work_at_the_same_time_each_for_itself(
    url: str, box: Sandbox, neighbour: Sandbox, fresh: Sandbox
) -> None:
    def work(numbered: tuple[int, Sandbox]) -> list[str]:
        number, sandbox = numbered
        client = Client(host=url)
        mine = Sandbox._from_id(sandbox.id, client)
        answers = [mine.run_code(f"seen = [{number}]").stdout]
        for n in range(15):
            answers.append(mine.run_code(f"seen.append({n}); print(len(seen), seen[0], seen[-1])").stdout)
        client.close()
        return answers

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(work, enumerate((box, neighbour, fresh))))
    for number, answers in enumerate(results):
        assert answers == ["", *(f"{n + 2} {number} {n}" for n in range(15))]


def test_a_busy_sandbox_does_not_hold_up_another(
    url: str, http: httpx.Client, box: Sandbox, neighbour: Sandbox
) -> None:
    sleeper = AbandonedRun(url, box.id, "print('go', flush=True)\nimport time; time.sleep(600)")
    sleeper.wait_for_event()
    assert neighbour.run_code("print('free')").stdout == "free"
    assert http.get(f"/v1/sandboxes/{box.id}").json()["running_execs"] == 1
    sleeper.leave()


def test_eight_threads_on_one_sandbox_take_turns(url: str, box: Sandbox) -> None:
    box.run_code("inside = 0; most = 0")
    code = """
import time
inside += 1
most = max(most, inside)
time.sleep(0.05)
inside -= 1
print({number})
"""

    def run(number: int) -> str:
        client = Client(host=url)
        output = Sandbox._from_id(box.id, client).run_code(code.format(number=number)).stdout
        client.close()
        return output

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(24))) == [str(n) for n in range(24)]
    assert box.run_code("print(most, inside)").stdout == "1 0"


def test_python_and_bash_share_one_queue(url: str, box: Sandbox) -> None:
    box.run_code("rm -f /root/turn", language="bash")
    code = "print('go', flush=True)\nimport time; time.sleep(1.5); open('/root/turn', 'w').close()"
    first = AbandonedRun(url, box.id, code)
    first.wait_for_event()
    assert box.run_code("test -e /root/turn && echo after", language="bash").stdout == "after"
    first.leave()


def test_three_creates_at_once_all_succeed(url: str) -> None:
    def create(_: int) -> str:
        with Sandbox(host=url) as sandbox:
            return sandbox.run_code("print('up')").stdout

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(create, range(3))) == ["up"] * 3
