#!/usr/bin/env python3
"""Moves one large file into a sandbox and out of it again, and measures speed and memory.

    python3 scripts/large-transfer.py --url http://127.0.0.1:7070 --mib 1024

Content is made and checked as it goes, so this needs no memory either. With --podflare and --state-dir the peak memory
of the host's processes is read in the machine that holds them; the agent's is read in the sandbox.
"""

import argparse
import hashlib
import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

PIECE = 1 << 20
SILENCE_SECONDS = 600


def content(mib: int) -> Iterator[bytes]:
    """Bytes that do not repeat and can be made again."""
    for number in range(mib):
        seed = hashlib.sha256(str(number).encode()).digest()
        yield (seed * (PIECE // len(seed) - 1)) + number.to_bytes(len(seed), "little")


class Host:
    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=SILENCE_SECONDS, blocksize=PIECE
        )

    def call(self, method: str, path: str, body: object = None) -> bytes:
        connection = self.open()
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status < 300, data
        return data


def upload(host: Host, path: str, mib: int) -> tuple[float, str]:
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for piece in content(mib):
            digest.update(piece)
            yield piece

    connection = host.open()
    begun = time.monotonic()
    connection.request("PUT", path, pieces(), {"Content-Length": str(mib * PIECE)})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    return time.monotonic() - begun, digest.hexdigest()


def download(host: Host, path: str) -> tuple[float, str]:
    digest = hashlib.sha256()
    connection = host.open()
    begun = time.monotonic()
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    while piece := answer.read(PIECE):
        digest.update(piece)
    return time.monotonic() - begun, digest.hexdigest()


def peak_mib(arguments: argparse.Namespace, pid: str) -> str:
    """Peak resident memory of a process in the machine that holds the VMs."""
    command = [arguments.podflare, "machine", "exec", "--state-dir", arguments.state_dir, "--", "sh", "-c"]
    script = f"grep VmHWM /proc/{pid}/status"
    done = subprocess.run([*command, script], capture_output=True, text=True, timeout=60, check=False)
    return f"{int(done.stdout.split()[1]) / 1024:.1f}" if done.returncode == 0 else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7070")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--podflare", help="the command line, to look into the machine")
    parser.add_argument("--state-dir", help="of the host on this machine")
    arguments = parser.parse_args()
    host = Host(arguments.url)
    sandbox = json.loads(host.call("POST", "/v1/sandboxes", {}))["id"]
    own = f"/v1/sandboxes/{sandbox}"
    try:
        path = f"{own}/files?path=/root/large.bin"
        up, sent = upload(host, path, arguments.mib)
        print(f"up    {arguments.mib} MiB in {up:.1f} s: {arguments.mib / up:.2f} MiB/s", flush=True)
        down, received = download(host, path)
        print(f"down  {arguments.mib} MiB in {down:.1f} s: {arguments.mib / down:.2f} MiB/s", flush=True)
        assert sent == received, f"sent {sent}, received {received}"
        print(f"the same to the byte: sha256 {sent}")
        code = "grep VmHWM /proc/1/status; free -m | grep Mem"
        events = host.call("POST", f"{own}/exec", {"code": code, "language": "bash"}).decode().splitlines()
        for line in events:
            event = json.loads(line) if line else {"type": ""}
            if event["type"] == "stdout":
                print("agent " if "VmHWM" in event["data"] else "guest ", event["data"])
        if arguments.podflare and arguments.state_dir:
            vmm = str(json.loads(host.call("GET", own))["vmm_pid"])
            print(f"hostd  peak {peak_mib(arguments, '$(pidof podflare-hostd)')} MiB")
            print(f"vmm    peak {peak_mib(arguments, vmm)} MiB, the guest's memory included")
    finally:
        host.call("DELETE", own)


if __name__ == "__main__":
    main()
