"""Statistics of samples."""

import math
from collections.abc import Sequence

SHARES = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """By linear interpolation between the closest ranks."""
    ordered = sorted(values)
    position = percent / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Of at least one value."""
    figures: dict[str, float] = {"n": len(values), "min": min(values), "max": max(values)}
    figures["mean"] = math.fsum(values) / len(values)
    figures |= {f"p{share}": percentile(values, share) for share in SHARES}
    return figures


def line(values: Sequence[float]) -> str:
    """One line for people."""
    figures = distribution(values)
    shown = ("min", "p50", "p95", "p99", "max")
    return f"n={len(values)}  " + "  ".join(f"{name}={figures[name]:.1f}" for name in shown)
