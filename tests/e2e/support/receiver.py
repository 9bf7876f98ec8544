"""Somebody who receives webhooks, on the developer's machine."""

import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.waiting import wait_until


@dataclass(frozen=True)
class Delivery:
    """One request that came."""

    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """As docs/api.md shows it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        sent, stamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        if abs(time.time() - int(stamp)) > 300:
            return False
        digest = hmac.new(key, f"{sent}.{stamp}.".encode() + self.body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(digest).decode()
        return any(hmac.compare_digest(expected, one) for one in self.headers["webhook-signature"].split())


class Receiver:
    """Listens on loopback while it is entered; `status` is what it answers."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.deliveries.append(Delivery(headers, body))
                self.send_response(receiver.status)
                self.send_header("content-length", "6")
                self.end_headers()
                self.wfile.write(b"thanks")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def of(self, sandbox_id: str) -> list[str]:
        """What was told of a sandbox, as it came."""
        payloads = [delivery.payload for delivery in list(self.deliveries)]
        return [payload["type"] for payload in payloads if payload.get("sandbox_id") == sandbox_id]

    def wait_for(self, sandbox_id: str, *types: str) -> None:
        wait_until(
            f"{types} of {sandbox_id} to be told, not {self.of(sandbox_id)}",
            lambda: self.of(sandbox_id) == list(types),
        )

    def told(self, sandbox_id: str, type: str) -> dict[str, Any]:
        """The payload that told it."""
        payloads = [delivery.payload for delivery in list(self.deliveries)]
        return next(told for told in payloads if (told.get("sandbox_id"), told["type"]) == (sandbox_id, type))

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
