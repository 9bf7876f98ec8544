"""The network of sandboxes: what they reach, what they do not, and what becomes of it when they are forked.

Servers are on this machine's loopback, which the software host sees as 10.0.2.2: a private address, so a sandbox has to be
allowed to reach it.
"""

import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.capture import captured
from support.cli import Cli
from support.machine import Machine
from support.outside import Echo, files_over_http, forks, made
from support.restarts import replace_daemon
from support.settings import Settings
from support.waiting import Stopwatch, wait_until
from support.wire import assert_error

HERE = "10.0.2.2"
"""This machine, from within the software host."""

DOWNLOAD_BYTES = 256 << 20

CONNECTIONS = 1000

TIMES_OUT = "TimeoutError"
"""A connection whose packets vanish. One that is refused ends in ConnectionRefusedError."""

NOTHING = (TIMES_OUT, "ConnectionRefusedError", "ConnectionResetError", "OSError", "closed")
"""What becomes of a connection that is not allowed."""


@pytest.fixture(autouse=True)
def _on_software_host(cli: Cli) -> None:
    if cli.is_on_hardware:
        pytest.skip("no rule opens this machine's own loopback to sandboxes that run on it")


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


def only(*rules: str) -> dict[str, list[str]]:
    return {"allow": list(rules)}


# What is reached.


def test_a_package_of_python_is_installed_and_imported_in_the_running_repl(fresh: Sandbox) -> None:
    fresh.run_code("before = 1")
    installed = fresh.run_code("pip install --quiet --break-system-packages six 2>&1", language="bash")
    assert installed.ok, installed.stdout + installed.stderr
    done = fresh.run_code("import six; print(before, six.__name__, bool(six.__version__))")
    assert done.stdout == "1 six True", done.stderr


@pytest.mark.timeout(1200)
def test_a_package_of_debian_is_installed(http: httpx.Client, url: str) -> None:
    with made(http, url, True) as sandbox:
        said = sandbox.bash("apt-get update -qq 2>&1 && apt-get install -y -qq hello 2>&1 && hello", seconds=900)
        assert said.rstrip().endswith("Hello, world!"), said[-3000:]


def test_a_repository_is_cloned(http: httpx.Client, url: str, tmp_path: Path) -> None:
    repository = tmp_path / "work"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(repository)]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for number in range(20):
        (repository / f"file-{number}").write_bytes(b"content %d\n" % number * 5000)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", f"commit {number}"], check=True)
    bare = tmp_path / "served" / "work.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repository), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    with files_over_http(tmp_path / "served") as port, made(http, url, only(f"{HERE}:{port}")) as sandbox:
        cloned = sandbox.bash(f"git clone -q http://{HERE}:{port}/work.git /root/work && git -C /root/work rev-parse HEAD")
        assert cloned.strip() == head
        assert sandbox.bash("git -C /root/work fsck --full 2>&1 | grep -v ^notice | wc -l").strip() == "0"


@pytest.mark.timeout(1800)
def test_a_large_download_is_whole_and_its_rate_is_reported(
    http: httpx.Client, url: str, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    pattern = bytes(range(256)) * 4096
    with (tmp_path / "large").open("wb") as large:
        for _ in range(DOWNLOAD_BYTES // len(pattern)):
            large.write(pattern)
    with files_over_http(tmp_path) as port, made(http, url, only(f"{HERE}:{port}")) as sandbox:
        ticks = cpu_ticks(machine)
        done = sandbox.run(
            f"""
import time, urllib.request, zlib
began, crc, size = time.monotonic(), 0, 0
with urllib.request.urlopen("http://{HERE}:{port}/large") as answer:
    while piece := answer.read(1 << 20):
        crc, size = zlib.crc32(piece, crc), size + len(piece)
print(crc, size, time.monotonic() - began)
""",
            seconds=900,
        ).split()
        ticks = cpu_ticks(machine) - ticks
        # QEMU's own user network alone, for comparison: from the software host itself.
        alone = Stopwatch()
        machine.output("wget", "-q", "-O", "/dev/null", f"http://{HERE}:{port}/large", seconds=600)
        alone_seconds = alone.seconds
        network = sandbox.info()["network"]
    crc = 0
    for _ in range(DOWNLOAD_BYTES // len(pattern)):
        crc = zlib.crc32(pattern, crc)
    assert (int(done[0]), int(done[1])) == (crc, DOWNLOAD_BYTES)
    assert network["received_bytes"] >= DOWNLOAD_BYTES
    mib = DOWNLOAD_BYTES / (1 << 20)
    text = (
        f"download into a sandbox: {mib / float(done[2]):.1f} MiB/s, podflare-netd {ticks * 10} ms of CPU for {mib:.0f} MiB; "
        f"QEMU's user network alone: {mib / alone_seconds:.1f} MiB/s"
    )
    with capsys.disabled():
        print(f"\n{text}")
    if settings.report_dir:
        settings.report_dir.mkdir(parents=True, exist_ok=True)
        (settings.report_dir / "network.txt").write_text(text + "\n")


def cpu_ticks(machine: Machine) -> int:
    """What the network process has used, in hundredths of a second."""
    (netd,) = machine.processes("podflare-netd")
    fields = machine.output("cat", f"/proc/{netd.pid}/stat").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.timeout(900)
def test_a_thousand_connections_at_once_all_work(http: httpx.Client, url: str, echo: Echo) -> None:
    with made(http, url, only(f"{HERE}:{echo.port}")) as sandbox:
        counted = sandbox.run(
            f"""
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
connections = [socket.create_connection(({HERE!r}, {echo.port}), 300) for _ in range({CONNECTIONS})]
for number, connection in enumerate(connections):
    connection.sendall(b"%06d" % number)
right = sum(connection.recv(6, socket.MSG_WAITALL) == b"%06d" % number for number, connection in enumerate(connections))
print(right)
""",
            seconds=600,
        )
        assert int(counted) == CONNECTIONS
        assert sandbox.info()["network"]["flows"] >= CONNECTIONS


# What is not.


def test_without_egress_nothing_leaves_connections_time_out_and_forks_inherit_it(
    http: httpx.Client, url: str, echo: Echo
) -> None:
    with made(http, url, False) as sandbox:
        assert "eth0" in sandbox.bash("ip -br link")
        assert "10.211.0.2/24" in sandbox.bash("ip -br address")
        assert sandbox.outcome(HERE, echo.port) == TIMES_OUT
        assert sandbox.outcome("198.51.100.7", 443) == TIMES_OUT
        with forks(http, url, sandbox, 2) as children:
            for child in children:
                assert child.info()["egress"] is False
                assert child.outcome(HERE, echo.port) == TIMES_OUT
        assert echo.arrivals == 0
        assert sandbox.info()["network"]["sent_bytes"] == 0


TRIES = """
import os, socket, struct
def tries(address, name):
    \"\"\"What can be sent, to an address and with a name that nobody else has; says what became of each.\"\"\"
    def tcp():
        with socket.create_connection((address, 443), 4): pass
    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for number in range(3):
                one.sendto(b"distinct %d" % number, (address, 4433))
    def icmp():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as one:
            echo = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
            one.sendto(echo[:2] + struct.pack("!H", 0xffff - 0x0800 - 7 - 1) + echo[4:], (address, 0))
    def foreign():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            question = b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6)
            question += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\x00\\x00\\x01\\x00\\x01"
            one.sendto(question, (address, 53))
    def ours():
        socket.getaddrinfo(name, 443)
    said = {}
    for kind in (tcp, udp, icmp, foreign, ours):
        try:
            kind()
            said[kind.__name__] = "sent"
        except OSError as error:
            said[kind.__name__] = type(error).__name__
    return said
"""


def test_without_egress_no_packet_leaves_the_machine_of_a_sandbox_or_its_forks(
    http: httpx.Client, url: str, cli: Cli, tmp_path: Path
) -> None:
    # Of a network that nobody has, RFC 5737; names end in a domain that nobody can have, RFC 6761.
    shut, inherited, free = "203.0.113.71", "203.0.113.72", "203.0.113.73"
    name = "x{}-podflare-capture.invalid".format
    with captured(cli, tmp_path / "outside.pcap") as capture:
        with made(http, url, False) as sandbox:
            sandbox.run(TRIES)
            said = sandbox.run(f"print(tries({shut!r}, {name('shut')!r}))")
            assert TIMES_OUT in said and "gaierror" in said, said
            with forks(http, url, sandbox, 2) as children:
                for child in children:
                    child.run(f"print(tries({inherited!r}, {name('inherited')!r}))")
            assert sandbox.info()["network"]["sent_bytes"] == 0
        # The same from one that may: what the capture would have shown.
        with made(http, url, True) as sandbox:
            sandbox.run(TRIES)
            sandbox.run(f"print(tries({free!r}, {name('free')!r}))")
    shown = capture.to(free)
    assert {packet.protocol for packet in shown} == {6, 17}, shown
    assert any(b"distinct" in packet.payload for packet in shown), shown
    assert any(packet.payload[2:4] == b"\x00\x35" for packet in shown), shown
    assert capture.asks_for(name("free"))
    for address in (shut, inherited):
        assert not capture.mentions(address), address
    for kind in ("shut", "inherited"):
        assert not capture.asks_for(name(kind)), kind


def test_what_is_private_is_reached_by_nobody_who_is_not_allowed_to(
    http: httpx.Client, url: str, echo: Echo
) -> None:
    with made(http, url, True) as sandbox, made(http, url, True) as other:
        for address in (HERE, "127.0.0.2", "169.254.169.254", "10.0.2.15", "192.168.0.1", "10.0.2.3"):
            # The loopback of the guest is its own.
            if address != "127.0.0.2":
                assert sandbox.outcome(address, echo.port) in NOTHING, address
        # The host's own API, by which a sandbox could make others.
        assert sandbox.outcome("10.0.2.15", 7070) in NOTHING
        # All guests have one address; a connection to it stays in the guest.
        other.run("import socket; listening = socket.create_server(('0.0.0.0', 5555))")
        assert sandbox.outcome("10.211.0.2", 5555) in NOTHING
        assert sandbox.outcome("10.211.0.3", 5555) in NOTHING
        assert echo.arrivals == 0
        denied = [entry for entry in sandbox.log() if entry["verdict"] == "denied"]
        assert any(entry["address"] == HERE and entry["reason"] for entry in denied), denied


def test_a_list_of_names_is_not_got_around(http: httpx.Client, url: str, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("reached")
    with Echo() as other, files_over_http(tmp_path) as port:
        with made(http, url, only("allowed.example", f"{HERE}:{echo.port}")) as sandbox:
            assert sandbox.reaches(HERE, echo.port)
            # By address: the same machine, another port.
            assert sandbox.outcome(HERE, other.port) in NOTHING
            # By another name, and by every kind of question.
            for name in ("denied.example", "allowed.example.denied.example", "xallowed.example"):
                done = sandbox.run(
                    f"""
import socket
try:
    print(socket.getaddrinfo({name!r}, 443))
except OSError as error:
    print(type(error).__name__)
"""
                )
                assert done.strip() == "gaierror", name
            # A lie in the request's Host, and one in the TLS handshake: the address is not that of the name.
            lied = sandbox.run(
                f"""
import socket, ssl
def told(port, speak):
    try:
        with socket.create_connection(({HERE!r}, port), 8) as connection:
            connection.settimeout(8)
            return speak(connection)
    except (OSError, ssl.SSLError) as error:
        return type(error).__name__
def host(connection):
    connection.sendall(b"GET /index.html HTTP/1.1\\r\\nHost: allowed.example\\r\\nConnection: close\\r\\n\\r\\n")
    answer = b""
    while piece := connection.recv(4096):
        answer += piece
    return "reached" if b"reached" in answer else "not reached"
def sni(connection):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.wrap_socket(connection, server_hostname="allowed.example")
    return "reached"
print(told({port}, host), told({other.port}, sni))
""",
                seconds=120,
            )
            assert "reached" not in lied.replace("not reached", ""), lied
            # Another resolver, QUIC, and IPv6.
            datagram = sandbox.run(
                """
import socket
def asks(family, address, port):
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(3)
            asking.sendto(b"\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x07allowed\\x07example\\x00\\x00\\x01\\x00\\x01", (address, port))
            return "answered" if asking.recv(512) else "empty"
    except OSError as error:
        return type(error).__name__
v4, v6 = socket.AF_INET, socket.AF_INET6
print(asks(v4, "10.0.2.3", 53), asks(v4, "9.9.9.9", 53), asks(v4, "198.51.100.7", 443), asks(v6, "2620:fe::fe", 53))
""",
                seconds=120,
            )
            assert "answered" not in datagram, datagram
            assert sandbox.outcome("2606:4700::1111", 443) in NOTHING
            assert other.arrivals == 0
            # Through a sandbox that may do more: there is no way from one to another.
            with made(http, url, True) as free:
                free.run("import socket; listening = socket.create_server(('', 8888))")
                assert sandbox.outcome("10.211.0.2", 8888) in NOTHING
            names = {entry.get("name") for entry in sandbox.log() if entry["verdict"] == "denied"}
            assert "denied.example" in names, names


def test_a_flood_beside_it_leaves_others_their_network(http: httpx.Client, url: str, echo: Echo, machine: Machine) -> None:
    rules = only(f"{HERE}:{echo.port}", "198.51.100.0/24")
    with made(http, url, rules) as flooding, made(http, url, rules) as working:
        flooding.run(
            """
import socket, threading, time
def flood():
    until = time.monotonic() + 20
    while time.monotonic() < until:
        batch = []
        for number in range(400):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((f"198.51.100.{number % 250 + 1}", 1000 + number))
            batch.append(one)
        for one in batch:
            one.close()
threading.Thread(target=flood, daemon=True).start()
"""
        )
        before = resident_kib(machine)
        for _ in range(10):
            assert working.reaches(HERE, echo.port)
            time.sleep(1)
        assert resident_kib(machine) - before < 128 * 1024
        assert working.run("print(1)").strip() == "1"


def resident_kib(machine: Machine) -> int:
    (netd,) = machine.processes("podflare-netd")
    lines = machine.output("cat", f"/proc/{netd.pid}/status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


# What changes.


def test_what_may_be_reached_changes_at_once_and_open_connections_with_it(
    http: httpx.Client, url: str, echo: Echo
) -> None:
    with made(http, url, only(f"{HERE}:{echo.port}")) as sandbox:
        opened = f"""
import socket
connection = socket.create_connection(({HERE!r}, {echo.port}), 90)
connection.settimeout(90)
connection.sendall(b"one")
print(connection.recv(10).decode())
"""
        assert sandbox.run(opened).strip() == "one"
        assert sandbox.may_reach(False)["egress"] is False
        after = sandbox.run(
            """
try:
    connection.sendall(b"two")
    print(connection.recv(10).decode() or "closed")
except OSError as error:
    print(type(error).__name__)
"""
        )
        assert after.strip() in NOTHING, after
        assert sandbox.outcome(HERE, echo.port) == TIMES_OUT
        sandbox.may_reach(only(f"{HERE}:{echo.port}"))
        assert sandbox.reaches(HERE, echo.port)
        wrong = http.patch(f"/v1/sandboxes/{sandbox.id}", json={"egress": {"allow": ["https://a.example/"]}})
        assert_error(wrong, 400, "egress", "https://a.example/")


def test_the_log_tells_what_was_reached_with_bytes_and_verdicts(http: httpx.Client, url: str, echo: Echo, cli: Cli) -> None:
    with made(http, url, only(f"{HERE}:{echo.port}")) as sandbox:
        assert sandbox.reaches(HERE, echo.port)
        assert sandbox.outcome("198.51.100.7", 80) in NOTHING

        def both() -> list[dict[str, Any]] | None:
            found = sandbox.log()
            counted = [entry for entry in found if entry.get("port") == echo.port and entry.get("received_bytes")]
            return found if counted and len(found) >= 2 else None

        entries = wait_until("both are in the log, with their bytes", both)
        reached = next(entry for entry in entries if entry.get("port") == echo.port)
        assert (reached["address"], reached["protocol"], reached["verdict"]) == (HERE, "tcp", "allowed")
        assert (reached["sent_bytes"], reached["received_bytes"]) == (len("hello\n"), len("hello\n"))
        refused = next(entry for entry in entries if entry.get("address") == "198.51.100.7")
        assert refused["verdict"] == "denied" and refused["reason"]
        assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)
        assert sandbox.log(after=entries[-1]["seq"]) == []
        shown = cli.run("sandbox", "egress", "log", sandbox.id).expect().stdout
        assert "198.51.100.7:80" in shown and "denied" in shown
        assert HERE in cli.run("sandbox", "egress", sandbox.id).expect().stdout


# Forks.


def test_a_childs_inherited_connection_is_reset_and_its_parents_goes_on(
    http: httpx.Client, url: str, echo: Echo
) -> None:
    talk = """
def says(word):
    try:
        connection.sendall(word)
        return connection.recv(10).decode() or "closed"
    except OSError as error:
        return type(error).__name__
"""
    with made(http, url, only(f"{HERE}:{echo.port}")) as parent:
        parent.run(
            f"import socket\nconnection = socket.create_connection(({HERE!r}, {echo.port}), 90)\nconnection.settimeout(90)\n{talk}"
        )
        assert parent.run("print(says(b'before'))").strip() == "before"
        with forks(http, url, parent, 2) as children:
            for child in children:
                assert child.run("print(says(b'child'))").strip() == "ConnectionResetError"
                assert child.reaches(HERE, echo.port)
            assert parent.run("print(says(b'after'))").strip() == "after"


# Processes that die.


def test_a_network_process_that_is_killed_comes_back_and_new_connections_work(
    http: httpx.Client, url: str, echo: Echo, machine: Machine
) -> None:
    with made(http, url, only(f"{HERE}:{echo.port}")) as sandbox, made(http, url, False) as shut:
        assert sandbox.reaches(HERE, echo.port)
        (before,) = machine.processes("podflare-netd")
        machine.kill(before.pid)
        wait_until(
            "there is another network process",
            lambda: [one for one in machine.processes("podflare-netd") if one.pid != before.pid],
        )
        wait_until("connections work again", lambda: sandbox.outcome(HERE, echo.port, 20) == "hello")
        assert shut.outcome(HERE, echo.port) == TIMES_OUT
        with made(http, url, only(f"{HERE}:{echo.port}")) as new:
            assert new.reaches(HERE, echo.port)


def test_connections_go_on_when_the_daemon_is_killed(
    http: httpx.Client, url: str, echo: Echo, machine: Machine
) -> None:
    with made(http, url, only(f"{HERE}:{echo.port}")) as sandbox:
        sandbox.run(
            f"import socket\nconnection = socket.create_connection(({HERE!r}, {echo.port}), 90)\nconnection.settimeout(90)"
        )
        (netd,) = machine.processes("podflare-netd")
        replace_daemon(machine, http)
        said = sandbox.run("connection.sendall(b'still'); print(connection.recv(10).decode())")
        assert said.strip() == "still"
        assert [one.pid for one in machine.processes("podflare-netd")] == [netd.pid]
        sandbox.may_reach(False)
        assert sandbox.outcome(HERE, echo.port) == TIMES_OUT
