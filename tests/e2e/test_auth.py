"""Keys, and the rules under which a daemon starts at all. No VM is needed for them: daemons of our own are tried."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from podflare import Client

from support.daemon import Daemon
from support.settings import Settings
from support.wire import assert_error

StartDaemon = Callable[..., Daemon]

ROUTES = [
    ("GET", "/v1/sandboxes"),
    ("POST", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes/sbx_" + "0" * 32),
    ("DELETE", "/v1/sandboxes/sbx_" + "0" * 32),
    ("POST", "/v1/sandboxes/sbx_" + "0" * 32 + "/exec"),
    ("GET", "/r/lab/v1/sandboxes"),
]


@pytest.fixture
def start_daemon(settings: Settings) -> Iterator[StartDaemon]:
    # Not pytest's own folder: its path is longer than the address of a Unix socket below it may be.
    # In this order: the folder goes when the daemons in it are gone.
    with TemporaryDirectory(prefix="hostd-") as folder, ExitStack() as running:

        def start(host: str = "127.0.0.1", **environment: str) -> Daemon:
            return running.enter_context(Daemon(settings.bin_dir / "podflare-hostd", Path(folder), host, **environment))

        yield start


@pytest.fixture
def guarded(start_daemon: StartDaemon) -> Daemon:
    """A daemon that wants one of two keys."""
    return start_daemon(PODFLARE_API_KEYS="pf_live_first, pk_second").wait_until_it_answers()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_key_every_route_answers_401_in_the_words_of_the_contract(
    guarded: Daemon, method: str, path: str
) -> None:
    answer = guarded.call(method, path, json={"code": "1"} if method == "POST" else None)
    assert assert_error(answer, 401)["error"] == "missing Authorization: Bearer <key>"


@pytest.mark.parametrize("key", ["pf_live_wrong", "pf_live_firs", "pf_live_first2", "PF_LIVE_FIRST", "pf_live_first,"])
def test_a_wrong_key_answers_401_in_the_words_of_the_contract(guarded: Daemon, key: str) -> None:
    answer = guarded.call("GET", "/v1/sandboxes", headers=bearer(key))
    assert assert_error(answer, 401)["error"] == "invalid api key"


@pytest.mark.parametrize("header", ["Bearer", "Basic cGY6bGl2ZQ==", "pf_live_first"])
def test_a_header_without_a_bearer_key_is_401(guarded: Daemon, header: str) -> None:
    answer = guarded.call("GET", "/v1/sandboxes", headers={"authorization": header})
    assert_error(answer, 401)


@pytest.mark.parametrize("key", ["pf_live_first", "pk_second"])
def test_each_listed_key_opens_the_door(guarded: Daemon, key: str) -> None:
    answer = guarded.call("GET", "/v1/sandboxes", headers=bearer(key))
    assert answer.status_code == 200


def test_the_health_check_needs_no_key(guarded: Daemon) -> None:
    assert Client(host=guarded.url).healthz()
    assert Client(host=guarded.url, api_key="pf_live_wrong").healthz()


def test_keys_are_not_written_to_the_log(guarded: Daemon) -> None:
    guarded.call("GET", "/v1/sandboxes", headers=bearer("pf_live_first"))
    guarded.call("GET", "/v1/sandboxes", headers=bearer("pf_live_wrong"))
    assert "pf_live_first" not in guarded.log
    assert "pf_live_wrong" not in guarded.log


def test_on_loopback_without_keys_no_key_is_needed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    for headers in ({}, bearer("pf_live_whatever")):
        assert daemon.call("GET", "/v1/sandboxes", headers=headers).status_code == 200


def test_beyond_loopback_without_keys_the_daemon_refuses_to_start_and_says_how_to_fix_it(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(host="0.0.0.0")
    assert daemon.wait_until_it_ends() != 0
    assert "PODFLARE_API_KEYS" in daemon.log
    assert "PODFLARE_AUTH_DISABLED" in daemon.log


def test_beyond_loopback_with_keys_the_daemon_starts(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(host="0.0.0.0", PODFLARE_API_KEYS="pf_live_first").wait_until_it_answers()
    assert_error(daemon.call("GET", "/v1/sandboxes"), 401)


def test_disabling_auth_overrides_the_refusal_with_a_warning(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(host="0.0.0.0", PODFLARE_AUTH_DISABLED="1").wait_until_it_answers()
    assert daemon.call("GET", "/v1/sandboxes").status_code == 200
    assert "warn" in daemon.log.lower()


def test_a_daemon_told_to_end_ends_with_code_zero(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    daemon.terminate()
    assert daemon.wait_until_it_ends() == 0


def test_a_busy_port_is_named_in_the_error(start_daemon: StartDaemon) -> None:
    first = start_daemon().wait_until_it_answers()
    second = start_daemon(PODFLARE_HOSTD_ADDR=f"127.0.0.1:{first.port}")
    assert second.wait_until_it_ends() != 0
    assert str(first.port) in second.log


def test_a_client_that_sends_half_a_request_does_not_keep_the_daemon_from_ending(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    with socket.create_connection(("127.0.0.1", daemon.port)) as half:
        half.sendall(b"POST /v1/sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        daemon.terminate()
        assert daemon.wait_until_it_ends() == 0
