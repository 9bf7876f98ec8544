#!/usr/bin/env python3
"""How long a sandbox takes, through the official client: created, first answer, next answer, closed.

    python scripts/bench.py --url http://127.0.0.1:7070 --n 30

One after the other. Every iteration counts, the first one too; a failure is shown and counted. What is measured ends
exactly where its name says; percentiles are interpolated linearly between the closest ranks.
"""

import argparse
import json
import sys
import time

from benchmarks.figures import distribution, line
from podflare import Client, Sandbox

CREATED = "create: from the call until the API returned"
FIRST = "first exec: from its call until it was answered"
BOTH = "create + first exec: until the first answer"
NEXT = "next exec: from its call until it was answered"
CLOSED = "close: from the call until the API returned"
ALL = "all of it"


def main() -> int:
    options = arguments()
    client = Client(host=options.url, timeout=options.timeout)
    samples: dict[str, list[float]] = {name: [] for name in (CREATED, FIRST, BOTH, NEXT, CLOSED, ALL)}
    failures = []
    for number in range(1, options.n + 1):
        try:
            for name, seconds in iteration(client, options).items():
                samples[name].append(seconds * 1000)
        except Exception as error:  # whatever it is, it belongs to the result
            failures.append(f"iteration {number}: {type(error).__name__}: {error}")
    report(options, samples, failures)
    return 1 if failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Create, run, run again, close: one after the other.")
    parser.add_argument("--url", default="http://127.0.0.1:7070", help="base URL of the host")
    parser.add_argument("--n", type=int, default=30, help="iterations")
    parser.add_argument("--template", help="of the sandboxes")
    parser.add_argument("--code", default="print(1)", help="Python that is run")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds the client waits for a byte")
    parser.add_argument("--json", action="store_true", help="print all samples instead of figures")
    return parser.parse_args()


def iteration(client: Client, options: argparse.Namespace) -> dict[str, float]:
    began = time.perf_counter()
    sandbox = Sandbox(client=client, template=options.template)
    created = time.perf_counter()
    try:
        run(sandbox, options.code)
        first = time.perf_counter()
        run(sandbox, options.code)
        second = time.perf_counter()
    finally:
        sandbox.close()
    closed = time.perf_counter()
    return {
        CREATED: created - began,
        FIRST: first - created,
        BOTH: first - began,
        NEXT: second - first,
        CLOSED: closed - second,
        ALL: closed - began,
    }


def run(sandbox: Sandbox, code: str) -> None:
    answer = sandbox.run_code(code)
    if answer.exit_code != 0:
        raise RuntimeError(f"the code ended with {answer.exit_code}: {answer.stderr[-300:]}")


def report(options: argparse.Namespace, samples: dict[str, list[float]], failures: list[str]) -> None:
    if options.json:
        figures = {name: {"samples": values} | distribution(values) for name, values in samples.items() if values}
        print(json.dumps({"n": options.n, "unit": "ms", "series": figures, "failures": failures}, indent=2))
        return
    width = max(map(len, samples))
    for name, values in samples.items():
        print(f"{name:{width}}  {line(values) if values else 'no sample'}")
    print(f"\nms; {options.n} iterations, {len(failures)} failed")
    for failure in failures:
        print(f"  {failure}")


if __name__ == "__main__":
    sys.exit(main())
