"""What a row of the benchmark is, and what measuring it gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Bench

SERVER = "server"
"""The host's own figure, from the response's `Server-Timing` header or `GET /v1/capacity`."""

CLIENT = "client"
"""What the caller waits, from before the official client's call until it returns."""


class NotAvailable(Exception):
    """The host cannot do what is to be measured, or does not report it. Said in the table, never passed over."""


@dataclass(frozen=True)
class Target:
    """What one statistic of one series shall be."""

    series: str
    statistic: str
    limit: float
    higher_is_better: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.higher_is_better else value <= self.limit

    def __str__(self) -> str:
        return f"{self.series} {self.statistic} {'≥' if self.higher_is_better else '≤'} {self.limit:g}"


@dataclass
class Measurement:
    """Samples by the name of their series, in the order they were taken; none is left out."""

    series: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, series: str, value: float | None) -> None:
        if value is not None:
            self.series.setdefault(series, []).append(value)


@dataclass(frozen=True)
class Row:
    """One operation: how it is called, what it shall cost, and how it is measured."""

    name: str
    title: str
    unit: str
    measure: Callable[["Bench"], Measurement]
    targets: tuple[Target, ...] = ()
    published: str = ""
    """The original's figure, on its 24-core bare-metal servers."""
