"""Clones are somebody: siblings share neither randomness nor names, and all agree with the clock."""

import json
import time

import httpx
import pytest
from podflare import Sandbox

from support.family import close_all, forked, run_in_each

IDENTITY = """
import json, os, random, secrets, socket, subprocess, tempfile, uuid
print(json.dumps({
    "random": random.random(),
    "system random": random.SystemRandom().random(),
    "uuid4": str(uuid.uuid4()),
    "uuid1": str(uuid.uuid1()),
    "secrets": secrets.token_hex(16),
    "urandom": os.urandom(16).hex(),
    "hostname": socket.gethostname(),
    "/etc/hostname": open("/etc/hostname").read(),
    "machine-id": open("/etc/machine-id").read(),
    "in bash": subprocess.run("echo $RANDOM$RANDOM$RANDOM", shell=True, executable="/bin/bash", capture_output=True, text=True).stdout,
    "temporary file": os.path.basename(tempfile.mktemp()),
}))
"""


def test_siblings_and_their_parent_share_no_identity(url: str, fresh: Sandbox) -> None:
    # All of these have state in the interpreter by now, which a fork copies.
    fresh.run_code("import random, uuid, secrets, tempfile; random.seed(7); random.random(); uuid.uuid4(); tempfile.mktemp()")
    with forked(fresh, 6) as children:
        identities = [json.loads(text) for text in run_in_each(url, [fresh, *children], IDENTITY)]
        for what in identities[0]:
            values = [identity[what] for identity in identities]
            assert len(set(values)) == len(values), f"{what} is shared: {values}"


def test_a_sandbox_from_the_pool_is_known_to_itself_by_its_id(fresh: Sandbox) -> None:
    digits = fresh.id.removeprefix("sbx_")
    assert fresh.run_code("import socket; print(socket.gethostname())").stdout == f"sbx-{digits[:12]}"
    assert fresh.run_code("cat /etc/machine-id", language="bash").stdout == digits


def test_created_sandboxes_share_no_identity(url: str, http: httpx.Client) -> None:
    sandboxes = [Sandbox(host=url) for _ in range(5)]
    try:
        identities = [json.loads(text) for text in run_in_each(url, sandboxes, IDENTITY)]
        for what in identities[0]:
            values = [identity[what] for identity in identities]
            assert len(set(values)) == len(values), f"{what} is shared: {values}"
    finally:
        close_all(sandboxes)


def clock_bounds_ms(url: str, sandbox_id: str) -> tuple[float, float]:
    """By how much the guest's clock is ahead of ours, at least and at most: what it shows in an answer, it showed after
    the question and before the answer came."""
    least, most = float("-inf"), float("inf")
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for _ in range(25):
            before = time.time()
            answer = client.post(f"/v1/sandboxes/{sandbox_id}/exec", json={"code": "import time; print(time.time())"})
            after = time.time()
            line = next(line for line in answer.text.splitlines() if line)
            guest = float(json.loads(line)["data"])
            least, most = max(least, guest - after), min(most, guest - before)
    return least * 1000, most * 1000


def apart_ms(bounds: list[tuple[float, float]]) -> float:
    """How far apart the clocks are for certain."""
    return max(least for least, _ in bounds) - min(most for _, most in bounds)


@pytest.mark.parametrize("kind", ["from the pool", "forked"])
def test_clocks_agree(url: str, fresh: Sandbox, kind: str) -> None:
    """With the host's clock, which in the software host is another than this machine's: so with each other's."""
    # A host that is busy for long gives up at what the way to a guest lets it see, so one family of some must be right; what
    # must never be is a clone with the clock of its snapshot, or of its parent's past.
    apart = []
    for _ in range(6):
        sandboxes = fresh.fork(3) if kind == "forked" else [Sandbox(host=url) for _ in range(3)]
        try:
            bounds = [clock_bounds_ms(url, sandbox.id) for sandbox in [fresh, *sandboxes]]
        finally:
            close_all(sandboxes)
        assert all(least < 2000 and most > -2000 for least, most in bounds), bounds
        apart.append(apart_ms(bounds))
        assert apart[-1] < 250, bounds
        if apart[-1] <= 5:
            return
    raise AssertionError(f"clocks are apart by at least these milliseconds: {apart}")
