"""Waiting for a condition: level-triggered, bounded, and it says what it waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 120
"""How long what takes a second may take: the machine is emulated, and others may use it as well."""


def wait_until(what: str, condition: Callable[[], T | None], seconds: float = PATIENCE_SECONDS, every: float = 0.1) -> T:
    """Returns the first truthy result of `condition`; fails with `what` when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s until {what}; last seen: {result!r}")
        time.sleep(every)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started
