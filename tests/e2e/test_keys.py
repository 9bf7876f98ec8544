"""Keys and the database under daemons of our own: no VM is needed for them."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from support.daemon import CALL_SECONDS, Daemon
from support.settings import Settings
from support.wire import assert_error

OPERATOR = "pf_op_of_these_tests"
StartDaemon = Callable[..., Daemon]


@pytest.fixture
def start_daemon(settings: Settings) -> Iterator[StartDaemon]:
    # Not pytest's own folder: its path is longer than the address of a Unix socket below it may be.
    with TemporaryDirectory(prefix="hostd-") as folder, ExitStack() as running:

        def start(host: str = "127.0.0.1", **environment: str) -> Daemon:
            environment = {"PODFLARE_OPERATOR_TOKEN": OPERATOR} | environment
            return running.enter_context(Daemon(settings.bin_dir / "podflare-hostd", Path(folder), host, **environment))

        yield start


def call(daemon: Daemon, method: str, path: str, key: str = OPERATOR, **body: object) -> httpx.Response:
    return httpx.request(
        method,
        daemon.url + path,
        headers={"authorization": f"Bearer {key}"},
        content=json.dumps(body) if method in ("POST", "PATCH") else None,
        timeout=CALL_SECONDS,
        trust_env=False,
    )


def new_key(daemon: Daemon, tenant: str = "default") -> dict[str, Any]:
    answer = call(daemon, "POST", "/v1/admin/keys", tenant=tenant, name="test")
    assert answer.status_code == 200, answer.text
    return answer.json()


def lists(daemon: Daemon, key: str) -> int:
    return call(daemon, "GET", "/v1/sandboxes", key).status_code


@pytest.mark.parametrize("kill", [False, True])
def test_keys_tenants_and_the_log_outlive_the_daemon_however_it_ends(start_daemon: StartDaemon, kill: bool) -> None:
    daemon = start_daemon(PODFLARE_REQUIRE_KEYS="1").wait_until_it_answers()
    assert call(daemon, "POST", "/v1/admin/tenants", name="acme", tier="pro", limits={"sandboxes": 3}).status_code == 200
    key, spent = new_key(daemon, "acme"), new_key(daemon, "acme")
    assert call(daemon, "DELETE", f"/v1/admin/keys/{spent['id']}").status_code == 200
    daemon.restart(kill=kill).wait_until_it_answers()
    assert (lists(daemon, key["key"]), lists(daemon, spent["key"])) == (200, 401)
    tenant = call(daemon, "GET", "/v1/admin/tenants/acme").json()
    assert (tenant["tier"], tenant["limits"]["sandboxes"], tenant["keys"]) == ("pro", 3, 1)
    actions = [entry["action"] for entry in call(daemon, "GET", "/v1/admin/audit").json()["entries"]]
    assert actions == ["key_revoked", "key_created", "key_created", "tenant_created"]


def test_with_required_keys_only_they_open_the_door(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(PODFLARE_REQUIRE_KEYS="1").wait_until_it_answers()
    bare = daemon.call("GET", "/v1/sandboxes")
    assert assert_error(bare, 401)["error"] == "missing Authorization: Bearer <key>"
    key = new_key(daemon)["key"]
    assert lists(daemon, key) == 200
    cut = call(daemon, "GET", "/v1/sandboxes", key[:-1])
    assert assert_error(cut, 401, "mistyped")["error"] == "invalid api key"
    assert lists(daemon, OPERATOR) == 401, "the operator's token is no key"
    assert_error(call(daemon, "GET", "/v1/admin/tenants", key), 401, "operator")


def test_a_key_of_the_store_is_enough_to_listen_beyond_loopback(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    key = new_key(daemon)
    daemon.restart(PODFLARE_HOSTD_ADDR=f"0.0.0.0:{daemon.port}").wait_until_it_answers()
    assert (lists(daemon, key["key"]), lists(daemon, "pk_other")) == (200, 401)
    call(daemon, "DELETE", f"/v1/admin/keys/{key['id']}")
    assert daemon.restart().wait_until_it_ends() != 0
    assert "podflare key create" in daemon.log


def test_without_an_operators_token_nobody_is_the_operator(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(PODFLARE_OPERATOR_TOKEN="").wait_until_it_answers()
    for key in ("pf_op_", "x", OPERATOR):
        answer = daemon.call("GET", "/v1/admin/tenants", headers={"authorization": f"Bearer {key}"})
        assert_error(answer, 401, "PODFLARE_OPERATOR_TOKEN")


def test_keys_are_nowhere_on_the_disk_and_not_in_the_log(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    key = new_key(daemon)["key"]
    lists(daemon, key)
    daemon.restart().wait_until_it_answers()
    assert key not in daemon.log and OPERATOR not in daemon.log
    for file in daemon.data_dir.glob("podflare.db*"):
        assert key.encode() not in file.read_bytes(), file
        assert file.stat().st_mode & 0o077 == 0, f"others may read {file}"


def test_a_damaged_database_is_refused_and_left_alone(start_daemon: StartDaemon) -> None:
    daemon = start_daemon().wait_until_it_answers()
    new_key(daemon)
    daemon.terminate()
    assert daemon.wait_until_it_ends() == 0
    database = daemon.data_dir / "podflare.db"
    torn = database.read_bytes()[:5000]
    database.write_bytes(torn)
    assert daemon.restart().wait_until_it_ends() != 0
    assert "damaged" in daemon.log and "backup" in daemon.log
    assert database.read_bytes() == torn


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/v1/admin/tenants", {"name": "A B"}, 400, "name"),
        ("POST", "/v1/admin/tenants", {"name": "a", "tier": "gold"}, 400, "tier"),
        ("POST", "/v1/admin/tenants", {"name": "a", "limits": {"runs": 0}}, 400, "runs"),
        ("POST", "/v1/admin/tenants", {"name": "default"}, 409, "already"),
        ("DELETE", "/v1/admin/tenants/default", {}, 409, "default"),
        ("PATCH", "/v1/admin/tenants/nobody", {}, 404, "nobody"),
        ("POST", "/v1/admin/keys", {"tenant": "nobody"}, 404, "nobody"),
        ("POST", "/v1/admin/keys", {"name": ""}, 400, "name"),
        ("POST", "/v1/admin/keys/key_none/rotate", {}, 404, "key_none"),
        ("DELETE", "/v1/admin/keys/key_none", {}, 404, "key_none"),
        ("GET", "/v1/admin/audit?limit=0", {}, 400, "limit"),
        ("GET", "/v1/admin/usage?days=x", {}, 400, "days"),
    ],
)
def test_bad_input_is_told_by_name_and_changes_nothing(
    start_daemon: StartDaemon, method: str, path: str, body: dict[str, object], status: int, word: str
) -> None:
    daemon = start_daemon().wait_until_it_answers()
    assert_error(call(daemon, method, path, **body), status, word)
    assert len(call(daemon, "GET", "/v1/admin/tenants").json()["tenants"]) == 1
    assert call(daemon, "GET", "/v1/admin/audit").json()["entries"] == []
