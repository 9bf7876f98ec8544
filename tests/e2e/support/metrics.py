"""`/metrics` as numbers."""

import re

import httpx

SAMPLE = re.compile(r'(?P<name>[a-z_0-9]+)(\{(?P<labels>.*)\})? (?P<value>\S+)')


def scrape(http: httpx.Client) -> dict[str, dict[str, float]]:
    """Values by name, then by labels as they are written. Every line must be one that the format knows."""
    answer = http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/openmetrics-text"), answer.headers
    assert answer.text.endswith("# EOF\n")
    values: dict[str, dict[str, float]] = {}
    for line in answer.text.splitlines():
        if line.startswith("# "):
            assert line.split(" ")[1] in ("HELP", "TYPE", "UNIT", "EOF"), line
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        values.setdefault(match["name"], {})[match["labels"] or ""] = float(match["value"])
    return values


def total(values: dict[str, dict[str, float]], name: str, *labels: str) -> float:
    """Sum over all series whose labels contain each of these, as `outcome="ok"`."""
    return sum(value for key, value in values[name].items() if all(label in key.split(",") for label in labels))
