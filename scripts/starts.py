#!/usr/bin/env python3
"""Starts the host again and again while every CPU of this machine is kept busy, and reports how it went.

    python scripts/starts.py --cli target/release/podflare --state-dir DIR --port 7172 --count 30

A start is `podflare up`, an answer of the API, `podflare status --json` and `podflare down`. Prints a line for each and
a JSON summary with retries and the distribution of times; ends with 1 when any start failed.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

UP_SECONDS_MAX = 600
DOWN_SECONDS_MAX = 120


class StartFailed(Exception):
    """One start did not succeed; the text says why."""


@dataclass(frozen=True)
class Start:
    """One start that succeeded."""

    kind: str
    """Which host it was, `software` or `hardware`, as the host reports it."""
    up_seconds: float
    """From calling `podflare up` to its end."""
    boot_ms: int | None
    """Of the boot that succeeded, as the host reports it."""
    retries: int | None
    """Boots that did not report in time and were tried again, as the host reports it."""
    down_seconds: float


def main() -> int:
    options = parse_arguments()
    burners = [multiprocessing.Process(target=burn, args=(os.getpid(),), daemon=True) for _ in range(options.burners)]
    for burner in burners:
        burner.start()
    starts: list[Start] = []
    failures: list[str] = []
    try:
        run_quietly(options, "down", DOWN_SECONDS_MAX)  # one that an earlier run left would hold the port
        for number in range(1, options.count + 1):
            try:
                start = start_once(options)
            except StartFailed as failed:
                failures.append(f"start {number}: {failed}")
                print(f"starts: {number}/{options.count} FAILED: {failed}", flush=True)
                run_quietly(options, "down", DOWN_SECONDS_MAX)
                continue
            starts.append(start)
            retries = "" if not start.retries else f", {start.retries} retries"
            print(f"starts: {number}/{options.count} up in {start.up_seconds:.1f} s{retries}", flush=True)
    finally:
        for burner in burners:
            burner.terminate()
        for burner in burners:
            burner.join(10)
    print(json.dumps(summary(options, starts, failures), indent=2), flush=True)
    return 1 if failures or len(starts) != options.count else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Consecutive starts of the host on a busy machine.")
    parser.add_argument("--cli", required=True, help="path of `podflare`")
    parser.add_argument("--state-dir", required=True, help="state directory of its own for these starts")
    parser.add_argument("--port", type=int, default=7172)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--burners", type=int, default=os.cpu_count() or 1, help="processes that keep a CPU busy each")
    return parser.parse_args()


def burn(parent: int) -> None:
    """Keeps one CPU busy for as long as the parent lives, however that one ends."""
    number = 1
    while os.getppid() == parent:
        for _ in range(100_000):
            number = number * 6364136223846793005 % (1 << 64) + 1


def start_once(options: argparse.Namespace) -> Start:
    began = time.monotonic()
    run(options, UP_SECONDS_MAX, "up", "--port", str(options.port))
    up_seconds = time.monotonic() - began
    check_health(f"http://127.0.0.1:{options.port}/v1/healthz")
    status = parse_status(run(options, DOWN_SECONDS_MAX, "status", "--json"))
    began = time.monotonic()
    run(options, DOWN_SECONDS_MAX, "down")
    return Start(
        kind=str(status.get("kind")) if isinstance(status, dict) else "unknown",
        up_seconds=round(up_seconds, 2),
        boot_ms=find_number(status, "boot_ms"),
        retries=find_number(status, "retries"),
        down_seconds=round(time.monotonic() - began, 2),
    )


def run(options: argparse.Namespace, seconds: float, *arguments: str) -> str:
    command = [options.cli, *arguments, "--state-dir", options.state_dir]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise StartFailed(f"`podflare {arguments[0]}` did not end within {seconds:g} s") from None
    if done.returncode != 0:
        raise StartFailed(f"`podflare {arguments[0]}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def run_quietly(options: argparse.Namespace, verb: str, seconds: float) -> None:
    with suppress(StartFailed):
        run(options, seconds, verb)


def check_health(url: str) -> None:
    # Proxies of the environment are for elsewhere.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20) as answer:
            text = answer.read().decode().strip()
    except OSError as error:
        raise StartFailed(f"the API does not answer after `podflare up`: {error}") from None
    if text != "ok":
        raise StartFailed(f"the API is not well after `podflare up`: {text[:200]!r}")


def parse_status(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise StartFailed(f"`podflare status --json` printed no JSON: {text[:200]!r}") from None


def find_number(status: Any, name: str) -> int | None:
    """The number of that name, wherever in the status it stands."""
    if not isinstance(status, dict):
        return None
    value = status.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return next((found for inner in status.values() if (found := find_number(inner, name)) is not None), None)


def summary(options: argparse.Namespace, starts: list[Start], failures: list[str]) -> dict[str, object]:
    known_retries = [start.retries for start in starts if start.retries is not None]
    return {
        "ok": not failures and len(starts) == options.count,
        "starts": options.count,
        "succeeded": len(starts),
        "failures": failures,
        "kinds": sorted({start.kind for start in starts}),
        "burners": options.burners,
        "cpus": os.cpu_count(),
        "retries": sum(known_retries) if len(known_retries) == len(starts) else None,
        "starts_with_a_retry": sum(1 for retries in known_retries if retries),
        "up_seconds": distribution([start.up_seconds for start in starts]),
        "boot_ms": distribution([start.boot_ms for start in starts if start.boot_ms is not None]),
        "down_seconds": distribution([start.down_seconds for start in starts]),
        "each": [asdict(start) for start in starts],
    }


def distribution(values: list[Any]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    points = {"min": 0.0, "p50": 0.5, "p90": 0.9, "max": 1.0}
    return {name: ordered[round(share * last)] for name, share in points.items()}


if __name__ == "__main__":
    sys.exit(main())
