"""Measures the rows asked for, prints the table, and writes the figures and their picture."""

import argparse
import json
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

import httpx

from . import plot, results, table
from .bench import Bench
from .machine import Machine
from .model import NotAvailable, Row
from .results import Result
from .rows import ROWS


def main() -> int:
    options = arguments()
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    before = options.against or results.latest(options.out)
    earlier = json.loads(before.read_text())["rows"] if before else None
    machine = Machine(options.cli, options.state_dir, options.kind == "software")
    bench = Bench(options.url.rstrip("/"), machine, options.quick, options.count_max, bare_rows(options))
    print("waiting until the host has filled its pools ...", file=sys.stderr, flush=True)
    if not bench.settle():
        print("warning: the host is still busy; figures are those of a busy host", file=sys.stderr, flush=True)
    measured = [measure(row, bench) for row in rows]
    stamp = results.new_stamp()
    options.out.mkdir(parents=True, exist_ok=True)
    path = results.write(options.out, stamp, about(options, bench), measured)
    picture = plot.render(measured, f"Podflare, {options.kind} host, {stamp}")
    if picture:
        path.with_suffix(".svg").write_text(picture)
    print()
    print(table.render(measured, earlier))
    print(f"\nwritten: {path}" + (f" and {path.with_suffix('.svg').name}" if picture else ""))
    if before:
        print(f"`before` is the p50 in {before}")
    return 0


def arguments() -> argparse.Namespace:
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="What a host's operations cost.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--kind", choices=("software", "hardware"), default="software", help="of the host")
    parser.add_argument("--cli", type=Path, help="path of `podflare`, to look into a software host")
    parser.add_argument("--state-dir", type=Path, help="that host's state directory")
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    parser.add_argument("--against", type=Path, help="earlier figures to show beside these [default: the last in --out]")
    parser.add_argument(
        "--without", action="append", type=Path, default=[], metavar="DIR",
        help="figures of the same host without something, such as a network (can be repeated)",
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the samples")
    parser.add_argument("--count-max", type=int, metavar="N", help="at most N samples of anything")
    parser.add_argument("--only", action="append", choices=names, metavar="ROW", help=f"one of {', '.join(names)}")
    return parser.parse_args()


def bare_rows(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured on a host without what the row is about, by the names of rows."""
    files = filter(None, map(results.latest, options.without))
    return {name: row for file in files for name, row in json.loads(file.read_text())["rows"].items()}


def measure(row: Row, bench: Bench) -> Result:
    print(f"measuring {row.name} ...", file=sys.stderr, flush=True)
    try:
        return Result(row, row.measure(bench))
    except (NotAvailable, httpx.HTTPStatusError) as reason:
        return Result.missing(row, reason)
    except Exception as error:  # one broken row must not cost the figures of the others
        traceback.print_exc()
        return Result.missing(row, error)


def about(options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    return {
        "host": options.kind,
        "quick": options.quick,
        "cpus": os.cpu_count(),
        "cpu": next((line.split(":", 1)[1].strip() for line in cpu_lines()), platform.machine()),
        "kernel": platform.release(),
        "load_average_at_the_end": os.getloadavg(),
        "capacity": bench.get("/v1/capacity"),
    }


def cpu_lines() -> list[str]:
    try:
        return [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
