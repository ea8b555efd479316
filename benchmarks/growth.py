"""How time and memory grow with the rows of a partition and with the number of partitions; and how far a window's memory is foretold.

An exponent of 1 is linear: the slope of the logarithm of CPU seconds over that of the size, from the middle size to the largest, where
what a process costs by itself no longer hides it.
"""

import math
import sys
import tempfile
from pathlib import Path

from benchmarks.backfill import environment, light_world
from benchmarks.harness import Row, Spent, tree
from benchmarks.site import site

ROWS, DAYS = (5_000, 20_000, 80_000), (12, 100, 1_000)
STEPS = """
from tasks.partitions import between
from tasks.resources import open_resources
from tasks.stages import advance
from tasks.steps import ALONE
res = open_resources("tiny")
for ref in between(res.config, {first!r}, {last!r}):
    for step in ALONE:
        advance(step, ref, res)
"""
BACKFILL = """
from configs.settings import silence_vendors
silence_vendors()
from flows.backfill import backfill
state = backfill(model="tiny", start={first!r}, end={last!r}, stages=["ingest"], return_state=True)
assert state.is_completed(), state.message
"""


def rows() -> list[Row]:
    by_rows = [steps(count) for count in ROWS]
    by_days = [backfilled(days) for days in DAYS]
    return [
        exponent("growth: rows of a partition, 4 x and 16 x", ROWS, by_rows),
        exponent("growth: 12, 100 and 1,000 partitions in a backfill", DAYS, by_days),
        Row(
            "growth: peak memory of 1,000 partitions",
            "that of 12",
            "MB",
            by_days[-1].mb,
            by_days[0].mb,
            by_days[-1].mb / by_days[0].mb,
            (by_days[1].mb / by_days[0].mb, by_days[-1].mb / by_days[0].mb),
            1.15,
        ),
    ]


def exponent(subject: str, sizes: tuple[int, ...], taken: list[Spent]) -> Row:
    """The slope between the two largest; the one between the two smallest as the lower end of the spread."""
    slopes = [
        math.log(after.cpu / before.cpu) / math.log(large / small)
        for small, large, before, after in zip(sizes, sizes[1:], taken, taken[1:], strict=False)
    ]
    return Row(
        subject,
        "linear (exponent 1)",
        "CPU s",
        taken[-1].cpu,
        taken[-2].cpu,
        slopes[-1],
        (min(slopes), max(slopes)),
        1.05,
    )


def steps(count: int) -> Spent:
    """What ten days of so many parcels take, in the steps that look at their own partition."""
    return _run(STEPS, 10, count)


def backfilled(days: int) -> Spent:
    return _run(BACKFILL, days, None)


def _run(code: str, days: int, count: int | None) -> Spent:
    import pandas as pd

    from tests.conftest import FIRST

    with tempfile.TemporaryDirectory() as folder:
        world = light_world(Path(folder), days, count)
        first, last = f"{FIRST:%Y-%m-%d}", f"{FIRST + pd.Timedelta(days - 1, 'D'):%Y-%m-%d}"
        command = [sys.executable, "-c", code.format(first=first, last=last)]
        return tree(command, site().environment | environment(world))()
