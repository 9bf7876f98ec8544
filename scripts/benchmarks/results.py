"""What a run of the benchmark found, as it is written to a file and read back for comparison."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .figures import distribution
from .model import Measurement, NotAvailable, Row, Target

PREFIX = "bench-"


@dataclass
class Result:
    """One row, measured or not."""

    row: Row
    measurement: Measurement
    unavailable: str | None = None

    @classmethod
    def missing(cls, row: Row, reason: NotAvailable | Exception) -> "Result":
        return cls(row, Measurement(), str(reason) or type(reason).__name__)

    def value(self, target: Target) -> float | None:
        values = self.measurement.series.get(target.series)
        return distribution(values)[target.statistic] if values else None

    def as_json(self) -> dict[str, Any]:
        series = {
            name: distribution(values) | {"samples": [round(value, 4) for value in values]}
            for name, values in self.measurement.series.items()
        }
        targets = [
            {"target": str(target), "value": value, "met": None if value is None else target.is_met(value)}
            for target in self.row.targets
            for value in [self.value(target)]
        ]
        return {
            "title": self.row.title,
            "unit": self.row.unit,
            "published": self.row.published,
            "unavailable": self.unavailable,
            "series": series,
            "targets": targets,
            "notes": self.measurement.notes,
        }


def write(directory: Path, stamp: str, about: dict[str, Any], results: Iterable[Result]) -> Path:
    path = directory / f"{PREFIX}{stamp}.json"
    document = {"about": about, "rows": {result.row.name: result.as_json() for result in results}}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def new_stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


def latest(directory: Path) -> Path | None:
    """The stamps in their names sort by time."""
    return max(directory.glob(f"{PREFIX}*.json"), default=None)
