"""The host's own word on how long a call took: the `Server-Timing` header (W3C), durations in milliseconds."""

import re

import httpx
from podflare import Client

_METRIC = re.compile(r"\s*([^;,\s]+)((?:\s*;[^,]*)?)(?:,|$)")
_DURATION = re.compile(r";\s*dur\s*=\s*\"?([0-9.]+)")


class ServerTimings:
    """Remembers the header of the last response an official client has got."""

    def __init__(self, client: Client) -> None:
        self._last: dict[str, float] = {}
        # The client shows no headers; its transport tells of each response.
        client._http.event_hooks["response"].append(self._note)

    def _note(self, response: httpx.Response) -> None:
        self._last = parse(response.headers.get("server-timing", ""))

    def last(self, metric: str = "total") -> float | None:
        """None when the host did not report it."""
        return self._last.get(metric)


def parse(header: str) -> dict[str, float]:
    found = {}
    for name, parameters in _METRIC.findall(header):
        duration = _DURATION.search(parameters)
        if duration is not None:
            found[name] = float(duration.group(1))
    return found
