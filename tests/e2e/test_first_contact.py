"""Reaching the host: health, every way the official client has of finding its server, and HTTP manners it relies on."""

import http.client
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from podflare import Client, Sandbox

from support.wire import assert_error, raw_exec

# Prints the sandbox's id and what its REPL answered, then destroys it.
PROGRAM = """
from podflare import Sandbox
with Sandbox({arguments}) as sandbox:
    print(sandbox.id, sandbox.run_code("print(6 * 7)").stdout)
"""


def run_program(arguments: str, cache_home: Path, **variables: str) -> str:
    """A whole program of a user's, in a process of its own, because the client reads its environment when imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache_home)} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sandbox_id, answer = done.stdout.split()
    assert answer == "42"
    return sandbox_id


@pytest.mark.parametrize("key", [None, "pf_live_whatever"])
def test_the_health_check_is_true_with_and_without_a_key(url: str, key: str | None) -> None:
    assert Client(host=url, api_key=key).healthz() is True


def test_health_is_the_bare_word_ok(http: httpx.Client) -> None:
    answer = http.get("/v1/healthz")
    assert answer.status_code == 200
    assert answer.text.strip() == "ok"


def test_a_sandbox_without_arguments_finds_the_server_by_the_api_url(url: str, tmp_path: Path) -> None:
    sandbox_id = run_program("", tmp_path, PODFLARE_API_URL=url)
    assert re.fullmatch(r"sbx_[0-9a-f]{32}", sandbox_id)
    assert not (tmp_path / "region-cache.json").exists(), "the server sent an endpoint and poisoned the client's cache"


def test_a_sandbox_with_a_key_finds_the_server_by_the_hostd_url(url: str, tmp_path: Path) -> None:
    run_program("api_key='pf_live_whatever'", tmp_path, PODFLARE_HOSTD_URL=url)
    assert not (tmp_path / "region-cache.json").exists()


def test_a_region_of_our_own_is_served_below_its_prefix(url: str, tmp_path: Path) -> None:
    run_program("region='lab'", tmp_path, PODFLARE_API_URL=url)


@pytest.mark.parametrize("region", ["us", "eu", "lab", "lab%201"])
def test_every_region_prefix_reaches_the_same_host(http: httpx.Client, region: str) -> None:
    assert http.get(f"/r/{region}/v1/healthz").text.strip() == "ok"


def test_a_created_sandbox_is_ready_and_names_no_endpoint(http: httpx.Client) -> None:
    answer = http.post("/v1/sandboxes", json={"a_field_of_the_future": 1})
    assert answer.status_code in (200, 201), answer.text
    created = answer.json()
    try:
        assert re.fullmatch(r"sbx_[0-9a-f]{32}", created["id"])
        assert created["state"] == "ready"
        assert created.get("endpoint") is None, "an endpoint makes the client store it for seven days"
        info = http.get(f"/v1/sandboxes/{created['id']}").json()
        assert info["id"] == created["id"]
        assert info["state"] == "ready"
        assert isinstance(info["vmm_pid"], int)
    finally:
        assert http.delete(f"/v1/sandboxes/{created['id']}").status_code in (200, 204)


def test_a_malformed_trace_header_is_ignored(url: str, box: Sandbox) -> None:
    for trace in ("nonsense", "00-0123456789abcdef-0123456789abcdef-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-00"):
        client = Client(host=url, traceparent=trace)
        assert client.healthz()
        assert [event.type for event in client.exec_stream(box.id, "print(1)")] == ["stdout", "exit"]
        client.close()


def test_an_unknown_route_and_a_wrong_method_are_plain_errors_and_never_redirects(http: httpx.Client) -> None:
    assert_error(http.get("/v1/no_such_thing"), 404)
    assert_error(http.put("/v1/sandboxes"), 405)
    assert http.get("/v1/healthz/").status_code == 404


def test_an_idle_connection_is_kept_longer_than_the_client_keeps_it(url: str) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    for pause_seconds in (0, 6):  # the client drops a connection that idled for 5 s
        time.sleep(pause_seconds)
        connection.request("GET", "/v1/healthz")
        assert connection.getresponse().read().strip() == b"ok"
    connection.close()


def test_a_hundred_connections_at_once_are_served(url: str) -> None:
    def check(_: int) -> bool:
        return httpx.get(f"{url}/v1/healthz", timeout=180, trust_env=False).text.strip() == "ok"

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(check, range(100)))


def test_streams_are_never_compressed(url: str, box: Sandbox) -> None:
    run = raw_exec(url, box.id, "print('x' * 10_000)")
    assert "content-encoding" not in run.headers
    assert run.headers["content-type"].split(";")[0] == "application/x-ndjson"
