"""Webhooks: from the official client's calls to a receiver that verifies the signature."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.family import forked
from support.receiver import Receiver
from support.waiting import wait_until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


@pytest.fixture
def address(cli: Cli) -> str:
    """Where the host reaches this machine's loopback: a software host is a machine of its own."""
    return "127.0.0.1" if cli.is_on_hardware else "10.0.2.2"


def test_what_happens_is_told_once_in_order_and_signed(
    url: str, http: httpx.Client, cli: Cli, receiver: Receiver, address: str
) -> None:
    made = cli.run("webhook", "create", f"http://{address}:{receiver.port}/hook", "--json").expect().json()
    hook, secret = made["id"], made["secret"]
    try:
        tested = cli.run("webhook", "test", hook).expect().stdout
        assert "is delivered" in tested and "thanks" in tested
        with Sandbox(host=url) as parent:
            with forked(parent, 1) as (child,):
                ids = parent.id, child.id
                parent.merge_into(child)
            receiver.wait_for(ids[0], "sandbox.created")
            receiver.wait_for(ids[1], "sandbox.forked", "sandbox.merged")
        receiver.wait_for(ids[0], "sandbox.created", "sandbox.destroyed")
        assert all(delivery.is_signed_with(secret) for delivery in receiver.deliveries)
        assert not any(delivery.is_signed_with("whsec_AAAA") for delivery in receiver.deliveries)
        assert len({delivery.headers["webhook-id"] for delivery in receiver.deliveries}) == len(receiver.deliveries)

        def all_delivered() -> list[dict[str, Any]] | None:
            told = cli.run("webhook", "deliveries", hook, "--json").expect().json()["deliveries"]
            return told if {delivery["state"] for delivery in told} == {"delivered"} else None

        # The last one is delivered when the host has had its answer.
        log = wait_until("all are delivered", all_delivered)
        again = cli.run("webhook", "replay", hook, log[0]["id"], "--json").expect().json()
        wait_until(
            "the replay to come",
            lambda: receiver.deliveries[-1].payload["id"] == again["payload"]["id"] == log[0]["payload"]["id"],
        )
        rotated = cli.run("webhook", "rotate", hook, "--json").expect().json()
        cli.run("webhook", "test", hook).expect()
        last = receiver.deliveries[-1]
        assert last.is_signed_with(secret) and last.is_signed_with(rotated["secret"])
    finally:
        cli.run("webhook", "rm", hook).expect()
    assert http.get(f"/v1/webhooks/{hook}").status_code == 404


def test_an_idle_sandbox_is_frozen_told_of_and_resumed_as_often_as_it_is_left_alone(
    url: str, http: httpx.Client, receiver: Receiver, address: str
) -> None:
    body = {"url": f"http://{address}:{receiver.port}/", "events": ["sandbox.frozen", "sandbox.resumed"]}
    hook = http.post("/v1/webhooks", json=body).json()["id"]
    try:
        box, spaces = Sandbox(host=url, persistent=True), []
        box.run_code("rounds = 0")
        for rounds in range(2):
            leave_alone(http, box)
            receiver.wait_for(box.id, *(["sandbox.resumed"] if rounds else []), "sandbox.frozen")
            spaces.append(receiver.told(box.id, "sandbox.frozen")["space_id"])
            assert http.get(f"/v1/sandboxes/{box.id}").status_code == 404
            box = Sandbox.resume(spaces[-1], host=url, idle_timeout_seconds=600, persistent=rounds == 0)
            assert box.run_code("rounds += 1; print(rounds)").stdout == str(rounds + 1)
        assert spaces[0] != spaces[1]
        box.close()
    finally:
        assert http.delete(f"/v1/webhooks/{hook}").status_code == 204


def leave_alone(http: httpx.Client, box: Sandbox) -> None:
    """So short a time is not given to one that is to be used: a busy machine takes as long for the next request."""
    answer = http.patch(f"/v1/sandboxes/{box.id}", json={"idle_timeout_seconds": 2})
    assert answer.status_code == 200, answer.text


def test_a_receiver_that_fails_gets_it_again(
    url: str, http: httpx.Client, receiver: Receiver, address: str
) -> None:
    receiver.status = 503
    body = {"url": f"http://{address}:{receiver.port}/", "events": ["sandbox.created", "sandbox.destroyed"]}
    hook = http.post("/v1/webhooks", json=body).json()
    path = f"/v1/webhooks/{hook['id']}"
    try:
        with Sandbox(host=url) as sandbox:
            receiver.wait_for(sandbox.id, "sandbox.created")
        wait_until("it to be shown as failing", lambda: "failing_since_ms" in http.get(path).json())
        receiver.status = 200
        failed = "sandbox.created"
        wait_until("the rest to be told", lambda: "sandbox.destroyed" in receiver.of(sandbox.id))
        told = receiver.of(sandbox.id)
        # It may have been tried more than once before the receiver was well again.
        assert told == [failed] * max(2, told.count(failed)) + ["sandbox.destroyed"]

        def is_well() -> bool:
            shown = http.get(path).json()
            return shown["pending"] == 0 and "failing_since_ms" not in shown

        wait_until("nothing to be pending and nothing to fail", is_well)
    finally:
        assert http.delete(path).status_code == 204


@pytest.mark.parametrize(
    "url_of_receiver",
    ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "https://me:secret@example.com/", "ftp://example.com/"],
)
def test_what_must_not_be_sent_to_is_refused(http: httpx.Client, url_of_receiver: str) -> None:
    refused = http.post("/v1/webhooks", json={"url": url_of_receiver})
    assert refused.status_code == 400, refused.text
    assert refused.json()["code"] == "invalid_field"
    assert refused.json()["error"].startswith("url: ")
