"""Cut time into partitions, by pandas' period names except that weeks and hours fit file names.

    M  2013-05          D  2013-05-14
    W  2013-W20         H  2013-05-14T10   (weeks are ISO weeks, hours are UTC)

A partition is half-open and runs from one local midnight to another, so a day with a
change of clocks has 23 or 25 hours.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from configs.base import EXAMPLE, PATTERN, Every
from configs.schema import ModelConfig
from tasks.contracts import PartitionRef


class NoPartition(ValueError):
    """The text names no partition of this model's calendar."""


def parse_key(key: str, every: Every) -> datetime:
    """The first moment of a partition, as naive local time.

    Raises:
        NoPartition: `key` has not the form of `every`, or no such date exists.
    """
    if not re.fullmatch(PATTERN[every], key):
        raise NoPartition(f"{key!r} is no partition: this model's look like {EXAMPLE[every]!r}")
    try:
        if every == "M":
            return datetime.fromisoformat(f"{key}-01")
        if every == "W":
            return datetime.combine(date.fromisocalendar(int(key[:4]), int(key[6:]), 1), time())
        return datetime.fromisoformat(f"{key}:00" if every == "H" else key)
    except ValueError as error:
        raise NoPartition(f"{key!r} is no partition: {error}") from None


def format_key(start: datetime, every: Every) -> str:
    """The name of the partition that begins at a naive local time."""
    if every == "W":
        year, week, _ = start.isocalendar()
        return f"{year}-W{week:02d}"
    return start.strftime({"M": "%Y-%m", "D": "%Y-%m-%d", "H": "%Y-%m-%dT%H"}[every])


def floor(moment: datetime, every: Every) -> datetime:
    """The first moment of the period that a naive local time lies in."""
    if every == "H":
        return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "W":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if every == "M" else day


def following(start: datetime, every: Every) -> datetime:
    """The first moment of the next period, as naive local time."""
    if every == "M":
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + {"W": timedelta(weeks=1), "D": timedelta(days=1), "H": timedelta(hours=1)}[every]


def partition(config: ModelConfig, key: str, as_of: datetime | None = None) -> PartitionRef:
    """The partition named `key`; as of its end plus the label delay, unless told otherwise.

    Raises:
        NoPartition: the name is none of this model's calendar.
        ValueError: `as_of` has no time zone.
    """
    every, zone = config.partition.every, ZoneInfo(config.partition.timezone)
    first = parse_key(key, every)
    start, end = (t.replace(tzinfo=zone).astimezone(UTC) for t in (first, following(first, every)))
    if as_of is not None and as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; write it like 2013-05-02T00:00:00-04:00")
    moment = as_of.astimezone(UTC) if as_of else end + config.target.delay
    return PartitionRef(config.name, key, start, end, moment)


def containing(config: ModelConfig, moment: datetime) -> PartitionRef:
    """The partition that an aware moment lies in."""
    local = moment.astimezone(ZoneInfo(config.partition.timezone)).replace(tzinfo=None)
    return partition(config, format_key(floor(local, config.partition.every), config.partition.every))


def between(config: ModelConfig, first: str, last: str) -> Iterator[PartitionRef]:
    """Every partition from `first` to `last`, both included, oldest first.

    Raises:
        NoPartition: a name is none of this model's calendar, or `last` is before `first`.
    """
    every = config.partition.every
    at, stop = parse_key(first, every), parse_key(last, every)
    if stop < at:
        raise NoPartition(f"the range ends at {last}, before it starts at {first}; swap them")
    while at <= stop:
        yield partition(config, format_key(at, every))
        at = following(at, every)
