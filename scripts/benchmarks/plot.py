"""The distributions as one SVG picture: a dot for each sample on a logarithmic axis, a box from p5 to p95, a mark at
p50, and a line where a target is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from .figures import percentile
from .results import Result

UNIT = "ms"
WIDTH = 1180
LEFT = 430
RIGHT = 60
LANE = 24
TOP = 64
DOTS_MAX = 400
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-size:16px}.grid{stroke:#ddd}.name{text-anchor:end}"
    ".axis{text-anchor:middle;fill:#666}.dot{fill:#2266cc;fill-opacity:.25}.box{fill:#2266cc;fill-opacity:.18;stroke:#2266cc}"
    ".p50{stroke:#113377;stroke-width:3}.met{stroke:#228833;stroke-width:2}.missed{stroke:#cc3322;stroke-width:2}"
)


@dataclass
class Lane:
    name: str
    values: list[float]
    limit: float | None
    met: bool


def lanes(results: Iterable[Result]) -> list[Lane]:
    found = []
    for result in results:
        if result.row.unit != UNIT:
            continue
        for name, values in result.measurement.series.items():
            # A logarithm needs more than nothing; a ratio has another unit.
            if min(values) <= 0 or " to " in name or "times" in name:
                continue
            targets = [target for target in result.row.targets if target.series == name and target.statistic == "p50"]
            limit = targets[0].limit if targets else None
            met = bool(targets) and targets[0].is_met(percentile(values, 50))
            found.append(Lane(f"{result.row.name}: {name}", values, limit, met))
    return found


def render(results: Iterable[Result], title: str) -> str:
    shown = lanes(results)
    if not shown:
        return ""
    every = [value for lane in shown for value in lane.values] + [lane.limit for lane in shown if lane.limit]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    scale = (WIDTH - LEFT - RIGHT) / max(1, high - low)
    height = TOP + LANE * len(shown) + 20

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - low) * scale

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
    ]
    for decade in range(low, high + 1):
        for step in range(1, 10 if decade < high else 2):
            at = x(step * 10.0**decade)
            parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 8}" y2="{height - 12}"/>')
        parts.append(f'<text class="axis" x="{x(10.0**decade):.1f}" y="{TOP - 14}">{10.0**decade:g} {UNIT}</text>')
    for number, lane in enumerate(shown):
        parts += draw(lane, TOP + LANE * number + LANE / 2, x)
    return "\n".join([*parts, "</svg>", ""])


def draw(lane: Lane, y: float, x) -> list[str]:
    low, middle, high = (x(percentile(lane.values, percent)) for percent in (5, 50, 95))
    parts = [
        f'<text class="name" x="{LEFT - 12}" y="{y + 4:.1f}">{escape(lane.name)}</text>',
        f'<rect class="box" x="{low:.1f}" y="{y - 7:.1f}" width="{max(1.0, high - low):.1f}" height="14"/>',
    ]
    step = max(1, len(lane.values) // DOTS_MAX)
    # Spread over the lane's height by a fixed pattern, so that equal values do not hide each other.
    parts += [
        f'<circle class="dot" cx="{x(value):.1f}" cy="{y + (number * 7 % 13 - 6) * 0.9:.1f}" r="2"/>'
        for number, value in enumerate(lane.values[::step])
    ]
    parts.append(f'<line class="p50" x1="{middle:.1f}" x2="{middle:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}"/>')
    if lane.limit is not None:
        kind = "met" if lane.met else "missed"
        at = x(lane.limit)
        parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{y - 11:.1f}" y2="{y + 11:.1f}"/>')
    return parts
