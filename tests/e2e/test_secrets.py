"""Secrets that sandboxes use without having them.

Their host is on this machine's loopback, and the software host knows it by name: its `/etc/hosts` is what sandboxes see.
Whoever looks for a value in a sandbox must not bring it there: values are compared on this side only.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from support.cli import Cli
from support.machine import Machine
from support.outside import Made, forks, made
from support.secret_host import SecretHost, certified
from support.settings import Settings
from support.waiting import wait_until
from support.wire import assert_error, raw_exec

HERE = "10.0.2.2"
"""This machine, from within the software host."""

HOST = "secrets.test"
UNBOUND = "unbound.test"
"""Another name of the same machine, which no secret is for."""

NAME = "e2e-token"

LOG_LINES = "20000"

SEARCH_SECONDS = 600
"""A sandbox's memory is a lot to read on emulated hardware."""

CLIENT = """
import http.client, ssl
def client(host, port, verified=True):
    context = ssl.create_default_context() if verified else ssl._create_unverified_context()
    return http.client.HTTPSConnection(host, port, timeout=120, context=context)
def told(connection, token, target="/", **headers):
    try:
        connection.request("GET", target, headers={"Authorization": "Bearer " + token} | headers)
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode().strip()}"
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
"""
"""Requests out of the REPL, on connections that are kept."""


class Bound:
    """A secret of the host under test."""

    def __init__(self, http: httpx.Client, hosts: list[str]) -> None:
        self._http = http
        self._hosts = hosts
        self.value = ""
        self.placeholder = self.set()

    def set(self) -> str:
        """Gives it another value; returns what stands for it."""
        self.value = f"sk-e2e-{secrets.token_hex(24)}"
        answer = self._http.put(f"/v1/secrets/{NAME}", json={"value": self.value, "hosts": self._hosts})
        assert answer.status_code == 200, answer.text
        assert self.value not in answer.text
        told = answer.json()
        assert (told["name"], told["hosts"]) == (NAME, self._hosts)
        return str(told["placeholder"])

    def revoke(self) -> None:
        answer = self._http.delete(f"/v1/secrets/{NAME}")
        assert answer.status_code == 204, answer.text


@pytest.fixture(autouse=True)
def _on_software_host(cli: Cli) -> None:
    if cli.is_on_hardware:
        pytest.skip("its host is on loopback, which sandboxes do not reach on hardware, and has a name in the machine's /etc/hosts")


@pytest.fixture(scope="module")
def names(cli: Cli, machine: Machine) -> Iterator[None]:
    """The software host, and so its sandboxes, know this machine by name."""
    if cli.is_on_hardware:
        yield
        return
    machine.output("sh", "-c", f"printf '\\n{HERE} {HOST} {UNBOUND}\\n' >> /etc/hosts && chmod 644 /etc/hosts")
    yield
    machine.output("sh", "-c", f"sed -i '/{HOST}/d' /etc/hosts && chmod 644 /etc/hosts")


@pytest.fixture
def server(settings: Settings, names: None, tmp_path: Path) -> Iterator[SecretHost]:
    # Made before the host was started, which has been told to trust it.
    authority = settings.state_dir.parent / "ca"
    with SecretHost(certified(authority, [HOST, UNBOUND], [HERE], tmp_path / "chain.pem")) as listening:
        yield listening


@pytest.fixture
def bound(http: httpx.Client, server: SecretHost) -> Iterator[Bound]:
    secret = Bound(http, [f"{HOST}:{server.port}"])
    try:
        yield secret
    finally:
        secret.revoke()


@pytest.fixture
def using(http: httpx.Client, url: str, server: SecretHost, bound: Bound) -> Iterator[Callable[[], Made]]:
    """Makes sandboxes that may use the secret."""
    with ExitStack() as stack:

        def make() -> Made:
            sandbox = stack.enter_context(made(http, url, reach(server), secrets=[NAME]))
            sandbox.run(CLIENT)
            know_the_host(sandbox)
            return sandbox

        yield make


@pytest.fixture
def sandbox(using: Callable[[], Made]) -> Made:
    return using()


def reach(server: SecretHost) -> dict[str, list[str]]:
    return {"allow": [f"{HOST}:{server.port}", f"{UNBOUND}:{server.port}", f"{HERE}:{server.port}"]}


def know_the_host(sandbox: Made) -> None:
    """Waits until the network process has seen the name, for which it looks every other second."""
    code = f"""
import socket
try:
    print(socket.gethostbyname({HOST!r}))
except OSError as error:
    print(error)
"""
    wait_until(f"{HOST} is {HERE} to the sandbox", lambda: sandbox.run(code).strip() == HERE, every=1)


def asks(sandbox: Made, server: SecretHost, token: str, host: str = HOST, verified: bool = True) -> str:
    """What comes of one request on a connection of its own."""
    return sandbox.run(f"print(told(client({host!r}, {server.port}, {verified}), {token!r}))").strip()


# Where it arrives.


def test_the_host_gets_the_value_from_curl_and_python_and_the_guest_never_has_it(
    sandbox: Made, server: SecretHost, bound: Bound
) -> None:
    url = f"https://{HOST}:{server.port}"
    answer = sandbox.bash(f"curl -sS --max-time 120 -i {url}/curl -H 'Authorization: Bearer {bound.placeholder}'")
    assert "arrival 1" in answer and bound.value not in answer
    assert (server.last().target, server.last().token) == ("/curl", bound.value)

    answer = sandbox.run(f"""
import urllib.request
request = urllib.request.Request("{url}/urllib", headers={{"Authorization": "Bearer {bound.placeholder}"}})
with urllib.request.urlopen(request, timeout=120) as response:
    print(response.status, dict(response.headers), response.read())
""")
    assert "arrival 2" in answer and bound.value not in answer
    assert (server.last().target, server.last().token) == ("/urllib", bound.value)

    # In a target, and as the password that curl encodes; what is in a body is the program's own.
    sandbox.bash(f"curl -sS --max-time 120 '{url}/?key={bound.placeholder}&more=1'")
    assert server.last().target == f"/?key={bound.value}&more=1"
    sandbox.bash(f"curl -sS --max-time 120 {url}/ -d 'token={bound.placeholder}'")
    assert server.last().body == f"token={bound.placeholder}"
    assert server.last().headers["host"] == f"{HOST}:{server.port}"

    environment = sandbox.bash("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; env; set")
    assert bound.value not in environment
    assert bound.value not in sandbox.run("import os; print(dict(os.environ), globals())")


@pytest.mark.timeout(900)
def test_requests_of_python_sends_it_too(
    http: httpx.Client, url: str, server: SecretHost, bound: Bound
) -> None:
    # Packages may come from anywhere; what is tried is done under a list.
    with made(http, url, True, secrets=[NAME]) as sandbox:
        installed = "python3 -c 'import requests' 2>/dev/null || pip install --quiet --break-system-packages requests 2>&1"
        sandbox.bash(installed, seconds=300)
        sandbox.may_reach(reach(server))
        know_the_host(sandbox)
        said = sandbox.run(f"""
import requests
with requests.Session() as session:
    session.headers["Authorization"] = "Bearer {bound.placeholder}"
    for number in range(3):
        answer = session.get("https://{HOST}:{server.port}/requests", timeout=120)
        print(answer.status_code, answer.text.strip())
""")
        assert said.split() == ["200", "arrival", "1", "200", "arrival", "2", "200", "arrival", "3"]
        assert [arrival.token for arrival in server.arrivals] == [bound.value] * 3


def test_forks_may_use_it_and_another_value_is_used_from_then_on(
    http: httpx.Client, url: str, sandbox: Made, server: SecretHost, bound: Bound
) -> None:
    with forks(http, url, sandbox, 1) as (child,):
        assert asks(child, server, bound.placeholder).startswith("200")
        assert server.last().token == bound.value
        before = bound.value
        assert bound.set() == bound.placeholder
        for one in (child, sandbox):
            assert asks(one, server, bound.placeholder).startswith("200")
            assert server.last().token == bound.value != before


# Where it does not.


def test_nobody_but_its_host_gets_the_value(
    http: httpx.Client, url: str, sandbox: Made, server: SecretHost, bound: Bound
) -> None:
    # Another name, and no name at all. Whom the guest trusts there is not what is tried.
    for host in (UNBOUND, HERE):
        assert asks(sandbox, server, bound.placeholder, host, verified=False).startswith("200"), host
        assert server.last().token == bound.placeholder, host
    # The right connection, with a request for somebody else.
    count = len(server.arrivals)
    elsewhere = sandbox.run(
        f"print(told(client({HOST!r}, {server.port}), {bound.placeholder!r}, Host='{UNBOUND}:{server.port}'))"
    )
    assert elsewhere.startswith("421"), elsewhere
    assert len(server.arrivals) == count
    # A sandbox that was not given it.
    with made(http, url, reach(server)) as other:
        other.run(CLIENT)
        assert asks(other, server, bound.placeholder, verified=False).startswith("200")
        assert server.last().token == bound.placeholder
    assert not any(bound.value in arrival.text for arrival in server.arrivals)


def test_a_host_that_cannot_prove_its_name_gets_nothing(
    http: httpx.Client, url: str, settings: Settings, names: None, tmp_path: Path
) -> None:
    # A certificate of the right authority, for another name.
    chain = certified(settings.state_dir.parent / "ca", [UNBOUND], [HERE], tmp_path / "chain.pem")
    with SecretHost(chain) as impostor:
        secret = Bound(http, [f"{HOST}:{impostor.port}"])
        try:
            with made(http, url, reach(impostor), secrets=[NAME]) as sandbox:
                sandbox.run(CLIENT)
                know_the_host(sandbox)
                said = asks(sandbox, impostor, secret.placeholder, verified=False)
                assert said.startswith("502"), said
                assert secret.value not in said
                assert impostor.arrivals == []
        finally:
            secret.revoke()


def test_a_secret_that_is_not_there_is_named(http: httpx.Client) -> None:
    answer = http.post("/v1/sandboxes", json={"secrets": ["e2e-nobody"]})
    assert 400 <= answer.status_code < 500, answer.text
    assert_error(answer, answer.status_code, "e2e-nobody")


@pytest.mark.timeout(SEARCH_SECONDS + 300)
def test_the_value_is_in_no_memory_of_the_guest_in_no_space_and_in_no_log(
    http: httpx.Client, url: str, cli: Cli, machine: Machine, sandbox: Made, server: SecretHost, bound: Bound
) -> None:
    sandbox.run(f"token = {bound.placeholder!r}; kept = client({HOST!r}, {server.port})")
    assert sandbox.run("print(told(kept, token))").startswith("200")
    assert server.last().token == bound.value
    assert bound.value not in str(sandbox.log())
    assert bound.value not in cli.run("logs", "-n", LOG_LINES, sandbox.id).expect().stdout

    frozen = http.post(f"/v1/sandboxes/{sandbox.id}/freeze", timeout=300)
    assert frozen.status_code == 200, frozen.text
    space = frozen.json()["id"]
    try:
        # That the placeholder is found shows that the search finds what is there.
        found = search(cli, f"/state/hostd/spaces/{space}/vm/memory", bound.placeholder, bound.value)
        assert bound.placeholder in found
        assert bound.value not in found
        others = f"/state/hostd/spaces/{space} -type f -size -65536 ! -name memory"
        assert bound.value not in search(cli, f"$(find {others})", bound.value)
        assert bound.value not in search(cli, "/state/hostd/podflare.db*", bound.value)

        assert bound.value not in machine.output("cat", "/state/hostd/netd.log")
        for which in ([], ["--supervisor"]):
            assert bound.value not in cli.run("logs", "-n", LOG_LINES, *which).expect().stdout
        for path in ("/v1/secrets", f"/v1/spaces/{space}"):
            assert bound.value not in http.get(path).text

        resumed = http.post(f"/v1/spaces/{space}/resume", json={}, timeout=300)
        assert resumed.status_code == 200, resumed.text
        again = Made(http, url, resumed.json()["id"])
        try:
            assert asks(again, server, bound.placeholder).startswith("200")
            assert server.last().token == bound.value
        finally:
            http.delete(f"/v1/sandboxes/{again.id}")
    finally:
        http.delete(f"/v1/spaces/{space}")


def search(cli: Cli, files: str, *words: str) -> str:
    """Which of the words are in these files of the software host; they are paths for its shell."""
    # In two halves: the command itself may be in a log. What cannot be printed ends a line, since a NUL ends what its grep
    # takes for a line.
    halves = [f"'{word[: len(word) // 2]}''{word[len(word) // 2 :]}'" for word in words]
    wanted = " ".join(f"-e {word}" for word in halves)
    line = f"cat /dev/null {files} | tr -c ' -~' '\\n' | grep -F {wanted} > /tmp/found; "
    line += "".join(f"grep -q -F -e {word} /tmp/found && echo {word}; " for word in halves) + "rm /tmp/found"
    state_dir = cli.environment["PODFLARE_STATE_DIR"]
    arguments = ["machine", "exec", "--state-dir", state_dir, "--timeout-seconds", str(SEARCH_SECONDS), "--", line]
    done = cli.run(*arguments, seconds=SEARCH_SECONDS + 30).expect()
    assert "No such file" not in done.stdout + done.stderr, str(done)
    return done.stdout


# What becomes of it.


def test_one_that_is_revoked_is_no_longer_sent_not_even_on_a_connection_that_is_kept(
    url: str, sandbox: Made, server: SecretHost, bound: Bound
) -> None:
    sandbox.run(f"token = {bound.placeholder!r}; kept = client({HOST!r}, {server.port})")
    for number in (1, 2):
        assert sandbox.run("print(told(kept, token))").strip() == f"200 arrival {number}"
        assert server.last().token == bound.value
    bound.revoke()
    count = len(server.arrivals)
    # Reset, or made anew by the client: without the value in any case.
    raw = raw_exec(url, sandbox.id, "print(told(kept, token))")
    assert raw.exit_code == 0 and bound.value not in raw.output(), raw.output()
    assert asks(sandbox, server, bound.placeholder, verified=False).startswith("200")
    later = server.arrivals[count:]
    assert later and later[-1].token == bound.placeholder
    assert not any(bound.value in arrival.text for arrival in later)
