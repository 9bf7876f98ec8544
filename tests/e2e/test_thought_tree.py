"""A tree of thought: fork, try, score, merge the best, again. It leaves no more behind than was there before."""

import httpx
import pytest
from podflare import Sandbox

from support.family import close_all, run_in_each
from support.machine import Machine
from support.waiting import wait_until

LEVELS = 10
BRANCHES = 5

# Each branch steps from where its parent stood; the score is how close it comes to the root of 2.
STEP = """
import os
open("/root/notes", "a").write(f"{x:.6f}\\n")
x = x + (2 - x * x) / (2 * x) * {factor}
scratch = bytearray(os.urandom(1 << 16)) * 32
print(abs(x * x - 2))
"""


def wait_until_nothing_is_torn_down_any_more(http: httpx.Client, machine: Machine) -> None:
    readings: list[int] = []

    def steady() -> bool:
        readings.append(machine.strays(http))
        return len(readings) > 5 and set(readings[-5:]) == {0}

    wait_until("there is no VM too many, nor too few", steady, every=0.3)


@pytest.mark.timeout(1200)
def test_ten_levels_of_five_branches_leave_nothing(
    url: str, http: httpx.Client, machine: Machine, fresh: Sandbox
) -> None:
    fresh.run_code("x = 10.0")

    def level(number: int) -> float:
        children = fresh.fork(BRANCHES)
        scores = []
        for branch, child in enumerate(children):
            code = STEP.replace("{factor}", str(0.6 + 0.1 * branch))
            scores.append(float(run_in_each(url, [child], code)[0]))
        best = scores.index(min(scores))
        fresh.merge_into(children[best])
        close_all(children)
        return scores[best]

    # The first level fills caches and pools that stay.
    level(0)
    wait_until_nothing_is_torn_down_any_more(http, machine)
    before = {
        "memory": machine.memory_available_mib(),
        "disk": machine.data_used_kib(),
    }
    scores = [level(number) for number in range(1, LEVELS + 1)]
    wait_until_nothing_is_torn_down_any_more(http, machine)
    after = {
        "memory": machine.memory_available_mib(),
        "disk": machine.data_used_kib(),
    }
    print(f"\nbefore: {before}\nafter:  {after}\nscores: {scores}")
    assert scores == sorted(scores, reverse=True) and scores[-1] < 1e-6
    notes = fresh.run_code("print(len(open('/root/notes').readlines()))").stdout
    assert notes == str(LEVELS + 1), "the disk has what every winner wrote"
    # One VM's own memory and layers grow with what it wrote; those of 50 losers would be thousands.
    assert after["memory"] > before["memory"] - 150
    assert after["disk"] < before["disk"] + 100 * 1024
    shown = http.get(f"/v1/sandboxes/{fresh.id}").json()
    assert (shown["children"], shown["generation"]) == ([], LEVELS + 1)
