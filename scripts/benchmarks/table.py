"""The results as a table: one line for each series, and the targets beside the one they are about."""

from collections.abc import Iterable
from typing import Any

from .figures import distribution
from .results import Result

HEAD = ("what", "series", "n", "p50", "p95", "p99", "unit", "before", "target", "met", "original")
RIGHT = {"n", "p50", "p95", "p99", "before"}


def render(results: Iterable[Result], before: dict[str, Any] | None) -> str:
    lines: list[tuple[str, ...]] = [HEAD]
    notes = []
    for result in results:
        lines += rows(result, (before or {}).get(result.row.name, {}).get("series", {}))
        missing = [] if result.unavailable is None else [f"not available: {result.unavailable}"]
        notes += [f"  {result.row.name}: {note}" for note in missing + result.measurement.notes]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = []
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEAD, line, widths, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
        if number == 0:
            text.append("-" * (sum(widths) + 2 * len(widths) - 2))
    return "\n".join(text + (["", "Notes:", *notes] if notes else []))


def rows(result: Result, before: dict[str, Any]) -> list[tuple[str, ...]]:
    row = result.row
    if result.unavailable is not None:
        targets = ", ".join(str(target) for target in row.targets)
        return [(row.title, "not available", *[""] * 6, targets, "?", row.published)]
    lines = []
    # A series that a target is about is shown even when the host did not report it.
    series = list(dict.fromkeys([*(target.series for target in row.targets), *result.measurement.series]))
    for number, name in enumerate(series):
        targets = [target for target in row.targets if target.series == name]
        wanted = ", ".join(str(target).removeprefix(f"{name} ") for target in targets)
        met = [verdict(target, result) for target in targets]
        values = result.measurement.series.get(name)
        figures = ("", "not reported", "", "") if not values else shown(distribution(values))
        earlier = before.get(name, {}).get("p50")
        lines.append(
            (
                row.title if number == 0 else "",
                name,
                *figures,
                row.unit if values and not is_ratio(name) else "",
                "" if earlier is None else number_text(earlier),
                wanted,
                ", ".join(met),
                row.published if number == 0 else "",
            )
        )
    return lines


def is_ratio(series: str) -> bool:
    return " to " in series or "times" in series


def verdict(target, result: Result) -> str:
    value = result.value(target)
    return "?" if value is None else "yes" if target.is_met(value) else "NO"


def shown(figures: dict[str, float]) -> tuple[str, str, str, str]:
    if figures["n"] == 1:
        return ("1", number_text(figures["p50"]), "", "")
    return (f"{figures['n']:.0f}", *(number_text(figures[name]) for name in ("p50", "p95", "p99")))


def number_text(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
