#!/usr/bin/env python3
"""Keeps sandboxes under CPU, memory, disk and subprocess load at the same time, and checks every single answer.

    python scripts/soak.py http://127.0.0.1:7070 --minutes 30 --sandboxes 3 --cli podflare --state-dir DIR

Prints a line of progress every 30 s and a JSON summary at the end. Ends with 1 when any answer was wrong, a call
failed, or a kernel complained: that of a guest, or that of the machine they run in.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from podflare import Client, Sandbox
from soak_loads import LOADS, SETUP, Load

PROGRESS_SECONDS = 30

# Searched with case, and with enough of each message: a quiet log has `panic=` on its command line and says "debug".
COMPLAINTS = "|".join(
    [
        "soft lockup",
        "(hard|Hard) LOCKUP",
        "Kernel panic",
        "blocked for more than",
        "(self-detected|detected) stall",
        "BUG:",
        "kernel BUG at",
        "Oops",
        "Call Trace",
        "general protection",
        "segfault at",
        "Out of memory",
        "I/O error",
        "EXT4-fs (error|warning)",
        "clocksource: .* unstable",
    ]
)


@dataclass
class Record:
    """What has happened to one sandbox so far. Written by its own thread only."""

    sandbox: str
    done: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, load: str, seconds: float) -> None:
        self.done[load] += 1
        self.seconds[load] = self.seconds.get(load, 0.0) + seconds
        self.slowest[load] = max(self.slowest.get(load, 0.0), seconds)

    def summary(self) -> dict[str, object]:
        return {
            "sandbox": self.sandbox,
            "answers": dict(self.done),
            "mean_s": {load: round(self.seconds[load] / count, 3) for load, count in self.done.items()},
            "slowest_s": {load: round(seconds, 3) for load, seconds in self.slowest.items()},
            "wrong": self.wrong,
        }


def main() -> int:
    options = parse_arguments()
    url = options.url.rstrip("/")
    client = Client(host=url)
    began = time.monotonic()
    deadline = began + options.minutes * 60
    machine_before = machine_complaints(options)

    sandboxes = [Sandbox(client=client) for _ in range(options.sandboxes)]
    records = [Record(sandbox.id) for sandbox in sandboxes]
    stop = threading.Event()
    workers = [
        threading.Thread(target=keep_busy, args=(url, record, deadline, stop), name=record.sandbox, daemon=True)
        for record in records
    ]
    print(f"soak: {len(sandboxes)} sandboxes at {url} for {options.minutes:g} min", flush=True)
    try:
        for worker in workers:
            worker.start()
        watch(workers, records, began)
    except KeyboardInterrupt:
        stop.set()
        for worker in workers:
            worker.join(120)
    finally:
        guest_complaints = {sandbox.id: complaints_in(sandbox) for sandbox in sandboxes}
        for sandbox in sandboxes:
            close(sandbox)
    machine_after = machine_complaints(options)

    new_in_machine = [line for line in machine_after if line not in machine_before]
    wrong = sum(len(record.wrong) for record in records)
    idle = [record.sandbox for record in records if not all(record.done[load.name] for load in LOADS)]
    good = not wrong and not any(guest_complaints.values()) and not new_in_machine and not idle
    summary = {
        "ok": good,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "answers": sum(record.done.total() for record in records),
        "wrong": wrong,
        "never_ran_every_load": idle,
        "guest_kernel_complaints": {key: lines for key, lines in guest_complaints.items() if lines},
        "machine_kernel_complaints": new_in_machine,
        "machine_checked": options.cli is not None,
        "sandboxes": [record.summary() for record in records],
    }
    print(json.dumps(summary, indent=2), flush=True)
    return 0 if good else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Self-checking load on several sandboxes at once.")
    parser.add_argument("url", help="base URL of the host")
    parser.add_argument("--sandboxes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--cli", help="path of `podflare`, to read the kernel log of the machine as well")
    parser.add_argument("--state-dir", help="state directory of the host, for --cli")
    return parser.parse_args()


def keep_busy(url: str, record: Record, deadline: float, stop: threading.Event) -> None:
    """Runs one load after the other on one sandbox until the time is over or a call fails."""
    client = Client(host=url)
    sandbox = Sandbox._from_id(record.sandbox, client)
    try:
        expect_answer(sandbox, Load("setup", SETUP, lambda _: "ready"), 0, record)
        turn = 0
        while time.monotonic() < deadline and not stop.is_set():
            for load in LOADS:
                expect_answer(sandbox, load, turn, record)
                # The first turn is always finished: a load that never ran proves nothing.
                if turn and (time.monotonic() > deadline or stop.is_set()):
                    break
            turn += 1
    except Exception as error:  # the thread's edge: whatever went wrong is the result
        record.wrong.append(f"call failed: {type(error).__name__}: {error}")
    finally:
        client.close()


def expect_answer(sandbox: Sandbox, load: Load, turn: int, record: Record) -> None:
    began = time.monotonic()
    result = sandbox.run_code(load.code.replace("TURN", str(turn)))
    record.note(load.name, time.monotonic() - began)
    wanted = load.answer(turn)
    if (result.stdout, result.exit_code) != (wanted, 0):
        record.wrong.append(
            f"{load.name}, turn {turn}: wanted {wanted!r}, got {result.stdout[:500]!r}, "
            f"exit code {result.exit_code}, stderr {result.stderr[-1000:]!r}"
        )


def watch(workers: list[threading.Thread], records: list[Record], began: float) -> None:
    next_line = time.monotonic() + PROGRESS_SECONDS
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.5)
        if time.monotonic() >= next_line:
            next_line += PROGRESS_SECONDS
            answers = " ".join(str(record.done.total()) for record in records)
            wrong = sum(len(record.wrong) for record in records)
            print(f"soak: {(time.monotonic() - began) / 60:5.1f} min, answers {answers}, wrong {wrong}", flush=True)


def complaints_in(sandbox: Sandbox) -> list[str]:
    """Lines of a guest's kernel log that must not be there."""
    try:
        result = sandbox.run_code(f"dmesg | grep -E '{COMPLAINTS}'", language="bash")
    except Exception as error:  # a guest that cannot be asked is a complaint of its own
        return [f"the kernel log could not be read: {error}"]
    # grep says 1 when there is nothing, and that is what we want; 2 would be a fault of ours.
    if result.exit_code not in (0, 1) or result.stderr:
        return [f"the kernel log could not be read: {result.stderr}"]
    return result.stdout.splitlines()


def machine_complaints(options: argparse.Namespace) -> list[str]:
    """The same of the machine that the VMs run in."""
    if options.cli is None:
        return []
    state_dir = ["--state-dir", options.state_dir] if options.state_dir else []
    # No match is no error here.
    command = f"dmesg | grep -E '{COMPLAINTS}' || true"
    done = subprocess.run(
        [options.cli, "machine", "exec", *state_dir, "--", "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        return [f"the machine's kernel log could not be read at {time.time():.0f}: {done.stderr.strip()}"]
    return done.stdout.splitlines()


def close(sandbox: Sandbox) -> None:
    try:
        sandbox.close()
    except Exception as error:  # the summary must be printed all the same
        print(f"soak: could not close {sandbox.id}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
