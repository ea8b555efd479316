"""Recognise calendar features from sketches: columns whose value follows from the time of the row, such as the month or a counter.

The current partition is later than its reference, so such a column differs from it by construction, and a drift test of it has no meaning.
Recognised are, over all blocks of both sides:

- a column with one value in each block, which is exactly the year, quarter, month, week, day of the year or another field of `_fields`, a
  number counted in its steps, its name or date as text, or its sine or cosine;
- a column that varies within blocks, and in each block has larger (or smaller) values than in all earlier ones: a time or a counter.

The hour, the weekday and, in partitions of a month, the day of the month are distributed alike in each partition, so they are tested. A
trend of a measured quantity is tested too: its values overlap between blocks, or are not exactly in step with the calendar.
"""

import calendar
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from configs.base import Every
from tasks.drift.sketches import Column, Sketch
from tasks.storage.partitions import parse_key

MIN_BLOCKS = 12
"""With fewer blocks a trend, or the weekday, can look like a calendar feature."""
MIN_DISTINCT = 10
"""Distinct values that a block of a counter has. A daily price index has one a day, and can grow on all days."""
TOLERANCE = 1e-3
"""Largest distance of a value from its field, in steps of the field; for sine and cosine, in amplitudes."""
EXCEPTIONS = 0.01
"""Largest share of rows without a value or with another one, and of rows at either end of a block that are not compared."""
PERIODS = {"month": (12,), "week": (52, 53), "day of the year": (365, 365.25, 366)}
"""Periods with which cyclic fields become sine and cosine."""
MONTHS = {
    name.lower(): number for names in (calendar.month_name, calendar.month_abbr) for number, name in enumerate(names)
}
TEXTS: tuple[tuple[str, Callable[..., float]], ...] = (
    (r"(\d{4})-(\d{2})", lambda y, m: int(y) * 12 + int(m)),
    (r"(\d{4})-(\d{2})-(\d{2})(?:[T ].*)?", lambda y, m, d: date(int(y), int(m), int(d)).toordinal()),
    (r"(\d{4})-?w(\d{2})", lambda y, w: date.fromisocalendar(int(y), int(w), 1).toordinal() // 7),
    (r"(\d{4})-?q(\d)", lambda y, q: int(y) * 4 + int(q)),
    (r"([a-z]+)", lambda name: MONTHS[name]),
)
"""Texts of calendar fields, in lower case, with the number that each stands for."""


def calendar_columns(reference: Sketch, current: Sketch, partition: Every, block: Every, zone: str) -> dict[str, str]:
    """The columns that are calendar features, each with the reason in words.

    Args:
        reference: The blocks that the partition is compared with.
        current: The blocks of the partition.
        partition: Length of a partition.
        block: Length of a block.
        zone: Time zone of the partitions.
    """
    days = [np.array([_day(name, block, zone).toordinal() for name in side.blocks]) for side in (reference, current)]
    if len(np.unique(np.concatenate(days))) < MIN_BLOCKS:
        return {}
    reasons = {}
    for name in (name for name in current.columns if name in reference.columns):
        sides = (reference.columns[name], current.columns[name])
        numbers = [_numbers(column) for column in sides]
        if all(map(_is_complete, sides, numbers)):
            ends = _by_day(days[0][:1], sides[0], numbers[0]) + _by_day(days[1][-1:], sides[1], numbers[1], last=True)
            if _is_counter(ends) or all(
                counts.max() * 2 > counts.sum() for _, _, counts in ends
            ):  # most columns are neither
                older, newer = map(_by_day, days, sides, numbers)
                if reason := _reason(older + newer, _distinct(newer), partition, block):
                    reasons[name] = reason
    return reasons


Values = tuple[int, np.ndarray, np.ndarray]
"""The day of a block, its values in ascending order, and how often each occurs."""


def _day(name: str, block: Every, zone: str) -> date:
    """The local day in the middle of a block; of a block of an hour, the day that contains it."""
    start = parse_key(name, block)
    if block == "H":
        return start.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()
    return start.date() + timedelta(days={"D": 0, "W": 3, "M": 14}[block])


def _numbers(column: Column) -> np.ndarray:
    """The values of a column as float64, NaN for a text that is neither a number nor a part of a date."""
    if column.numeric:
        return column.values
    texts = [str(value).strip().lower() for value in column.values]
    for pattern, number in ((r"([-+]?\d+(?:\.\d+)?)", float), *TEXTS):
        if texts and re.fullmatch(pattern, texts[0]):
            return np.array([_parsed(text, pattern, number) for text in texts])
    return np.full(len(texts), np.nan)


def _parsed(text: str, pattern: str, number: Callable[..., float]) -> float:
    match = re.fullmatch(pattern, text)
    try:
        return float(number(*match.groups())) if match else float("nan")
    except (KeyError, ValueError):
        return float("nan")


def _is_complete(column: Column, values: np.ndarray) -> bool:
    """Whether nearly all rows have a number."""
    total = column.total
    usable = float(total[np.isfinite(values)].sum())
    return usable > 0 and float(total.sum() + column.other.sum()) - usable <= EXCEPTIONS * usable


def _by_day(days: np.ndarray, column: Column, numbers: np.ndarray, last: bool = False) -> list[Values]:
    """The values of each day that has any, oldest first: of the first blocks of a column or, with `last`, of the last ones."""
    counts = column.counts[-len(days) :] if last else column.counts[: len(days)]
    usable = np.flatnonzero(np.isfinite(numbers) & (counts > 0).any(axis=0))
    usable = usable[np.argsort(numbers[usable], kind="stable")]
    numbers, table = numbers[usable], []
    firsts = np.flatnonzero(np.diff(days, prepend=days[0] - 1)).tolist()
    for first, end in zip(firsts, [*firsts[1:], len(days)], strict=True):
        of_day = counts[first:end].sum(axis=0)[usable]
        present = np.flatnonzero(of_day)
        if len(present):
            table.append((int(days[first]), numbers[present], of_day[present]))
    return table


def _distinct(blocks: Sequence[Values]) -> float:
    """The median number of distinct values of a block."""
    return float(np.median([len(values) for _, values, _ in blocks]))


def _reason(blocks: Sequence[Values], distinct: float, partition: Every, block: Every) -> str:
    """Why a column is a calendar feature, empty if it is not. `distinct` is that of the newer side, whose bins are not too wide."""
    ordered = sorted(blocks, key=lambda b: b[0])
    if len(ordered) < MIN_BLOCKS:
        return ""
    if distinct >= MIN_DISTINCT and _is_counter(ordered):
        return "each block of time has larger (or smaller) values than all before, as a time or a counter has"
    usual = np.array([values[counts.argmax()] for _, values, counts in ordered])
    for field, own, neighbours in _fields([b[0] for b in ordered], partition, block):
        if (units := _units(usual, own)) and _has_few_exceptions(ordered, units, np.stack([own, *neighbours], axis=1)):
            return f"it follows from the {field} of the row, so it differs from the reference by construction"
    return ""


def _is_counter(ordered: Sequence[Values]) -> bool:
    """Whether the values of each block are beyond those of all blocks before, in one direction."""
    ends = []
    for _, values, counts in ordered:
        share = np.cumsum(counts) / counts.sum()
        at = np.searchsorted(share, [EXCEPTIONS, 0.5, 1 - EXCEPTIONS])
        ends.append(values[np.minimum(at, len(values) - 1)])
    low, middle, high = np.array(ends).T
    grows = bool((low[1:] >= high[:-1]).all() and (middle[1:] > middle[:-1]).all())
    falls = bool((high[1:] <= low[:-1]).all() and (middle[1:] < middle[:-1]).all())
    return grows or falls


def _fields(
    days: Sequence[int], partition: Every, block: Every
) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Yield each field with its values on these days, and its values one block before and after.

    Rows at the ends of a block can have those of the neighbours, where the column is in another time zone. The day of the month is left
    out for partitions of a month, which all have the same ones.
    """
    step = {"H": 1, "D": 1, "W": 7, "M": 30}[block]
    own, before, after = (_fields_of(tuple(d + shift for d in days)) for shift in (0, -step, step))
    for name in own:
        if name != "day of the month" or partition != "M":
            yield name.partition(",")[0], own[name], (before[name], after[name])


@functools.lru_cache(12)
def _fields_of(days: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The fields of the calendar on some days, by name. What follows a comma in a name is the variant."""
    return _waves(
        {name: np.array(values, "float64") for name, values in _counts([*map(date.fromordinal, days)]).items()}
    )


def _waves(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fields, and sine and cosine of the cyclic ones."""
    return fields | {
        f"{name}, as {wave.__name__} of {period} from {first}": wave(2 * np.pi * (fields[name] - first) / period)
        for name, periods in PERIODS.items()
        for period in periods
        for wave in (np.sin, np.cos)
        for first in (0, 1)
    }


def _counts(days: Sequence[date]) -> dict[str, list[int]]:
    iso = [day.isocalendar() for day in days]
    of_year = [day.timetuple().tm_yday for day in days]
    return {
        "year": [d.year for d in days],
        "year, of ISO weeks": [i.year for i in iso],
        "quarter": [(d.month + 2) // 3 for d in days],
        "month": [d.month for d in days],
        "week": [i.week for i in iso],
        "week, from Sundays": [int(f"{d:%U}") for d in days],
        "week, from Mondays": [int(f"{d:%W}") for d in days],
        "week, from 1 January": [(n - 1) // 7 + 1 for n in of_year],
        "day of the year": of_year,
        "day of the month": [d.day for d in days],
        "date": [d.toordinal() for d in days],
        "date, as a number": [d.year * 10000 + d.month * 100 + d.day for d in days],
        "month, counted": [d.year * 12 + d.month for d in days],
        "month, as a number": [d.year * 100 + d.month for d in days],
        "week, counted": [d.toordinal() // 7 for d in days],
        "week, as a number": [i.year * 100 + i.week for i in iso],
        "quarter, counted": [d.year * 4 + (d.month + 2) // 3 for d in days],
    }


def _units(usual: np.ndarray, own: np.ndarray) -> tuple[float, float, float] | None:
    """Offset and slope with which the usual value of each block is a field, and the tolerance; None if it is not.

    A field that has only two values on these days must be the column itself, and more than a flag: anything may change once.
    """
    levels = len(np.unique(own))
    if levels < 2 or np.ptp(usual) == 0:
        return None
    centred = own - own.mean()
    slope = float((centred * (usual - usual.mean())).sum() / (centred**2).sum()) if levels > 2 else 1.0
    offset = float(np.median(usual - slope * own))
    if levels == 2 and (offset or own.max() < 3):
        return None
    whole = bool((own == np.rint(own)).all())
    tolerance = TOLERANCE * abs(slope) * (1.0 if whole else float(np.abs(own).max()))
    return (offset, slope, tolerance) if (np.abs(usual - offset - slope * own) <= tolerance).all() else None


def _has_few_exceptions(ordered: Sequence[Values], units: tuple[float, float, float], fields: np.ndarray) -> bool:
    """Whether nearly all rows have the field of their block or of its neighbours, `fields`, of shape (blocks, 3)."""
    offset, slope, tolerance = units
    exceptions = sum(
        counts[(np.abs(values[:, None] - near) > tolerance).all(axis=1)].sum()
        for (_, values, counts), near in zip(ordered, offset + slope * fields, strict=True)
    )
    return bool(exceptions <= EXCEPTIONS * sum(counts.sum() for _, _, counts in ordered))
