"""Files of a sandbox over plain HTTP, without the official client."""

import io
import json
import re
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote_from_bytes, urlsplit

import httpx

TRANSFER_SECONDS = 300
"""Silence that a transfer may have on an emulated host with a busy disk."""


def query(path: str | bytes, **more: object) -> str:
    raw = path.encode() if isinstance(path, str) else path
    extra = "".join(f"&{name}={value}" for name, value in more.items())
    return f"path={quote_from_bytes(raw)}{extra}"


class Files:
    """One sandbox's files."""

    def __init__(self, url: str, sandbox_id: str) -> None:
        self.url = url
        self.base = f"/v1/sandboxes/{sandbox_id}/files"
        self._http = httpx.Client(base_url=url, timeout=TRANSFER_SECONDS, trust_env=False)

    def call(self, method: str, path: str | bytes, **options: object) -> httpx.Response:
        more = options.pop("query", {})
        assert isinstance(more, dict)
        return self._http.request(method, f"{self.base}?{query(path, **more)}", **options)  # type: ignore[arg-type]

    def read(self, path: str | bytes, **headers: str) -> bytes:
        answer = self.call("GET", path, headers=headers)
        assert answer.status_code in (200, 206), answer.text[:500]
        return answer.content

    def write(self, path: str | bytes, content: bytes, **more: object) -> dict[str, object]:
        answer = self.call("PUT", path, content=content, query=more)
        assert answer.status_code == 200, answer.text[:500]
        return dict(answer.json())

    def names(self, path: str) -> list[str]:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text[:500]
        return [entry["name"] for entry in answer.json()["entries"]]

    def tree(self, path: str) -> dict[str, bytes | None]:
        """Regular files below a directory by name; directories have no content."""
        answer = self.call("GET", path, query={"recursive": "true", "format": "tar"})
        assert answer.status_code == 200, answer.text[:500]
        found: dict[str, bytes | None] = {}
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                found[member.name] = file.read() if file else None
        return found

    @contextmanager
    def watch(self, path: str, recursive: bool = False) -> Iterator[Iterator[dict[str, object]]]:
        """Changes as they are told; the watch is armed when the block begins."""
        target = f"{self.base}/watch?{query(path, recursive=str(recursive).lower())}"
        with self._http.stream("GET", target) as response:
            assert response.status_code == 200, response.status_code
            changes = (json.loads(line) for line in response.iter_lines() if line)
            assert next(changes)["type"] == "ready"
            yield changes

    def begin_upload(self, path: str, length: int) -> socket.socket:
        """An upload of which only the head has been sent; it ends with the socket."""
        address = urlsplit(self.url)
        connection = socket.create_connection((address.hostname or "", address.port or 80), timeout=TRANSFER_SECONDS)
        head = f"PUT {self.base}?{query(path)} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        return connection


def whole_answer(connection: socket.socket) -> bytes:
    """The answer, head and body, which may come in pieces."""
    answer = b""
    while not _is_whole(answer):
        piece = connection.recv(4096)
        if not piece:
            break
        answer += piece
    return answer


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])
