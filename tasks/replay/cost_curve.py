"""For which cost of a retraining each policy is best: the lower envelope of lines.

The combined cost per partition is the mean loss plus cost × retrainings / partitions. For each policy it is a line in the cost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from tasks.replay.oracle import Schedule
from tasks.replay.policies import EVERY, NEVER, ORACLE


@dataclass(frozen=True)
class Line:
    """Loss and retrainings of policies, which give their combined cost for each cost of a retraining.

    Attributes:
        names: Several if policies have the same loss and the same number of retrainings.
        mean: Mean loss over partitions.
        retrainings: Number of retrainings over all partitions.
    """

    names: tuple[str, ...]
    mean: float
    retrainings: int


@dataclass(frozen=True)
class BestRange:
    """The costs of a retraining for which a line has the lowest combined cost, from `lower` to `upper`."""

    line: Line
    lower: float
    upper: float
    """Infinite for the line with the fewest retrainings."""


def best_ranges(results: Iterable[tuple[str, float, int]], partitions: int) -> tuple[BestRange, ...]:
    """Return the ranges of costs in which each policy is best, cheapest retraining first. They are exact and cover all costs from 0.

    Where two policies cost the same over a whole range, it belongs to the one with fewer retrainings.

    Args:
        results: Name, mean loss and number of retrainings. A loss that is not finite is left out.
        partitions: Number of partitions.
    """
    lines = _lines(results)
    ranges: list[BestRange] = []
    current, lower = min(lines, key=lambda line: (line.mean, line.retrainings), default=None), 0.0
    while current is not None:
        crossings = [
            ((line.mean - current.mean) * partitions / (current.retrainings - line.retrainings), line.retrainings, line)
            for line in lines
            if line.retrainings < current.retrainings
        ]
        upper, _, following = min(crossings, key=lambda crossing: crossing[:2], default=(inf, 0, None))
        ranges.append(BestRange(current, lower, upper))
        current, lower = following, upper
    return tuple(ranges)


def _lines(results: Iterable[tuple[str, float, int]]) -> list[Line]:
    """Return the best line for each number of retrainings."""
    best: dict[int, Line] = {}
    for name, mean, count in results:
        line = best.get(count)
        if isfinite(mean) and (line is None or mean < line.mean):
            best[count] = Line((name,), mean, count)
        elif line is not None and mean == line.mean:
            best[count] = Line((*line.names, name), mean, count)
    return list(best.values())


def lowest_costs(ranges: Sequence[BestRange], costs: np.ndarray, partitions: int) -> np.ndarray:
    """Return the combined cost of the best line for each cost of a retraining."""
    return np.min([r.line.mean + costs * r.line.retrainings / partitions for r in ranges], axis=0)


def oracle_ranges(schedules: Iterable[Schedule], partitions: int) -> tuple[BestRange, ...]:
    """Return the ranges of costs in which each of the oracle's schedules is best."""
    return best_ranges(((ORACLE, s.mean, len(s.trainings)) for s in schedules), partitions)


def calendar_ranges(calendars: Iterable[Schedule], partitions: int) -> tuple[BestRange, ...]:
    """Return the ranges of costs in which each calendar is best in hindsight."""
    return best_ranges(((calendar_name(s), s.mean, len(s.trainings)) for s in calendars), partitions)


def calendar_name(calendar: Schedule) -> str:
    """Return the name of a calendar, as that of the policy with the gate: `every`, `every_2nd`, ..., `never`."""
    if not calendar.trainings:
        return NEVER
    k = calendar.trainings[0]
    ending = "th" if k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return EVERY if k == 1 else f"{EVERY}_{k}{ending}"


def best_at(ranges: Sequence[BestRange], cost: float) -> BestRange | None:
    """Return the range that a cost of a retraining is in."""
    return next((r for r in ranges if cost <= r.upper), None)
