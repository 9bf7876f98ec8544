"""A machine that loses its power: what was on its disk when it was told of is there when it comes up again."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.cli import Cli
from support.daemon import free_port
from support.waiting import wait_until

UP_SECONDS = 600
CALL_SECONDS = 180


@pytest.fixture
def another(cli: Cli, tmp_path: Path) -> Iterator[Cli]:
    """The command line for a host of this test's own, which is down."""
    if cli.is_on_hardware:
        pytest.skip("the power of this machine is not ours to cut")
    other = cli.elsewhere(f"http://127.0.0.1:{free_port()}", tmp_path / "state")
    try:
        yield other
    finally:
        other.run("down").expect()
        shutil.rmtree(tmp_path, ignore_errors=True)


def told(caller: httpx.Client, sandbox: str, code: str) -> str:
    answer = caller.post(f"/v1/sandboxes/{sandbox}/exec", json={"code": code}).raise_for_status()
    events = [json.loads(line) for line in answer.text.split("\n") if line.strip()]
    assert events[-1]["data"] == 0, answer.text
    return "".join(str(event["data"]) for event in events if event["type"] == "stdout")


@pytest.mark.timeout(2000)
def test_spaces_and_keys_are_there_after_a_power_cut(another: Cli) -> None:
    url, state_dir = (another.environment[name] for name in ("PODFLARE_API_URL", "PODFLARE_STATE_DIR"))
    up = ("up", "--port", url.rsplit(":", 1)[1], "--memory", "2048", "--pool", "default=1")
    another.run(*up, seconds=UP_SECONDS).expect()
    another.run("tenant", "create", "acme").expect()
    key = another.run("key", "create", "--tenant", "acme", "--name", "test").expect().stdout.strip()
    # Without kept connections: the first machine's are gone with it.
    once = httpx.Limits(max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=CALL_SECONDS, limits=once) as acme:
        made = acme.post("/v1/sandboxes", json={}).raise_for_status().json()["id"]
        told(acme, made, "kept = 'yes'; print(open('/root/kept', 'w').write('too'))")
        space = acme.post(f"/v1/sandboxes/{made}/freeze").raise_for_status().json()["id"]
        running = acme.post("/v1/sandboxes", json={}).raise_for_status().json()["id"]
        status = Path(state_dir) / "run/status.json"
        os.kill(json.loads(status.read_text())["process"]["pid"], signal.SIGKILL)

        def is_up_again() -> bool:
            seen = json.loads(status.read_text())
            return (seen["state"], seen["restarts"]) == ("running", 1)

        wait_until("the machine is up again", is_up_again, UP_SECONDS, every=1)
        assert [entry["id"] for entry in acme.get("/v1/spaces").json()["spaces"]] == [space]
        assert acme.get(f"/v1/sandboxes/{running}").status_code == 404, "it ended with its machine"
        again = acme.post(f"/v1/spaces/{space}/resume", json={}).raise_for_status().json()["id"]
        assert told(acme, again, "print(kept, open('/root/kept').read())") == "yes too"
