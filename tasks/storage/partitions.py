"""Partitions of time. Their keys are pandas' period names, except that weeks and hours are valid file names.

    M  2013-05          D  2013-05-14
    W  2013-W20         H  2013-05-14T10   (weeks are ISO weeks, hours are UTC)

A partition is the half-open interval `[start, end)`. Except for hours it starts at midnight in the model's time zone, so a day on which
daylight saving time starts or ends has 23 or 25 hours.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from configs.base import EXAMPLE, PATTERN, YEARS, Every, to_utc
from configs.schema import ModelConfig
from tasks.contracts import PartitionRef


class NoPartition(ValueError):
    """The key is not one of this model's partitions."""


def parse_key(key: str, every: Every) -> datetime:
    """The start of a partition, as naive local time.

    Raises:
        NoPartition: `key` does not have the format of `every`, the date does not exist, or the year is not within `YEARS`.
    """
    if not re.fullmatch(PATTERN[every], key):
        raise NoPartition(f"{key!r} is not a partition: this model's keys look like {EXAMPLE[every]!r}")
    if not YEARS[0] <= int(key[:4]) <= YEARS[1]:
        raise NoPartition(f"{key!r} is not a partition: its year must be within {YEARS[0]} to {YEARS[1]}")
    try:
        if every == "M":
            return datetime.fromisoformat(f"{key}-01")
        if every == "W":
            return datetime.combine(date.fromisocalendar(int(key[:4]), int(key[6:]), 1), time())
        return datetime.fromisoformat(f"{key}:00" if every == "H" else key)
    except ValueError as error:
        raise NoPartition(f"{key!r} is not a partition: {error}") from None


def format_key(start: datetime, every: Every) -> str:
    """The key of the partition that starts at a naive local time."""
    if every == "W":
        year, week, _ = start.isocalendar()
        return f"{year}-W{week:02d}"
    return start.strftime({"M": "%Y-%m", "D": "%Y-%m-%d", "H": "%Y-%m-%dT%H"}[every])


def floor(moment: datetime, every: Every) -> datetime:
    """The start of the period that contains a naive local time."""
    if every == "H":
        return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "W":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if every == "M" else day


def next_start(start: datetime, every: Every) -> datetime:
    """The start of the next period, as naive local time."""
    if every == "M":
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + {"W": timedelta(weeks=1), "D": timedelta(days=1), "H": timedelta(hours=1)}[every]


def ordinal(key: str, every: Every) -> int:
    """The number of periods from the one that contains 1970-01-01 to a partition, negative before it.

    Raises:
        NoPartition: See `parse_key`.
    """
    start = parse_key(key, every)
    days = start.toordinal() - date(1970, 1, 1).toordinal()
    if every == "M":
        return (start.year - 1970) * 12 + start.month - 1
    if every == "W":
        return (days + 3) // 7  # 1970-01-01 is a Thursday
    return days * 24 + start.hour if every == "H" else days


def partition(config: ModelConfig, key: str, as_of: datetime | None = None) -> PartitionRef:
    """The partition with this key.

    Args:
        config: The model's config.
        key: Such as `2013-05`.
        as_of: The moment as of which it is looked at, aware. By default its own moments.

    Raises:
        NoPartition: `key` is not one of this model's partitions.
        ValueError: `as_of` has no time zone, or its year is not within `YEARS`.
    """
    every, zone = config.partition.every, ZoneInfo(config.partition.timezone)
    first = parse_key(key, every)
    start, end = (t.replace(tzinfo=zone).astimezone(UTC) for t in (first, next_start(first, every)))
    complete = end + config.partition.grace
    matured = max(complete, end + config.target.delay)
    return PartitionRef(config.name, key, start, end, complete, matured, to_utc(as_of) if as_of else None)


def in_order_of_time(
    refs: Sequence[PartitionRef], earlier: Iterable[PartitionRef] = ()
) -> list[tuple[datetime, list[PartitionRef], list[PartitionRef]]]:
    """The moments of a range, oldest first, each with the partitions that are complete then, and those whose labels have matured then.

    Args:
        refs: The partitions of the range, oldest first.
        earlier: Partitions before the range. Those whose labels mature later than start plus grace of the first partition are included.
    """
    begin = refs[0].start + (refs[0].complete - refs[0].end)
    assessed = [*(ref for ref in earlier if ref.matured > begin), *refs]
    moments = sorted({ref.complete for ref in refs} | {ref.matured for ref in assessed})
    return [
        (moment, [r for r in refs if r.complete == moment], [r for r in assessed if r.matured == moment])
        for moment in moments
    ]


def containing(config: ModelConfig, moment: datetime) -> PartitionRef:
    """The partition that contains an aware time."""
    local = moment.astimezone(ZoneInfo(config.partition.timezone)).replace(tzinfo=None)
    return partition(config, format_key(floor(local, config.partition.every), config.partition.every))


def between(config: ModelConfig, first: str, last: str) -> Iterator[PartitionRef]:
    """Yield every partition from `first` to `last`, both included, oldest first.

    Raises:
        NoPartition: a key is not one of this model's partitions, or `last` is before `first`.
    """
    every = config.partition.every
    at, stop = parse_key(first, every), parse_key(last, every)
    if stop < at:
        raise NoPartition(f"the range ends at {last}, before it starts at {first}; swap them")
    while at <= stop:
        yield partition(config, format_key(at, every))
        at = next_start(at, every)
