"""What measuring takes: the host, its machine, and how long to go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from podflare import Client, Sandbox

from .machine import Machine
from .model import CLIENT, SERVER, Measurement, NotAvailable
from .timings import ServerTimings

POLL_SECONDS = 0.01
POOL_WAIT_SECONDS = 120
SETTLE_SECONDS = 1200
DEFAULT = "default"


@dataclass
class Bench:
    url: str
    machine: Machine
    quick: bool
    count_max: int | None = None
    """Bound of every number of samples, for a host on which each takes seconds."""
    bare_rows: dict[str, Any] = field(default_factory=dict)
    """Rows that were measured on the same host without what they are about."""

    def __post_init__(self) -> None:
        self.client = Client(host=self.url, timeout=120.0)
        self.timings = ServerTimings(self.client)
        self._raw = httpx.Client(base_url=self.url, timeout=120.0, trust_env=False)

    def bare(self, row: str, series: str) -> list[float]:
        """The samples of the host without what the row is about; none if it was not measured."""
        return self.bare_rows.get(row, {}).get("series", {}).get(series, {}).get("samples", [])

    def count(self, full: int) -> int:
        wanted = max(3, full // 5) if self.quick else full
        return wanted if self.count_max is None else min(wanted, self.count_max)

    def get(self, path: str) -> Any:
        response = self._raw.get(path)
        response.raise_for_status()
        return response.json()

    def create(self, template: str | None = None) -> Sandbox:
        return Sandbox(client=self.client, template=template)

    @contextmanager
    def sandbox(self, template: str | None = None) -> Iterator[Sandbox]:
        sandbox = self.create(template)
        try:
            yield sandbox
        finally:
            sandbox.close()

    def timed(self, into: Measurement, call: Callable[[], Any], metric: str = "total") -> Any:
        """Calls once and keeps both sides' time, in milliseconds."""
        began = time.perf_counter()
        result = call()
        into.add(CLIENT, (time.perf_counter() - began) * 1000)
        into.add(SERVER, self.timings.last(metric))
        return result

    def source(self, sandbox: Sandbox) -> str | None:
        """How its VM came to be, by the host's word."""
        return self.get(f"/v1/sandboxes/{sandbox.id}").get("source")

    def pool(self, template: str = DEFAULT) -> dict[str, Any]:
        pools = self.get("/v1/capacity").get("pools") or []
        for pool in pools:
            if pool["template"] == template:
                if pool["state"] == "off":
                    raise NotAvailable("the host keeps no pool of this template")
                if pool["state"] == "failed":
                    raise NotAvailable(f"the host has no snapshot of this template: {pool.get('last_error')}"[:300])
                return pool
        raise NotAvailable("GET /v1/capacity reports no pool of this template")

    def full_pool(self, template: str = DEFAULT) -> dict[str, Any]:
        """Waits until the pool has all it wants."""
        deadline = time.monotonic() + POOL_WAIT_SECONDS
        while True:
            pool = self.pool(template)
            if pool["state"] == "ready" and pool["size"] >= pool["target"] > 0 and pool["filling"] == 0:
                return pool
            if time.monotonic() > deadline:
                raise NotAvailable(f"the pool did not fill within {POOL_WAIT_SECONDS} s: {pool}")
            time.sleep(POLL_SECONDS)

    def settle(self) -> bool:
        """Waits until the host has its snapshots and full pools, or has given up on them: until then it is busy."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            pools = self.get("/v1/capacity").get("pools") or []
            if all(is_settled(pool) for pool in pools):
                return True
            time.sleep(POLL_SECONDS * 20)
        return False

    def require_fork(self, sandbox: Sandbox) -> None:
        """Learns from a fork whether the host can fork at all."""
        try:
            children = sandbox.fork(1)
        except httpx.HTTPStatusError as error:
            raise NotAvailable(f"fork is answered with {error.response.status_code}") from None
        for child in children:
            child.close()


def is_settled(pool: dict[str, Any]) -> bool:
    waits = pool["state"] == "building" or pool["filling"] > 0
    return pool["state"] in ("off", "failed") or (not waits and pool["size"] >= pool["target"])


def close_all(sandboxes: list[Sandbox]) -> None:
    for sandbox in sandboxes:
        sandbox.close()
