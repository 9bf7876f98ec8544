"""Running code in a sandbox that is in use."""

from ..bench import Bench
from ..model import CLIENT, Measurement, Row, Target

WARM_UP_RUNS = 20


def hot(bench: Bench) -> Measurement:
    result = Measurement(notes=[f"after {WARM_UP_RUNS} runs that are not counted"])
    with bench.sandbox() as sandbox:
        for _ in range(WARM_UP_RUNS):
            sandbox.run_code("print(1)")
        wrong = 0
        for _ in range(bench.count(500)):
            wrong += bench.timed(result, lambda: sandbox.run_code("print(1)")).stdout != "1"
    if wrong:
        result.notes.append(f"{wrong} wrong answers")
    return result


ROWS = (
    Row("hot-print", 'hot run_code("print(1)") over loopback', "ms", hot, (Target(CLIENT, "p50", 5),), "3–5 ms"),
)
