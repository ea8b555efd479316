"""When a model's deployments run: schedules that follow from its partitions, spread over time for the models of one file."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from configs.base import Every
from configs.schema import ModelConfig

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
DAY, MORNING = timedelta(days=1), timedelta(hours=6)
LAST_DAY = 28
"""A schedule on a later day of the month would not run in February."""
MOST_OF_AN_HOUR = timedelta(minutes=30)


@dataclass(frozen=True)
class Cron:
    """A schedule: a cron line, the same in words, its time zone, and its name among those of the deployment."""

    line: str
    words: str
    timezone: str
    slug: str


@dataclass(frozen=True)
class Times:
    """The schedules of the deployments of one model."""

    process: Cron
    assess: Cron
    verify: Cron


def times_of(config: ModelConfig, spread: timedelta) -> Times:
    """Return the schedules of a model. `process` comes when a partition is complete, at 06:00 if that is at midnight.

    Args:
        config: The model's config.
        spread: Time over which the models of one file are spread. The moment within follows from the name.
    """
    own, hourly = config.partition, config.partition.every == "H"
    offset = moment_within(config.name, min(spread, MOST_OF_AN_HOUR) if hourly else spread)
    return times(own.every, own.timezone, own.grace + offset)


def times(every: Every = "D", timezone: str = "UTC", later: timedelta = timedelta(0)) -> Times:
    """Return the schedules for partitions of a length, `later` than a partition's end. `assess` follows an hour after `process`."""
    base, pause = (later, MOST_OF_AN_HOUR) if every == "H" else (MORNING + later, timedelta(hours=1))
    monthly = timedelta(days=14, hours=4) + later % DAY
    return Times(
        _cron(every, base, timezone, "regular"),
        _cron(every, base + pause, timezone, "regular"),
        _cron("M", monthly, timezone, "monthly"),
    )


def moment_within(name: str, spread: timedelta) -> timedelta:
    """Return the same whole minutes below `spread` for the same name, evenly distributed over names."""
    minutes = max(1, spread // timedelta(minutes=1))
    return timedelta(minutes=int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % minutes)


def _cron(every: Every, after: timedelta, timezone: str, slug: str) -> Cron:
    """Return the schedule of a moment after the start of each period."""
    total = after // timedelta(minutes=1)
    days, hour, minute = total // 1440, total // 60 % 24, total % 60
    place = "UTC" if timezone == "UTC" else f"in {timezone.rpartition('/')[2].replace('_', ' ')}"
    at = f"at {hour:02}:{minute:02} {place}"
    if every == "H":
        return Cron(
            f"{minute} * * * *", f"Every hour, {minute} minute{'' if minute == 1 else 's'} past", timezone, slug
        )
    if every == "D":
        return Cron(f"{minute} {hour} * * *", f"Every day {at}", timezone, slug)
    if every == "W":
        weekday = (1 + days) % 7
        return Cron(f"{minute} {hour} * * {weekday}", f"Every {DAYS[weekday]} {at}", timezone, slug)
    day = days % LAST_DAY + 1
    return Cron(f"{minute} {hour} {day} * *", f"A{at[1:]} on day {day} of each month", timezone, slug)
