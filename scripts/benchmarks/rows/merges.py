"""Letting a child take its parent's place."""

import httpx

from ..bench import Bench
from ..model import SERVER, Measurement, NotAvailable, Row, Target


def merge(bench: Bench) -> Measurement:
    result = Measurement()
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        parent.run_code("x = 0")
        for turn in range(bench.count(40)):
            child = parent.fork(1)[0]
            child.run_code("x += 1")
            try:
                bench.timed(result, lambda: parent.merge_into(child))
            except httpx.HTTPStatusError as error:
                child.close()
                raise NotAvailable(f"merge_into is answered with {error.response.status_code}") from None
            if parent.run_code("x").stdout != str(turn + 1):
                result.notes.append(f"the state after merge {turn + 1} is not the winner's")
                break
    return result


ROWS = (Row("merge", "merge_into", "ms", merge, (Target(SERVER, "p50", 5),), "about 50 ms"),)
