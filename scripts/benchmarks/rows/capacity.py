"""How many sandboxes the machine's memory holds."""

import httpx

from ..bench import Bench, close_all
from ..model import Measurement, Row

MOST = 2000
MOST_QUICK = 50


def largest_number(bench: Bench) -> Measurement:
    """Idle sandboxes, made until the host refuses."""
    result = Measurement()
    most = MOST_QUICK if bench.quick else MOST
    if bench.count_max is not None:
        most = bench.count_max
    sandboxes = []
    available = bench.machine.memory()["MemAvailable"]
    try:
        while len(sandboxes) < most:
            try:
                sandboxes.append(bench.create())
            except httpx.HTTPStatusError as error:
                result.notes.append(f"then the host says: {error.response.text[:200]}")
                break
        else:
            result.notes.append(f"no more than {most} were tried")
        each = (available - bench.machine.memory()["MemAvailable"]) / max(1, len(sandboxes))
        result.add("sandboxes", len(sandboxes))
        result.notes.append(f"the machine's available memory went down by {each / 1024:.2f} MiB each")
        answers = sum(sandbox.run_code("print(1)").stdout == "1" for sandbox in sandboxes[:: max(1, len(sandboxes) // 10)])
        result.notes.append(f"{answers} of {len(sandboxes[:: max(1, len(sandboxes) // 10)])} asked answer")
    finally:
        close_all(sandboxes)
    return result


ROWS = (
    Row("most-sandboxes", "largest number of idle 1 GiB sandboxes", "VMs", largest_number, (), "120 warm in 96 GB"),
)
