"""A host whose disk fills up: guests find theirs full in time, nothing breaks, and all is well when there is room."""

from collections.abc import Iterator

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.waiting import wait_until

LEFT_MIB = 120
"""What is left above the reserve; a guest may use a fourth of it at first, and of what is left then again."""

TOO_MUCH_BYTES = 48 << 20

KEEP = """
import hashlib, os, sqlite3

content = os.urandom(8 << 20)
with open("/root/keep", "wb") as out:
    out.write(content)
    out.flush()
    os.fsync(out.fileno())
digest = hashlib.sha256(content).hexdigest()
database = sqlite3.connect("/root/keep.db")
database.execute("create table t (n integer)")
database.commit()
"""

FILL = """
import errno, os

written, out = 0, os.open("/root/filler", os.O_WRONLY | os.O_CREAT)
piece = os.urandom(1 << 20)
try:
    while written < 1024:
        os.write(out, piece)
        os.fsync(out)
        written += 1
except OSError as error:
    print(errno.errorcode[error.errno], written)
"""

STILL_WELL = """
database.execute("insert into t values (1)")
database.commit()
same = hashlib.sha256(open("/root/keep", "rb").read()).hexdigest() == digest
print(same, database.execute("pragma integrity_check").fetchone()[0])
"""


class Filler:
    """A file that leaves so much of the host's disk. Reserving room writes nothing, so this takes no time."""

    def __init__(self, http: httpx.Client, cli: Cli) -> None:
        self.cli, self.mib = cli, 0
        self.reserve_mib = http.get("/v1/capacity").json()["disk"]["reserve_mib"]

    def fill(self) -> None:
        """May grow: what tests before have deleted gives its room back a moment later."""
        free_mib = int(self.cli.machine("df", "-m", "/state").expect().stdout.split()[-3])
        more = free_mib - self.reserve_mib - LEFT_MIB
        if more > 0:
            self.mib += more
            self.cli.machine("fallocate", "-l", str(self.mib << 20), "/state/filler").expect()

    def remove(self) -> None:
        self.cli.machine("rm", "-f", "/state/filler").expect()


@pytest.fixture
def filler(http: httpx.Client, cli: Cli) -> Iterator[Filler]:
    filler = Filler(http, cli)
    try:
        yield filler
    finally:
        filler.remove()


def free_mib(sandbox: Sandbox) -> int:
    return int(sandbox.run_code("import os; s = os.statvfs('/'); print(s.f_bfree * s.f_frsize >> 20)").stdout)


def write_back_interval(sandbox: Sandbox) -> int:
    return int(sandbox.run_code("print(open('/proc/sys/vm/dirty_writeback_centisecs').read())").stdout)


def test_guests_find_their_disks_full_before_the_host_s_is(
    http: httpx.Client, fresh: Sandbox, filler: Filler
) -> None:
    assert fresh.run_code(KEEP).ok
    usual = write_back_interval(fresh)

    def has_less_room() -> bool:
        filler.fill()
        return free_mib(fresh) <= LEFT_MIB // 2

    wait_until("the guest to have less room", has_less_room)
    # What it holds back shall come while there is room for it.
    assert write_back_interval(fresh) < usual
    outcome, written = fresh.run_code(FILL).stdout.split()
    assert outcome == "ENOSPC" and int(written) <= LEFT_MIB
    refused = http.put(f"/v1/sandboxes/{fresh.id}/files", params={"path": "/root/more"}, content=bytes(TOO_MUCH_BYTES))
    assert (refused.status_code, refused.json()["code"]) == (409, "disk_full"), refused.text
    disk = http.get("/v1/capacity").json()["disk"]
    assert disk["free_mib"] >= disk["reserve_mib"] // 2
    complaints = fresh.run_code("dmesg | grep -ciE 'i/o error|ext4-fs (error|warning)' || true", language="bash")
    assert complaints.stdout.strip() == "0", complaints.stdout
    filler.remove()
    wait_until("the guest to have its room back", lambda: free_mib(fresh) > 8 * LEFT_MIB)
    assert write_back_interval(fresh) == usual
    assert fresh.run_code("os.unlink('/root/filler')").ok
    assert fresh.run_code(STILL_WELL).stdout == "True ok"
