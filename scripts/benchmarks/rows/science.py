"""`python-datasci` beside `default`: what loaded packages cost a fresh sandbox."""

import time

from ..bench import DEFAULT, Bench
from ..figures import percentile
from ..model import Measurement, NotAvailable, Row, Target

TEMPLATE = "python-datasci"
FRAME = "print(pd.DataFrame({'a':[1]}).shape)"
RUNS = (
    ("default: print(1)", DEFAULT, "print(1)", "1"),
    ("python-datasci: print(1)", TEMPLATE, "print(1)", "1"),
    ("python-datasci: DataFrame", TEMPLATE, FRAME, "(1, 1)"),
)


def first_answer(bench: Bench) -> Measurement:
    """The first run of a sandbox just created; creating it is a series of its own."""
    if TEMPLATE not in bench.get("/v1/capacity")["templates"]:
        raise NotAvailable(f"the host does not offer {TEMPLATE}")
    result = Measurement()
    for _ in range(bench.count(20)):
        for series, template, code, wanted in RUNS:
            began = time.perf_counter()
            with bench.sandbox(template) as sandbox:
                created = time.perf_counter()
                answer = sandbox.run_code(code)
                result.add(series, (time.perf_counter() - created) * 1000)
            if answer.stdout != wanted:
                result.notes.append(f"{code} gave {answer.stdout!r} {answer.stderr[-200:]!r}")
            result.add(f"{template}: create", (created - began) * 1000)
    frame = percentile(result.series[RUNS[2][0]], 50)
    result.add("DataFrame to default's print(1)", frame / percentile(result.series[RUNS[0][0]], 50))
    return result


ROWS = (
    Row(
        "science", "first answer of python-datasci beside default's", "ms", first_answer,
        (Target("DataFrame to default's print(1)", "p50", 3),), "–",
    ),
)
