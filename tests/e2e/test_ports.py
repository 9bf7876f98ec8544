"""Programs that listen in sandboxes: over HTTP, with WebSockets, in a browser, by URL, and from the command line."""

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Route, expect
from podflare import Client, Sandbox

from support import browser
from support.cli import Cli
from support.family import forked
from support.files import Files
from support.machine import Machine
from support.restarts import replace_daemon
from support.waiting import wait_until
from support.wire import AbandonedRun, api, assert_error

APP = Path(__file__).parent / "support/port_app.py"
PORT = 8000
RAW_PORT = PORT + 1
NOBODY = 8999
"""A port on which nothing listens."""

WAIT_MS = 120_000

START = f"""
import subprocess
app = subprocess.Popen(
    ['python3', '/root/port_app.py', '{PORT}'], start_new_session=True,
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
"""


def listening(http: httpx.Client, sandbox_id: str) -> dict[int, dict[str, Any]]:
    answer = http.get(f"/v1/sandboxes/{sandbox_id}/ports")
    assert answer.status_code == 200, answer.text
    return {entry["port"]: entry for entry in answer.json()["ports"]}


def serve(url: str, http: httpx.Client, box: Sandbox) -> None:
    """Has the application run in it."""
    if PORT in listening(http, box.id):
        return
    Files(url, box.id).write("/root/port_app.py", APP.read_bytes())
    assert box.run_code(START).ok
    wait_until("the application listens", lambda: {PORT, RAW_PORT} <= listening(http, box.id).keys())


@pytest.fixture
def served(url: str, http: httpx.Client, box: Sandbox) -> Sandbox:
    """The shared sandbox, with the application in it."""
    serve(url, http, box)
    return box


@pytest.fixture
def app(url: str, served: Sandbox) -> Iterator[httpx.Client]:
    """The application, below its path."""
    with api(f"{url}/v1/sandboxes/{served.id}/ports/{PORT}") as client:
        yield client


@pytest.fixture
def page() -> Iterator[Page]:
    with browser.page() as page:
        yield page


def share(http: httpx.Client, box: Sandbox, seconds: int = 600) -> dict[str, Any]:
    answer = http.post(f"/v1/sandboxes/{box.id}/share/{PORT}", json={"expires_in_seconds": seconds})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_listens_is_listed_with_its_process(http: httpx.Client, app: httpx.Client, served: Sandbox) -> None:
    entry = listening(http, served.id)[PORT]
    assert entry["address"] == "127.0.0.1"
    assert entry["process"]["command"].startswith("python3")
    assert entry["process"]["pid"] == app.get("/me").json()["pid"]


def test_requests_arrive_as_they_are_and_without_what_is_not_the_programs(url: str, app: httpx.Client) -> None:
    seen = app.get("/seen?a=%20b", headers={"x-mine": "1", "authorization": "Bearer secret"}).json()
    assert seen["path"] == "/seen?a=%20b"
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["x-mine"] == "1" and "authorization" not in headers
    assert headers["host"] == f"localhost:{PORT}"
    assert headers["x-forwarded-host"] == urlsplit(url).netloc
    assert headers["x-forwarded-prefix"] == urlsplit(str(app.base_url)).path.rstrip("/")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_arrives_to_the_byte(app: httpx.Client, chunked: bool) -> None:
    content = os.urandom(5 << 20)
    pieces = (content[at : at + 100_000] for at in range(0, len(content), 100_000))
    answer = app.post("/digest", content=pieces if chunked else content)
    assert answer.json() == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def test_events_come_when_they_happen(app: httpx.Client) -> None:
    with app.stream("GET", "/events?live") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        for number in range(3):
            # The next one is not made before this one has come.
            assert next(line for line in lines if line) == f"data: {number}"
            assert app.post("/next?live").status_code == 200


def test_redirects_and_cookies_stay_with_the_port(app: httpx.Client) -> None:
    me = app.get("/login", follow_redirects=True)
    assert me.json()["user"] == "ada", me.text
    (cookie,) = app.cookies.jar
    assert cookie.path == urlsplit(str(app.base_url)).path
    assert app.get("/absolute", follow_redirects=True).json()["user"] == "ada"


def test_a_port_is_used_while_a_run_is_in_progress(url: str, app: httpx.Client, served: Sandbox) -> None:
    run = AbandonedRun(url, served.id, "print('begun', flush=True)\nimport time\ntime.sleep(600)")
    assert run.wait_for_event()["data"] == "begun"
    assert app.get("/me").json()["user"] is None
    run.leave()


def test_what_is_not_there_says_so(http: httpx.Client, served: Sandbox) -> None:
    ports = f"/v1/sandboxes/{served.id}/ports"
    refused = assert_error(http.get(f"{ports}/{NOBODY}/"), 502, f"port {NOBODY}", ports)
    assert refused["code"] == "port_refused"
    raw = assert_error(http.get(f"{ports}/{RAW_PORT}/"), 502, "podflare forward")
    assert raw["code"] == "bad_port_answer"
    assert_error(http.get(f"{ports}/0/"), 400, "port")
    assert_error(http.get(f"/v1/sandboxes/sbx_{'0' * 32}/ports"), 404)


def test_it_works_without_a_network(url: str, http: httpx.Client) -> None:
    created = http.post("/v1/sandboxes", json={"egress": False}).json()
    with Sandbox._from_id(created["id"], Client(host=url)) as box:
        serve(url, http, box)
        assert http.get(f"/v1/sandboxes/{box.id}/ports/{PORT}/me").json()["user"] is None


def test_a_fork_has_the_programs_and_none_of_the_urls(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    serve(url, http, fresh)
    shared = share(http, fresh)
    before = http.get(f"{shared['url']}me").json()
    assert before["user"] is None
    with forked(fresh) as (child,):
        theirs = http.get(f"/v1/sandboxes/{child.id}/ports/{PORT}/me").json()
        assert theirs == before, "the same process, cloned"
        child.run_code("app.kill()")
        wait_until("it is gone in the child", lambda: PORT not in listening(http, child.id))
        assert http.get(f"{shared['url']}me").json() == before, "the URL leads to the parent"
    assert http.delete(f"/v1/sandboxes/{fresh.id}").status_code == 204
    assert_error(http.get(shared["url"]), 404)


def test_a_url_needs_no_key_and_ends(http: httpx.Client, served: Sandbox) -> None:
    shared = share(http, served)
    assert http.get(f"{shared['url']}me").json()["user"] is None
    forged = shared["url"][:-2] + ("A" if shared["url"][-2] != "A" else "B") + "/"
    assert assert_error(http.get(forged), 403)["code"] == "share_invalid"
    short = share(http, served, seconds=1)

    def expired() -> httpx.Response | None:
        answer = http.get(f"{short['url']}me")
        return answer if answer.status_code != 200 else None

    answer = wait_until("the URL has expired", expired)
    assert assert_error(answer, 403, "expired")["code"] == "share_expired"


def test_a_url_outlives_the_daemon(url: str, http: httpx.Client, machine: Machine, fresh: Sandbox) -> None:
    serve(url, http, fresh)
    shared = share(http, fresh)
    replace_daemon(machine, http)
    assert http.get(f"{shared['url']}me").json()["user"] is None


def test_a_browser_uses_the_application_on_a_site_of_its_own(
    url: str, http: httpx.Client, page: Page, served: Sandbox
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    shared = share(http, served)
    page.goto(shared["url"])
    said = page.locator("#said")
    expect(page).to_have_title("served from a sandbox", timeout=WAIT_MS)
    expect(said).to_contain_text("socket:hello", timeout=WAIT_MS)
    expect(said).to_contain_text("me:null", timeout=WAIT_MS)
    # The token is in no script's reach: neither in the address nor among the cookies it can read.
    expect(said).to_contain_text("cookie:none", timeout=WAIT_MS)
    site = urlsplit(page.url)
    assert site.hostname == f"{PORT}-{served.id.replace('_', '-')}.localhost" and not site.query
    assert site.port == urlsplit(url).port
    assert [cookie["name"] for cookie in page.context.cookies()] == ["podflare_token"]
    # A session as on any server.
    page.goto(page.url + "login")
    expect(page.locator("body")).to_contain_text('"user": "ada"', timeout=WAIT_MS)
    assert "podflare" not in page.content()
    # What the guest serves is no page of the host's.
    answer = page.evaluate(f"fetch('{url}/v1/sandboxes').then(() => 'read', () => 'refused')")
    assert answer == "refused"
    assert complaints == []


def test_a_page_below_the_hosts_own_paths_has_no_origin(
    url: str, http: httpx.Client, page: Page, served: Sandbox
) -> None:
    address = f"{url}/v1/sandboxes/{served.id}/ports/{PORT}/"

    # As a program gets it, which is not sent to a site of its own.
    def as_a_program(route: Route) -> None:
        route.fulfill(response=route.fetch(headers={"accept": "*/*"}, max_redirects=0))

    page.route(address, as_a_program)
    page.goto(address)
    expect(page).to_have_title("loading", timeout=WAIT_MS)
    assert page.evaluate("window.origin") == "null"
    assert page.evaluate(f"fetch('{url}/v1/sandboxes').then(() => 'read', () => 'refused')") == "refused"


@contextmanager
def forwarded(cli: Cli, box: Sandbox, *ports: str) -> Iterator[dict[int, int]]:
    """`podflare forward` for a block: ports of the sandbox, and those here."""
    command = [str(cli.binary), "--json", "forward", box.id, *ports]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cli.environment)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        yield {each["port"]: each["local"] for each in json.loads(line)["forwards"]}
    finally:
        child.terminate()
        assert child.wait(120) == 128 + 15


def test_forward_brings_ports_here(cli: Cli, served: Sandbox) -> None:
    with forwarded(cli, served, f"{PORT}:0", f"{RAW_PORT}:0", f"{NOBODY}:0") as local:
        with api(f"http://127.0.0.1:{local[PORT]}") as client:
            assert client.get("/me").json()["user"] is None
            content = os.urandom(2 << 20)
            assert client.post("/digest", content=content).json()["sha256"] == hashlib.sha256(content).hexdigest()
        threads = [threading.Thread(target=backwards, args=(local[RAW_PORT], bytes([n]) * 10_000 + b"x")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        backwards(local[RAW_PORT], b"")
        with socket.create_connection(("127.0.0.1", local[NOBODY]), timeout=120) as nobody:
            assert read_all(nobody) == b""


def backwards(port: int, sent: bytes) -> None:
    """Each direction ends on its own: the answer comes after the end of the question."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as stream:
        stream.sendall(sent)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"hello\n" + sent[::-1]


def read_all(stream: socket.socket) -> bytes:
    got = b""
    try:
        while piece := stream.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def test_the_command_line_lists_and_shares(cli: Cli, http: httpx.Client, served: Sandbox) -> None:
    table = cli.run("sandbox", "ports", served.id).expect().stdout
    assert any(line.split()[:2] == [str(PORT), "127.0.0.1"] for line in table.splitlines()), table
    url = cli.run("sandbox", "share", served.id, str(PORT), "--expires", "10m").expect().stdout.strip()
    assert http.get(f"{url}me").json()["user"] is None


def test_nothing_is_left_in_the_sandbox_by_clients_that_go_away(
    http: httpx.Client, app: httpx.Client, served: Sandbox
) -> None:
    for _ in range(20):
        with app.stream("GET", "/events?left") as answer:
            assert next(line for line in answer.iter_lines() if line) == "data: 0"
            # Left in the middle.
    table = "line.split() for line in open('/proc/net/tcp')"
    count = f"print(sum(1 for row in ({table}) if row[1].endswith(':{PORT:04X}') and row[3] == '01'))"

    def none_is_left() -> bool:
        return served.run_code(count).stdout == "0"

    wait_until("no connection to the application is left", none_is_left, every=0.5)
    # Its threads, which wait to say more, end when they do.
    for _ in range(60):
        app.post("/next?left")
