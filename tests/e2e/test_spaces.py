"""Sandboxes that are frozen to disk and go on later: nothing of what a user has is lost on the way."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from podflare import Client, Sandbox
from support.cli import Cli
from support.operator import tenants
from support.machine import Machine
from support.restarts import replace_daemon
from support.terminals import opened
from support.waiting import wait_until
from support.wire import raw_exec

PATIENCE_SECONDS = 240


def freeze(http: httpx.Client, sandbox_id: str) -> str:
    answer = http.post(f"/v1/sandboxes/{sandbox_id}/freeze", timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def says(url: str, sandbox_id: str, code: str, language: str = "python") -> str:
    run = raw_exec(url, sandbox_id, code, language=language)
    assert run.status == 200, run.rest
    assert run.exit_code == 0, run.output("stderr")
    return run.output()


@contextmanager
def resumed(url: str, space: str, **options: object) -> Iterator[Sandbox]:
    with Sandbox.resume(space, host=url, **options) as sandbox:
        yield sandbox


ALIVE = """
import threading, time, subprocess
book = open("/root/book", "w"); book.write("before;"); book.flush()
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.05)
threading.Thread(target=tick, daemon=True).start()
child = subprocess.Popen(["sleep", "100000"])
answer = 42
"""

STILL_ALIVE = """
book.write("after;"); book.flush()
was, deadline = ticks, time.monotonic() + 60
while ticks == was and time.monotonic() < deadline:
    time.sleep(0.05)
print(answer, child.poll(), open("/root/book").read(), ticks > was)
"""


def test_everything_alive_goes_on_under_a_new_id_and_another_daemon(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    sandbox = Sandbox(host=url)
    assert sandbox.run_code(ALIVE).ok
    pty, output = opened(sandbox, "export WHERE=terminal; exec bash")
    output.wait_for("# ")
    pty.send_input("cd /tmp; kept=here; echo set-$kept\n")
    output.wait_for("set-here")
    space = freeze(http, sandbox.id)
    gone = http.post(f"/v1/sandboxes/{sandbox.id}/exec", json={"code": "1"})
    assert gone.status_code == 404
    assert space in gone.json()["hint"]
    replace_daemon(machine, http)
    with resumed(url, space) as again:
        assert again.id != sandbox.id
        assert again.run_code(STILL_ALIVE).stdout.strip() == "42 None before;after; True"
        hostname = says(url, again.id, "hostname", "bash")
        assert hostname == f"sbx-{again.id[4:16]}"
        http.post(
            f"/v1/sandboxes/{again.id}/pty/{pty.id}/input",
            json={"data_b64": "ZWNobyAkV0hFUkUgJFBXRCAka2VwdCA+IC90bXAvc2FpZAo="},
        ).raise_for_status()
        wait_until(
            "the terminal has answered",
            lambda: says(url, again.id, "cat /tmp/said 2>/dev/null || true", "bash") == "terminal /tmp here",
            PATIENCE_SECONDS,
        )
        with pytest.raises(httpx.HTTPStatusError) as second:
            Sandbox.resume(space, host=url)
        assert second.value.response.status_code == 404


def test_time_jumps_for_a_frozen_guest_and_its_clock_is_right(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url) as sandbox:
        says(url, sandbox.id, "import time; wall, steady = time.time(), time.monotonic()")
        space = freeze(http, sandbox.id)
        with resumed(url, space) as again:
            code = "import time; print(abs(time.time() - wall - (time.monotonic() - steady)) < 60, time.time())"

            def host_time() -> float:
                return parsedate_to_datetime(http.get("/v1/healthz").headers["date"]).timestamp()

            before = host_time()
            right, now = says(url, again.id, code).split()
            assert right == "True"
            assert before - 5 < float(now) < host_time() + 5


def test_a_run_in_progress_goes_on(url: str, http: httpx.Client) -> None:
    sandbox = Sandbox(host=url)
    code = "import time\nfor n in range(60):\n    print('line', n)\n    time.sleep(0.1)\n"
    with httpx.stream(
        "POST", f"{url}/v1/sandboxes/{sandbox.id}/exec", json={"code": code}, timeout=PATIENCE_SECONDS
    ) as run:
        # Held, because a generator that is dropped hangs up.
        events_of_it = run.iter_lines()
        first = next(filter(None, events_of_it))
        assert json.loads(first)["data"] == "line 0"
        space = freeze(http, sandbox.id)
    with resumed(url, space) as again:
        assert says(url, again.id, "print('queued behind it')") == "queued behind it"
        events = [event for event in again.replay() if event.type == "stdout"]
        lines = [str(event.data) for event in events if str(event.data).startswith("line ")]
        assert lines == [f"line {n}" for n in range(60)], lines


def test_a_space_is_deleted_and_a_kept_one_resumed_twice(url: str, http: httpx.Client) -> None:
    sandbox = Sandbox(host=url)
    says(url, sandbox.id, "x = 1")
    space = freeze(http, sandbox.id)
    for _ in range(2):
        answer = http.post(f"/v1/spaces/{space}/resume", json={"keep": True}, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        one = answer.json()["id"]
        assert says(url, one, "print(x); x += 1") == "1"
        http.delete(f"/v1/sandboxes/{one}")
    assert space in [entry["id"] for entry in http.get("/v1/spaces").json()["spaces"]]
    client = Client(host=url)
    client.delete_space(space)
    client.delete_space(space)
    with pytest.raises(httpx.HTTPStatusError):
        Sandbox.resume(space, host=url)


CYCLE = """
import hashlib, os, sqlite3
os.makedirs("/root/scratch", exist_ok=True)
db = sqlite3.connect("/root/scratch/data.db", isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("create table if not exists rounds (n integer, noise text)")
def step(n):
    db.execute("begin")
    db.execute("insert into rounds values (?, ?)", (n, os.urandom(2000).hex()))
    db.execute("commit")
    with open(f"/root/scratch/blob-{n}", "wb") as blob:
        blob.write(os.urandom(200_000))
def digest():
    h = hashlib.sha256()
    for row in db.execute("select n, noise from rounds order by n"):
        h.update(repr(row).encode())
    for name in sorted(os.listdir("/root/scratch")):
        if name.startswith("blob-"):
            h.update(open(f"/root/scratch/{name}", "rb").read())
    return h.hexdigest()
"""


def test_cycles_lose_nothing_and_do_not_grow_without_bound(url: str, http: httpx.Client) -> None:
    sandbox = Sandbox(host=url)
    says(url, sandbox.id, CYCLE)
    sandbox_id, sizes = sandbox.id, []
    for n in range(5):
        before = says(url, sandbox_id, f"step({n}); print(digest())")
        space = freeze(http, sandbox_id)
        sizes.append(http.get(f"/v1/spaces/{space}").json()["bytes"])
        answer = http.post(f"/v1/spaces/{space}/resume", json={}, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        sandbox_id = answer.json()["id"]
        assert says(url, sandbox_id, "print(digest())") == before
        assert says(url, sandbox_id, "print(db.execute('pragma integrity_check').fetchone()[0])") == "ok"
    http.delete(f"/v1/sandboxes/{sandbox_id}")
    # Each round adds a quarter of a MiB to the disk and to the page cache.
    assert sizes[-1] - sizes[0] < 24 << 20, sizes


FLIP = """
file=/state/hostd/spaces/{space}/{file}
at=$(($(stat -c %s $file) / 2))
byte=$(dd if=$file bs=1 skip=$at count=1 2>/dev/null | od -An -tu1 | tr -dc 0-9)
printf "\\\\$(printf %03o $((byte ^ 1)))" | dd of=$file bs=1 seek=$at conv=notrunc 2>/dev/null
"""
CUT = "cd /state/hostd/spaces/{space}; cp {file} /tmp/whole; truncate -s 100 {file}"
MEND = "cp /tmp/whole /state/hostd/spaces/{space}/{file}"


def test_damage_anywhere_in_a_space_is_noticed_and_the_space_is_kept(
    url: str, http: httpx.Client, machine: Machine
) -> None:
    sandbox = Sandbox(host=url)
    says(url, sandbox.id, "import os; kept = os.urandom(3 << 20); open('/root/kept', 'wb').write(kept); os.sync()")
    space = freeze(http, sandbox.id)

    def spoil(script: str, file: str) -> None:
        machine.output("sh", "-c", script.format(space=space, file=file))

    for damage, mend, file in [
        (FLIP, FLIP, "vm/memory"),
        (FLIP, FLIP, "vm/disk"),
        (FLIP, FLIP, "vm/state"),
        (FLIP, FLIP, "replay"),
        (CUT, MEND, "vm/memory"),
        (CUT, MEND, "vm/state"),
    ]:
        spoil(damage, file)
        refused = http.post(f"/v1/spaces/{space}/resume", json={}, timeout=PATIENCE_SECONDS)
        assert refused.status_code in (409, 500), (file, refused.text)
        assert refused.json()["code"] in ("space_unusable", "resume_failed"), (file, refused.text)
        assert http.get(f"/v1/spaces/{space}").status_code == 200, file
        spoil(mend, file)
    with resumed(url, space) as again:
        assert says(url, again.id, "print(open('/root/kept', 'rb').read() == kept)") == "True"


def test_a_space_goes_through_a_file_and_a_damaged_file_changes_nothing(
    url: str, http: httpx.Client, cli: Cli, tmp_path: Path
) -> None:
    sandbox = Sandbox(host=url)
    says(url, sandbox.id, "kept = [n * n for n in range(100)]; open('/root/kept', 'w').write('on disk')")
    space = freeze(http, sandbox.id)
    file = tmp_path / "work.space"
    cli.run("space", "export", space, "-o", str(file)).expect()
    http.delete(f"/v1/spaces/{space}").raise_for_status()
    whole = file.read_bytes()
    damaged = tmp_path / "damaged.space"
    middle = len(whole) // 2
    damaged.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    refused = cli.run("space", "import", str(damaged)).expect(1)
    assert "damaged" in refused.stderr, refused
    assert http.get("/v1/spaces").json()["spaces"] == []
    imported = cli.run("space", "import", str(file)).expect().stdout.strip()
    assert imported != space
    assert http.get(f"/v1/spaces/{imported}").json()["cause"] == "import"
    with resumed(url, imported) as again:
        assert says(url, again.id, "print(sum(kept), open('/root/kept').read())") == "328350 on disk"


def test_a_tenant_decides_whether_its_sandboxes_are_woken(cli: Cli, url: str) -> None:
    with tenants(cli, url) as make:
        tenant = make("e2e-wakes", "--wake", "on")
        with tenant.http() as acme:
            sandbox = acme.post("/v1/sandboxes", json={}).raise_for_status().json()["id"]
            for wake, status in [("on", 200), ("off", 404)]:
                cli.run("tenant", "set", tenant.name, "--wake", wake).expect()
                freeze(acme, sandbox)
                run = acme.post(f"/v1/sandboxes/{sandbox}/exec", json={"code": "print(6 * 7)"})
                assert run.status_code == status, run.text
                assert status != 200 or '"42"' in run.text, run.text
