"""A small web application that runs in a sandbox: pages, a session in a cookie, events, uploads, a WebSocket.

Written with the standard library alone, as what is in every sandbox. Started as `python3 port_app.py PORT`.
"""

import base64
import hashlib
import json
import os
import socketserver
import struct
import sys
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"""<!doctype html><title>loading</title><p id=said></p><script>
const say = text => { document.getElementById('said').append(text + ' '); };
const socket = new WebSocket(new URL('ws', location.href.replace(/^http/, 'ws')));
socket.onopen = () => socket.send('hello');
socket.onmessage = message => say('socket:' + message.data);
socket.onerror = () => say('socket:failed');
fetch('me').then(answer => answer.json()).then(me => say('me:' + me.user), () => say('me:failed'));
say('cookie:' + (document.cookie || 'none'));
document.title = 'served from a sandbox';
</script>"""

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
nexts: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
"""One for each stream, by the query that it was asked for with."""


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.websocket()
        if path == "/":
            return self.answer(PAGE, "text/html")
        if path == "/login":
            return self.answer(b"", status=302, headers={"Location": "/me", "Set-Cookie": "user=ada; Path=/; HttpOnly"})
        if path == "/absolute":
            host = self.headers["Host"]
            return self.answer(b"", status=302, headers={"Location": f"http://{host}/me"})
        if path == "/me":
            cookies = dict(pair.strip().split("=", 1) for pair in self.headers.get("Cookie", "").split(";") if "=" in pair)
            return self.json({"user": cookies.get("user"), "cookies": cookies, "pid": os.getpid()})
        if path == "/seen":
            return self.json({"path": self.path, "headers": dict(self.headers.items())})
        if path == "/events":
            return self.events()
        self.answer(b"there is nothing here", status=404)

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/next":
            nexts[query].release()
            return self.json({})
        if path == "/digest":
            digest, size = hashlib.sha256(), 0
            for piece in self.pieces():
                digest.update(piece)
                size += len(piece)
            return self.json({"sha256": digest.hexdigest(), "size": size})
        self.answer(b"there is nothing here", status=404)

    def pieces(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, 65536))):
            left -= len(piece)
            yield piece

    def events(self) -> None:
        """One at once, then one for each time somebody asks for the next."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(3):
            self.wfile.write(f"data: {number}\n\n".encode())
            self.wfile.flush()
            nexts[self.path.partition("?")[2]].acquire()

    def websocket(self) -> None:
        """An echo (RFC 6455): frames of any length, one after the other."""
        accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + GUID).encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            size = head[1] & 127
            if size == 126:
                (size,) = struct.unpack(">H", self.rfile.read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.rfile.read(8))
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(size)))
            if size < 126:
                length = bytes([size])
            elif size < 65536:
                length = b"\x7e" + struct.pack(">H", size)
            else:
                length = b"\x7f" + struct.pack(">Q", size)
            self.wfile.write(head[:1] + length + payload)
            if head[0] & 15 == 8:
                return

    def json(self, value: object) -> None:
        self.answer(json.dumps(value).encode(), "application/json")

    def answer(self, body: bytes, kind: str = "text/plain", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Backwards(socketserver.StreamRequestHandler):
    """On the port after it: says hello, and then, when it has heard all, the same backwards."""

    def handle(self) -> None:
        self.wfile.write(b"hello\n")
        self.wfile.write(self.rfile.read()[::-1])


class Backwarder(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


if __name__ == "__main__":
    port = int(sys.argv[1])
    backwarder = Backwarder(("127.0.0.1", port + 1), Backwards)
    threading.Thread(target=backwarder.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", port), App).serve_forever()
