"""How long `print(1)` takes on a live sandbox, through the official client. It reports; no speed is asserted here."""

import json
import math
import time

import pytest
from podflare import Sandbox

from support.settings import Settings

WARM_UP_RUNS = 20
RUNS = 200


def percentile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the closest ranks."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def test_the_latency_of_a_hot_print_is_reported(
    box: Sandbox, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(WARM_UP_RUNS):
        box.run_code("print(1)")
    took_ms = []
    for _ in range(RUNS):
        began = time.perf_counter()
        result = box.run_code("print(1)")
        took_ms.append((time.perf_counter() - began) * 1000)
        assert result.stdout == "1"
    took_ms.sort()
    report = {"min": took_ms[0], "max": took_ms[-1]}
    report |= {f"p{share}": percentile(took_ms, share / 100) for share in (50, 90, 95, 99)}
    report = {name: round(value, 3) for name, value in report.items()}
    with capsys.disabled():
        figures = "  ".join(f"{name}={value:.2f}" for name, value in report.items())
        print(f"\nprint(1), {RUNS} hot runs through the official client, ms: {figures}")
    if settings.report_dir is not None:
        settings.report_dir.mkdir(parents=True, exist_ok=True)
        report_file = settings.report_dir / "latency.json"
        report_file.write_text(json.dumps({"what": "hot print(1)", "runs": RUNS, "ms": report}, indent=2) + "\n")
