"""The warm pool: bursts beyond it succeed, it fills again, and its counters tell."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.family import close_all
from support.waiting import Stopwatch, wait_until
from support.wire import assert_error


def default_pool(http: httpx.Client) -> dict[str, Any]:
    pools = http.get("/v1/capacity").json()["pools"]
    return next(pool for pool in pools if pool["template"] == "default")


@pytest.fixture
def full(http: httpx.Client) -> dict[str, Any]:
    """The pool, as soon as it is full."""
    wait_until("the pool is full", lambda: default_pool(http)["size"] == default_pool(http)["target"] > 0)
    return default_pool(http)


def test_a_sandbox_comes_from_the_pool_and_works_like_any_other(
    url: str, http: httpx.Client, full: dict[str, Any]
) -> None:
    with Sandbox(host=url) as sandbox:
        assert http.get(f"/v1/sandboxes/{sandbox.id}").json()["source"] == "pool"
        assert sandbox.run_code("x = 41; x + 1").stdout == "42"
        # What warmed it has left nothing.
        assert sandbox.run_code("print(sorted(name for name in globals() if name not in ('x',) and not name.startswith('__')))").stdout in ("[]", "['_']")
        assert sandbox.run_code("ls -A /root", language="bash").stdout.split() == sandbox.run_code("ls -A /root", language="bash").stdout.split()


def test_a_burst_larger_than_the_pool_succeeds_and_the_counters_move(
    url: str, http: httpx.Client, full: dict[str, Any]
) -> None:
    burst = full["target"] + 6
    clock = Stopwatch()
    with ThreadPoolExecutor(burst) as pool:
        sandboxes = list(pool.map(lambda _: Sandbox(host=url), range(burst)))
    took = clock.seconds
    try:
        assert len({sandbox.id for sandbox in sandboxes}) == burst
        after = default_pool(http)
        assert after["hits"] - full["hits"] + after["misses"] - full["misses"] == burst
        assert after["hits"] - full["hits"] >= full["target"]
        assert after["misses"] > full["misses"]
        assert after["on_demand_boot_ms_mean"] > 0
        assert 0 < after["pool_hit_rate_bp"] <= 10_000
        for sandbox in sandboxes[:: max(1, burst // 4)]:
            assert sandbox.run_code("print('well')").stdout == "well"
    finally:
        close_all(sandboxes)
    print(f"\n{burst} creations at once in {took:.2f} s")
    wait_until("the pool is full again", lambda: default_pool(http)["size"] == full["target"])
    refills = default_pool(http)["refill_ms"]
    assert refills["count"] > full["refill_ms"]["count"]
    assert refills["buckets"][-1]["count"] <= refills["count"]


def test_an_unknown_template_names_those_that_are_known(http: httpx.Client) -> None:
    assert_error(http.post("/v1/sandboxes", json={"template": "nonesuch"}), 400, "nonesuch", "default")


def test_another_shape_is_booted_and_right(url: str) -> None:
    with Sandbox(host=url, ram_mib=512, rootfs_gb=6) as sandbox:
        pages = int(sandbox.run_code("import os; print(os.sysconf('SC_PHYS_PAGES') * 4 // 1024)").stdout)
        assert 400 < pages < 512
        disk = int(sandbox.run_code("df -m --output=size / | tail -1", language="bash").stdout)
        assert 5 * 1024 < disk <= 6 * 1024
