"""All rows, in the order of the table."""

from ..model import Row
from . import (
    capacity,
    clocks,
    creates,
    forks,
    memory,
    merges,
    pauses,
    pools,
    runs,
    science,
    sessions,
    spaces,
    throughput,
    uploads,
)

MODULES = (creates, pools, forks, pauses, runs, sessions, uploads, merges, spaces, throughput, science, memory, capacity, clocks)
ROWS: tuple[Row, ...] = tuple(row for module in MODULES for row in module.ROWS)
