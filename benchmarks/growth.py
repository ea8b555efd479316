"""How time and memory grow with the rows of a partition and with the number of partitions.

An exponent of 1 is linear. The fixed cost of a process must not hide the growth, so the exponent is computed from differences: for
three sizes, the logarithm of the ratio of the two differences in CPU seconds, over the logarithm of the ratio of those in size.
"""

import math
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.backfill import environment, light_model
from benchmarks.harness import Row, Spent, run_program
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
from configs.settings import disable_telemetry
disable_telemetry()
from flows.backfill import backfill
state = backfill(model="tiny", start={first!r}, end={last!r}, stages=["ingest"], return_state=True)
assert state.is_completed(), state.message
"""


def rows() -> list[Row]:
    by_rows = [[steps(count) for count in ROWS] for _ in range(ROUNDS)]
    by_days = [[backfilled(days) for days in DAYS]]  # once: takes 90 s
    peaks = [costs[-1].mb / costs[0].mb for costs in by_days]
    few, many = (statistics.median(costs[at].mb for costs in by_days) for at in (0, -1))
    return [
        exponent(
            "growth: rows of a partition, 1 x, 4 x and 16 x, in the steps that use only their partition", ROWS, by_rows
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
    """Return the exponent, as the median of the rounds."""
    small, middle, large = sizes
    slopes = sorted(
        math.log((c.cpu - b.cpu) / (b.cpu - a.cpu)) / math.log((large - middle) / (middle - small))
        for a, b, c in rounds
    )
    ours, theirs = (statistics.median(costs[at].cpu for costs in rounds) for at in (2, 1))
    return Row(
        subject, "linear (exponent 1)", "CPU s", ours, theirs, statistics.median(slopes), (slopes[0], slopes[-1]), 1.05,
        "ours and theirs are the CPU seconds of the largest and of the middle size, the ratio is the exponent",
    )  # fmt: skip


def steps(count: int) -> Spent:
    """Measure ten days of `count` parcels each, in the steps that use only their partition."""
    return _run(STEPS, 10, count)


def backfilled(days: int) -> Spent:
    return _run(BACKFILL, days, None)


def _run(code: str, days: int, count: int | None) -> Spent:
    import pandas as pd

    from tests.conftest import FIRST

    with tempfile.TemporaryDirectory() as folder:
        home = light_model(Path(folder), days, count)
        first, last = f"{FIRST:%Y-%m-%d}", f"{FIRST + pd.Timedelta(days - 1, 'D'):%Y-%m-%d}"
        command = [sys.executable, "-c", code.format(first=first, last=last)]
        return run_program(command, site().environment | environment(home))()
