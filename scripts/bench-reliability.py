#!/usr/bin/env python3
"""Whether creating, running and closing works every time, and how long it takes, under three patterns of load.

    python scripts/bench-reliability.py --url http://127.0.0.1:7070 --n 30

sequential: the next one begins when the one before has closed. staggered: one begins every --stagger-ms, whether or
not those before have ended. burst: all begin at once. Each is `Sandbox()`, `echo ready` in bash, `close()`, through
the official client. Every iteration counts; percentiles are interpolated linearly between the closest ranks.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.figures import distribution, line
from podflare import Client, Sandbox

RETURNED = "API returned"
ANSWERED = "first exec answered"
CLOSED = "closed"
"""All from the moment the iteration was to begin, so a caller that had to wait is not left out."""


@dataclass
class Outcome:
    """Of one pattern. Lists grow by append, which threads may share."""

    times: dict[str, list[float]] = field(default_factory=lambda: {RETURNED: [], ANSWERED: [], CLOSED: []})
    failures: list[str] = field(default_factory=list)


def main() -> int:
    options = arguments()
    outcomes = {name: PATTERNS[name](options) for name in options.patterns}
    if options.json:
        print(json.dumps({name: as_json(outcome) for name, outcome in outcomes.items()}, indent=2))
    else:
        for name, outcome in outcomes.items():
            show(name, outcome, options.n)
    return 1 if any(outcome.failures for outcome in outcomes.values()) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Create, run, close: sequential, staggered and in a burst.")
    parser.add_argument("--url", default="http://127.0.0.1:7070", help="base URL of the host")
    parser.add_argument("--n", type=int, default=30, help="iterations of each pattern")
    parser.add_argument("--stagger-ms", type=float, default=100.0)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds a client waits for a byte")
    parser.add_argument("--json", action="store_true", help="print all samples instead of figures")
    parser.add_argument("--patterns", nargs="+", choices=tuple(PATTERNS), default=list(PATTERNS))
    return parser.parse_args()


def sequential(options: argparse.Namespace) -> Outcome:
    outcome = Outcome()
    client = Client(host=options.url, timeout=options.timeout)
    for _ in range(options.n):
        iterate(client, time.perf_counter(), outcome)
    return outcome


def staggered(options: argparse.Namespace) -> Outcome:
    return together(options, options.stagger_ms / 1000)


def burst(options: argparse.Namespace) -> Outcome:
    return together(options, 0.0)


def together(options: argparse.Namespace, seconds_between: float) -> Outcome:
    """Each iteration is a caller of its own, with a connection of its own that is there already."""
    outcome = Outcome()
    clients = [Client(host=options.url, timeout=options.timeout) for _ in range(options.n)]
    for client in clients:
        client.healthz()
    began = time.perf_counter()

    def work(number: int) -> None:
        due = began + number * seconds_between
        time.sleep(max(0.0, due - time.perf_counter()))
        iterate(clients[number], due, outcome)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


PATTERNS: dict[str, Callable[[argparse.Namespace], Outcome]] = {
    "sequential": sequential,
    "staggered": staggered,
    "burst": burst,
}


def iterate(client: Client, due: float, outcome: Outcome) -> None:
    def note(end_point: str) -> None:
        outcome.times[end_point].append((time.perf_counter() - due) * 1000)

    try:
        sandbox = Sandbox(client=client)
        note(RETURNED)
        try:
            answer = sandbox.run_code("echo ready", language="bash")
            if (answer.stdout, answer.exit_code) != ("ready", 0):
                raise RuntimeError(f"answered {answer}")
            note(ANSWERED)
        finally:
            sandbox.close()
        note(CLOSED)
    except Exception as error:  # whatever it is, it belongs to the result
        outcome.failures.append(f"{type(error).__name__}: {error}")


def show(pattern: str, outcome: Outcome, n: int) -> None:
    print(f"{pattern}: {n} iterations, {len(outcome.failures)} failed")
    for end_point, values in outcome.times.items():
        print(f"  {end_point:{len(ANSWERED)}}  {line(values) if values else 'never'}")
    for failure, count in Counter(outcome.failures).most_common():
        print(f"  {count} times: {failure}")
    print("  (ms)\n")


def as_json(outcome: Outcome) -> dict[str, object]:
    series = {name: {"samples": values} | distribution(values) for name, values in outcome.times.items() if values}
    return {"unit": "ms", "series": series, "failures": outcome.failures}


if __name__ == "__main__":
    sys.exit(main())
