"""The HTTP interface without the official client: what goes over the wire, byte for byte, and when."""

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

Event = dict[str, Any]

EVENT_KEYS = {"type", "data", "seq", "ts"}
"""The official client raises on a missing key; an extra one is a promise nobody made."""


@dataclass(frozen=True)
class Line:
    """One line of a stream without its newline."""

    text: bytes
    at: float
    """Seconds on the monotonic clock when its last byte came."""


@dataclass
class RawRun:
    """An answer to `exec`, as it came."""

    status: int
    headers: httpx.Headers
    lines: list[Line] = field(default_factory=list)
    rest: bytes = b""
    """What came after the last newline; a whole stream leaves nothing."""

    @property
    def heartbeats(self) -> list[Line]:
        return [line for line in self.lines if line.text == b""]

    @property
    def event_lines(self) -> list[Line]:
        return [line for line in self.lines if line.text != b""]

    @property
    def events(self) -> list[Event]:
        return [json.loads(line.text) for line in self.event_lines]

    @property
    def exit_code(self) -> int:
        exits = [event["data"] for event in self.events if event["type"] == "exit"]
        assert len(exits) == 1, f"a run has exactly one exit event, this one has {len(exits)}"
        return int(exits[0])

    def output(self, kind: str = "stdout") -> str:
        return "\n".join(str(event["data"]) for event in self.events if event["type"] == kind)


def raw_exec(url: str, sandbox_id: str, code: str, seconds: float = 240, **fields: object) -> RawRun:
    """Runs code and records every line with its time. `fields` go into the request body."""
    body = {"code": code, **fields}
    deadline = time.monotonic() + seconds
    # Heartbeats come every 10 s, so a minute of nothing at all is a fault of the server whatever the code does.
    timeout = httpx.Timeout(60.0)
    path = f"{url}/v1/sandboxes/{sandbox_id}/exec"
    with httpx.stream("POST", path, json=body, timeout=timeout, trust_env=False) as response:
        run = RawRun(status=response.status_code, headers=response.headers)
        for line in _lines(response, run):
            run.lines.append(line)
            assert time.monotonic() < deadline, f"the run did not end within {seconds:g} s: {code[:80]!r}"
    return run


def _lines(response: httpx.Response, run: RawRun) -> Iterator[Line]:
    pending = bytearray()
    for piece in response.iter_raw():
        now = time.monotonic()
        pending += piece
        if b"\n" not in piece:
            continue
        *whole, last = bytes(pending).split(b"\n")
        pending = bytearray(last)
        yield from (Line(text, now) for text in whole)
    run.rest = bytes(pending)


class AbandonedRun:
    """A run whose client goes away: started over a socket of its own, which `leave` closes."""

    def __init__(self, url: str, sandbox_id: str, code: str, language: str = "python") -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=90)
        body = json.dumps({"code": code, "language": language})
        self._connection.request(
            "POST",
            f"{address.path}/v1/sandboxes/{sandbox_id}/exec",
            body,
            {"content-type": "application/json"},
        )
        self._response: http.client.HTTPResponse | None = None

    def wait_for_headers(self) -> int:
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response.status

    def wait_for_event(self) -> Event:
        """The next event, heartbeats left out."""
        self.wait_for_headers()
        assert self._response is not None
        while line := self._response.readline():
            if line.strip():
                return json.loads(line)
        raise AssertionError("the stream ended before an event came")

    def leave(self) -> None:
        # The response holds the socket too; both must go for the server to see the end.
        if self._response is not None:
            self._response.close()
        self._connection.close()


def api(url: str) -> httpx.Client:
    """A plain HTTP client for the host at `url`."""
    return httpx.Client(base_url=url, timeout=120.0, trust_env=False)


def sandbox_ids(client: httpx.Client) -> set[str]:
    """Ids of all sandboxes the host has, whatever their state."""
    answer = client.get("/v1/sandboxes")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    sandboxes = body["sandboxes"] if isinstance(body, dict) else body
    return {sandbox["id"] for sandbox in sandboxes}


def assert_error(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Checks the shape every error has: JSON with a text for people and a stable code. Returns the body."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    body = answer.json()
    assert isinstance(body["error"], str) and body["error"], body
    code = body["code"]
    assert isinstance(code, str) and code == code.lower() and " " not in code, body
    text = body["error"] + " " + str(body.get("hint", ""))
    for word in words:
        assert word in text, f"the error should mention {word!r}: {body}"
    return body
