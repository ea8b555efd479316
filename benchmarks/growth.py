"""How time and memory grow with the rows of a partition and with the number of partitions.

An exponent of 1 is linear. What a process costs by itself must not hide the rest, so it is the slope between differences: of three
sizes the CPU seconds from the first to the second and from the second to the third, over the same of the sizes, as logarithms.
"""

import math
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.backfill import environment, light_world
from benchmarks.harness import Row, Spent, tree
from benchmarks.site import site

ROWS, DAYS, ROUNDS = (5_000, 20_000, 80_000), (12, 100, 1_000), 1
STEPS = """
from tasks.storage.partitions import between
from tasks.resources import open_resources
from tasks.steps.step import advance
from tasks.steps.order import INDEPENDENT
res = open_resources("tiny")
for ref in between(res.config, {first!r}, {last!r}):
    for step in INDEPENDENT:
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
    by_rows = [[steps(count) for count in ROWS] for _ in range(ROUNDS)]
    by_days = [[backfilled(days) for days in DAYS]]  # once: a minute and a half
    peaks = [taken[-1].mb / taken[0].mb for taken in by_days]
    few, many = (statistics.median(taken[at].mb for taken in by_days) for at in (0, -1))
    return [
        exponent(
            "growth: rows of a partition, 1 x, 4 x and 16 x, in the steps that look at themselves alone", ROWS, by_rows
        ),
        exponent("growth: 12, 100 and 1,000 partitions in a backfill of their ingest", DAYS, by_days),
        Row(
            "growth: peak memory of 1,000 partitions",
            "that of 12",
            "MB",
            many,
            few,
            many / few,
            (min(peaks), max(peaks)),
            1.15,
        ),
    ]


def exponent(subject: str, sizes: tuple[int, ...], rounds: list[list[Spent]]) -> Row:
    """The slope between the two differences, in the middle of the rounds."""
    small, middle, large = sizes
    slopes = sorted(
        math.log((c.cpu - b.cpu) / (b.cpu - a.cpu)) / math.log((large - middle) / (middle - small))
        for a, b, c in rounds
    )
    ours, theirs = (statistics.median(taken[at].cpu for taken in rounds) for at in (2, 1))
    return Row(
        subject, "linear (exponent 1)", "CPU s", ours, theirs, statistics.median(slopes), (slopes[0], slopes[-1]), 1.05,
        "ours and theirs are the CPU seconds of the largest and of the middle size, the ratio is the exponent",
    )  # fmt: skip


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
