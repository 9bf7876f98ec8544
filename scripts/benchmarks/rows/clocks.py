"""How closely the clocks of relatives agree."""

import time

from podflare import Sandbox

from ..bench import Bench, close_all
from ..model import Measurement, Row, Target

CHILDREN = 3
QUESTIONS = 25
QUESTION = "import time; print(time.time())"


def relatives(bench: Bench) -> Measurement:
    """A parent and three children, each asked in turn. What the way there takes is the same for all of them."""
    result = Measurement(notes=[f"each clock by the quickest of {QUESTIONS} answers, taken to show the middle of its time"])
    for _ in range(bench.count(30)):
        with bench.sandbox() as parent:
            children = parent.fork(CHILDREN)
            offsets = [offset_ms(one) for one in (parent, *children)]
            close_all(children)
        result.add("furthest apart", max(offsets) - min(offsets))
    return result


def offset_ms(sandbox: Sandbox) -> float:
    """How far the guest's clock is ahead of this machine's."""
    answers = []
    for _ in range(QUESTIONS):
        before = time.time()
        shown = float(sandbox.run_code(QUESTION).stdout)
        after = time.time()
        answers.append((after - before, shown - (before + after) / 2))
    return min(answers)[1] * 1000


ROWS = (
    Row(
        "clocks", "clocks of a parent and three children", "ms", relatives,
        (Target("furthest apart", "p50", 5),), "–",
    ),
)
