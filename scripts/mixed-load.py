#!/usr/bin/env python3
"""Everything at once for a while, and nothing may be wrong or left over.

    python3 scripts/mixed-load.py --url http://127.0.0.1:7070 --minutes 60 --cli podflare --state-dir DIR

Clients create, run, fork, merge, freeze, resume, keep and go back to checkpoints, type into terminals, move files and
delete, and check each answer against what they know of a sandbox. A 429 or 503 with `Retry-After` is waited for, as a
client does; any other refusal, and any wrong value, ends the script with 1. Afterwards processes, descriptors, memory and
disk have to be back where they were. Needs a software host, which is looked into from within.
"""

import argparse
import base64
import collections
import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import httpx

CALL_SECONDS = 120
SETTLE_SECONDS = 180
SANDBOXES_EACH = 3
FILE_BYTES = 300_000
# What a daemon may have more of afterwards: caches, and connections of whoever looks.
DESCRIPTORS_MORE = 24
RESIDENT_MORE = 48 << 20
MEMORY_LESS = 256 << 20
DISK_MORE = 96 << 20

LOOK = """
hostd=$(cat /run/hostd.pid)
vmms=0
for d in /proc/[0-9]*; do read -r c <$d/comm && [ "$c" = podflare-vmm ] && vmms=$((vmms+1)); done 2>/dev/null
echo vmms $vmms
echo homes $(ls /state/hostd/vms | wc -l)
echo descriptors $(ls /proc/$hostd/fd | wc -l)
echo resident $(($(grep VmRSS /proc/$hostd/status | tr -dc 0-9) * 1024))
echo available $(($(grep MemAvailable /proc/meminfo | tr -dc 0-9) * 1024))
echo disk $(($(df -k /state | tail -n 1 | tr -s ' ' | cut -d ' ' -f 3) * 1024))
"""


class Wrong(Exception):
    """What must not happen."""


@dataclass
class Box:
    id: str
    value: int
    """Of its variable `x`."""


class Host:
    def __init__(self, options: argparse.Namespace) -> None:
        self.url, self.cli, self.state_dir = options.url, options.cli, options.state_dir

    def machine(self) -> dict[str, int]:
        command = [self.cli, "machine", "exec", "--state-dir", self.state_dir, "--", LOOK]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        return {name: int(number) for name, number in (line.split() for line in done.stdout.splitlines())}

    def surplus(self) -> dict[str, int]:
        """What there is, less what waits in pools and for the next resume."""
        capacity = httpx.get(f"{self.url}/v1/capacity", timeout=CALL_SECONDS).json()
        seen = self.machine()
        seen["vmms"] -= sum(pool["size"] + ("zygote_pid" in pool) for pool in capacity["pools"]) + capacity["standby"]
        seen["short"] = sum(max(pool["target"] - pool["size"], 0) for pool in capacity["pools"])
        return seen


class Client(threading.Thread):
    def __init__(self, host: Host, seed: int, until: float) -> None:
        super().__init__(daemon=True)
        self.random, self.until = random.Random(seed), until
        self.http = httpx.Client(base_url=host.url, timeout=CALL_SECONDS)
        self.boxes: list[Box] = []
        self.done: collections.Counter[str] = collections.Counter()
        self.slowest: dict[str, float] = {}
        self.fault: str | None = None

    def run(self) -> None:
        try:
            while time.monotonic() < self.until:
                self.step()
            for box in list(self.boxes):
                self.delete(box)
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"

    def step(self) -> None:
        if not self.boxes:
            return self.timed(self.create)
        box = self.random.choice(self.boxes)
        chances = [
            (self.check, 30), (self.freeze, 10), (self.checkpoint, 8), (self.terminal, 10), (self.file, 10),
            (self.delete, 8),
        ]
        if len(self.boxes) < SANDBOXES_EACH:
            chances += [(self.fork, 14), (lambda _: self.create(), 10)]
        if len(self.boxes) > 1:
            chances += [(self.merge, 8)]
        action = self.random.choices([what for what, _ in chances], [weight for _, weight in chances])[0]
        self.timed(lambda: action(box), getattr(action, "__name__", "create"))

    def timed(self, action, name: str = "create") -> None:  # type: ignore[no-untyped-def]
        name = "create" if name == "<lambda>" else name
        started = time.monotonic()
        action()
        self.done[name] += 1
        self.slowest[name] = max(self.slowest.get(name, 0), time.monotonic() - started)

    def call(self, method: str, path: str, **more: object) -> httpx.Response:
        while True:
            answer = self.http.request(method, path, **more)  # type: ignore[arg-type]
            if answer.status_code in (429, 503) and "retry-after" in answer.headers:
                self.done["waited"] += 1
                time.sleep(float(answer.headers["retry-after"]) * self.random.uniform(0.5, 1.5))
                continue
            if answer.status_code >= 400:
                raise Wrong(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            return answer

    def says(self, box: Box, code: str) -> str:
        answer = self.call("POST", f"/v1/sandboxes/{box.id}/exec", json={"code": code})
        events = [json.loads(line) for line in answer.text.split("\n") if line.strip()]
        if events[-1] != {**events[-1], "type": "exit", "data": 0}:
            raise Wrong(f"a run in {box.id} ended with {events[-2:]}")
        return "\n".join(str(event["data"]) for event in events if event["type"] == "stdout")

    def expect(self, box: Box, wanted: str, said: str) -> None:
        if wanted != said:
            raise Wrong(f"{box.id} said {said[-200:]!r} instead of {wanted!r}")

    def create(self) -> None:
        box = Box(self.call("POST", "/v1/sandboxes", json={}).json()["id"], 0)
        self.boxes.append(box)
        self.set(box)

    def set(self, box: Box) -> None:
        value = self.random.randrange(1 << 30)
        self.expect(box, str(value), self.says(box, f"x = {value}\nprint(x)"))
        box.value = value

    def check(self, box: Box) -> None:
        self.expect(box, str(box.value), self.says(box, "print(x)"))
        self.set(box)

    def fork(self, box: Box) -> None:
        (child,) = self.call("POST", f"/v1/sandboxes/{box.id}/fork", json={"n": 1}).json()["children"]
        self.boxes.append(Box(child, box.value))
        self.check(self.boxes[-1])

    def merge(self, box: Box) -> None:
        winner = self.random.choice([other for other in self.boxes if other is not box])
        self.call("POST", f"/v1/sandboxes/{box.id}/merge_into/{winner.id}")
        self.boxes.remove(winner)
        box.value = winner.value
        self.check(box)

    def freeze(self, box: Box) -> None:
        space = self.call("POST", f"/v1/sandboxes/{box.id}/freeze").json()["id"]
        box.id = self.call("POST", f"/v1/spaces/{space}/resume", json={}).json()["id"]
        self.check(box)

    def checkpoint(self, box: Box) -> None:
        path = f"/v1/sandboxes/{box.id}"
        made = self.call("POST", f"{path}/checkpoints").json()["id"]
        self.says(box, "x = 'spoilt'")
        self.call("POST", f"{path}/rollback", json={"checkpoint": made})
        self.expect(box, str(box.value), self.says(box, "print(x)"))
        self.call("DELETE", f"{path}/checkpoints/{made}")

    def terminal(self, box: Box) -> None:
        path, mark = f"/v1/sandboxes/{box.id}/pty", f"{self.random.randrange(1 << 30)}"
        with self.http.stream("POST", path, json={"shellCmd": "exec bash --norc"}) as stream:
            events = (json.loads(line) for line in stream.iter_lines() if line.strip())
            name = next(events)["session_id"]
            typed = base64.b64encode(f"echo ma''rk-{mark}; exit 7\n".encode()).decode()
            self.call("POST", f"{path}/{name}/input", json={"data_b64": typed})
            shown, code = b"", None
            for event in events:
                if event["type"] == "pty_data":
                    shown += base64.b64decode(event["data_b64"])
                elif event["type"] == "pty_exit":
                    code = event["data"]
        if code != 7 or f"mark-{mark}".encode() not in shown:
            raise Wrong(f"a terminal of {box.id} ended with {code} and showed {shown[-200:]!r}")

    def file(self, box: Box) -> None:
        path, content = f"/v1/sandboxes/{box.id}/files", os.urandom(FILE_BYTES)
        self.call("PUT", path, params={"path": "/root/moved"}, content=content)
        if self.call("GET", path, params={"path": "/root/moved"}).content != content:
            raise Wrong(f"a file of {box.id} came back as another")

    def delete(self, box: Box) -> None:
        self.call("DELETE", f"/v1/sandboxes/{box.id}")
        self.boxes.remove(box)


def settled(host: Host) -> dict[str, int]:
    """What there is when pools are full and nothing moves any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        seen = host.surplus()
        if (seen["vmms"] <= 0 and seen["short"] == 0) or time.monotonic() > deadline:
            return seen
        time.sleep(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7070")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--cli", default="podflare")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    host, chance = Host(options), random.Random(options.seed)
    before = settled(host)
    print(f"seed {options.seed}, before: {before}", flush=True)
    until = time.monotonic() + options.minutes * 60
    clients = [Client(host, chance.randrange(1 << 30), until) for _ in range(options.clients)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        clients[0].join(60)
        counted = sum((client.done for client in clients), collections.Counter())
        print(f"{dict(counted)}", flush=True)
        if faults := [client.fault for client in clients if client.fault]:
            print("\n".join(f"a client: {fault}" for fault in faults))
            return 1
        for client in clients[1:]:
            client.join(0 if clients[0].is_alive() else CALL_SECONDS)
    slowest = {name: max(client.slowest.get(name, 0) for client in clients) for name in clients[0].slowest}
    after = settled(host)
    print(f"after: {after}\nslowest, in seconds: {({name: round(took, 2) for name, took in slowest.items()})}")
    left = [
        what
        for what, too_much in {
            "VM processes": after["vmms"] > max(before["vmms"], 0),
            "directories of VMs": after["homes"] > before["homes"] + 4,
            "descriptors": after["descriptors"] > before["descriptors"] + DESCRIPTORS_MORE,
            "the daemon's memory": after["resident"] > before["resident"] + RESIDENT_MORE,
            "the machine's memory": after["available"] < before["available"] - MEMORY_LESS,
            "the disk": after["disk"] > before["disk"] + DISK_MORE,
        }.items()
        if too_much
    ]
    print(f"left over: {', '.join(left) or 'nothing'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
