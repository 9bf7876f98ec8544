"""What sandboxes reach: servers of these tests on this machine's loopback, and sandboxes that may reach them."""

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.waiting import PATIENCE_SECONDS
from support.wire import raw_exec

Reach = bool | dict[str, list[str]]


class Made:
    """A sandbox made with what it may reach, without the official client, which knows flags only."""

    def __init__(self, http: httpx.Client, url: str, sandbox_id: str) -> None:
        self.id = sandbox_id
        self._http = http
        self._url = url

    def run(self, code: str, seconds: float = 300) -> str:
        """What the code prints; it has to succeed."""
        done = raw_exec(self._url, self.id, code, seconds)
        assert done.exit_code == 0, done.output("stderr")[-2000:]
        return done.output()

    def bash(self, code: str, seconds: float = 300) -> str:
        done = raw_exec(self._url, self.id, code, seconds, language="bash")
        assert done.exit_code == 0, (done.output() + done.output("stderr"))[-3000:]
        return done.output()

    def info(self) -> dict[str, Any]:
        answer = self._http.get(f"/v1/sandboxes/{self.id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def may_reach(self, reach: Reach) -> dict[str, Any]:
        """It may reach this from now on, and nothing else."""
        answer = self._http.patch(f"/v1/sandboxes/{self.id}", json={"egress": reach})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        answer = self._http.get(f"/v1/sandboxes/{self.id}/egress/log", params={"after": after, "limit": 512})
        assert answer.status_code == 200, answer.text
        return answer.json()["entries"]

    def reaches(self, address: str, port: int) -> bool:
        """Whether an echo there answers, however long that takes."""
        return self.outcome(address, port, PATIENCE_SECONDS) == "hello"

    def outcome(self, address: str, port: int, seconds: float = 4) -> str:
        """What becomes of a connection: what its server says first, or the error's name. So short a time is for those that
        must not come about."""
        return self.run(f"""
import socket
def outcome():
    try:
        with socket.create_connection(({address!r}, {port}), {seconds}) as connection:
            connection.settimeout({seconds})
            connection.sendall(b"hello\\n")
            return connection.recv(100).decode() or "closed"
    except OSError as error:
        return type(error).__name__
print(outcome())
""").strip()


@contextmanager
def made(http: httpx.Client, url: str, reach: Reach, **fields: Any) -> Iterator[Made]:
    """A sandbox for a block. `fields` go into the request that makes it."""
    answer = http.post("/v1/sandboxes", json={"egress": reach, **fields})
    assert answer.status_code == 200, answer.text
    sandbox = Made(http, url, answer.json()["id"])
    try:
        yield sandbox
    finally:
        http.delete(f"/v1/sandboxes/{sandbox.id}")


@contextmanager
def forks(http: httpx.Client, url: str, parent: Made, n: int) -> Iterator[list[Made]]:
    answer = http.post(f"/v1/sandboxes/{parent.id}/fork", json={"n": n})
    assert answer.status_code == 200, answer.text
    children = [Made(http, url, child) for child in answer.json()["children"]]
    try:
        yield children
    finally:
        for child in children:
            http.delete(f"/v1/sandboxes/{child.id}")


class Echo:
    """Says what it is told, on loopback, while it is entered; remembers how many have come."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self.arrivals = 0
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            self._socket.listen(2048)
            serve = self._accept
        else:
            serve = self._answer
        self._thread = threading.Thread(target=serve, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.arrivals += 1
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass

    def _answer(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(2048)
                self.arrivals += 1
                self._socket.sendto(data, peer)
            except OSError:
                return

    def __enter__(self) -> "Echo":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept() does not notice a close.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


@contextmanager
def files_over_http(directory: Path) -> Iterator[int]:
    """Serves a directory on loopback; gives the port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
