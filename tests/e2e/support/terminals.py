"""What comes out of a terminal, waited for."""

import threading
import time
from typing import Any

from podflare import Sandbox

WAIT_SECONDS = 120
"""A busy emulated machine takes its time."""


class Output:
    """Collects what a terminal sends; give it as `on_data`."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._changed = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self._changed:
            self._bytes += data
            self._changed.notify_all()

    @property
    def raw(self) -> bytes:
        with self._changed:
            return bytes(self._bytes)

    @property
    def text(self) -> str:
        return self.raw.decode(errors="replace")

    def wait_for(self, what: str | bytes, seconds: float = WAIT_SECONDS) -> str:
        """Waits until `what` has come; returns all so far."""
        wanted = what.encode() if isinstance(what, str) else what
        deadline = time.monotonic() + seconds
        with self._changed:
            while wanted not in self._bytes:
                left = deadline - time.monotonic()
                seen = bytes(self._bytes[-2000:])
                assert left > 0, f"waited {seconds:g} s for {what!r} on a terminal; last seen: {seen!r}"
                self._changed.wait(left)
        return self.text


def opened(box: Sandbox, cmd: str | list[str], **options: Any) -> tuple[Any, Output]:
    """A new terminal and what comes out of it."""
    output = Output()
    return box.pty.create(cmd=cmd, on_data=output, **options), output
