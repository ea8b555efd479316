"""The length of a partition, the holdout, blocks and label delay: durations that fit the data and each other."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

from configs.base import Every, span_text
from configs.flat import literal, quoted
from configs.partitioning import HOURS
from ops.profiling.describe import ROWS
from ops.profiling.values import Periods, TargetChoice, UnusableData

if TYPE_CHECKING:
    import duckdb

PERIOD = {"M": "month", "W": "week", "D": "day", "H": "hour"}
PARTITION_FORMAT = {"M": "%Y-%m", "W": "%G-W%V", "D": "%Y-%m-%d", "H": "%Y-%m-%dT%H"}
"""Formats of the names of partitions, as in `strftime`."""
LEAST_PARTITIONS, LEAST_ROWS = 12, 50
PLAYED = 3
"""Partitions that the first `make play` plays after the first champion."""
DURATIONS = tuple(timedelta(hours=h) for h in (1, 2, 3, 6, 12, 24, 48, 72)) + tuple(
    timedelta(days=d) for d in (7, 14, 21, 28, 42, 56, 84, 168, 364)
)
"""Lengths that a holdout may have."""
ENOUGH_HELD, LEAST_HELD, ENOUGH_RARE = 400, 60, 40
"""Rows of a holdout, and rows of the rarest class in it, that are aimed at and needed."""
SPARSE = 0.3
"""Share of days with rows below which a block is longer than a day."""


class Span(NamedTuple):
    """First and last time of the rows, those of the rows with an outcome, and numbers of rows."""

    first: datetime
    last: datetime
    last_known: datetime
    rows: int
    known: int
    days: int
    hours: int

    @property
    def length(self) -> timedelta:
        """Time from the first to the last row."""
        return self.last - self.first


def read_span(con: "duckdb.DuckDBPyConnection", time: str, target: str, zone: str) -> Span:
    """Return the time that the rows cover."""
    at, known = quoted(time), f"FILTER (WHERE {quoted(target)} IS NOT NULL)"
    query = (
        f"SELECT min({at}), max({at}), max({at}) {known}, count({at}), count({at}) {known}, "  # noqa: S608
        f"count(DISTINCT CAST(timezone({literal(zone)}, {at}) AS DATE)), count(DISTINCT date_trunc('hour', {at})) FROM {ROWS}"
    )
    values = con.execute(query).fetchall()[0]
    first, last, last_known = (v.astimezone(UTC) for v in values[:3])
    return Span(first, last, last_known, *map(int, values[3:]))


def label_delay(
    con: "duckdb.DuckDBPyConnection", time: str, label_time: str, span: Span
) -> tuple[timedelta, str, bool]:
    """Return the label delay, what it was inferred from, and whether that is sure.

    It is the time within which 99 % of outcomes became known, if a column has when; else how much earlier the outcomes end than the rows.
    """
    if label_time:
        query = f"SELECT quantile_disc({quoted(label_time)} - {quoted(time)}, 0.99) FROM {ROWS} WHERE {quoted(label_time)} IS NOT NULL"  # noqa: S608
        (spread,) = con.execute(query).fetchall()[0]
        return round_up(spread), f"99 % of the outcomes were known after {span_words(spread)}, by {label_time}", True
    missing = span.last - span.last_known
    if missing > span.length / 1000:
        return round_up(missing), f"the newest outcomes are {span_words(missing)} older than the newest rows", False
    assumed = timedelta(days=1) if span.length >= timedelta(days=60) else timedelta(hours=1)
    return assumed, "ASSUMED, since the data do not show when outcomes become known; DELAY= gives it", False


def round_up(span: timedelta) -> timedelta:
    """Return a duration rounded up to minutes, hours or days, by its length."""
    unit = (
        timedelta(days=1)
        if span > timedelta(days=2)
        else timedelta(hours=1)
        if span > timedelta(hours=1)
        else timedelta(minutes=1)
    )
    return ceil(span / unit) * unit


def span_words(span: timedelta) -> str:
    """Return a duration as a person reads it."""
    days, hours = span / timedelta(days=1), span / timedelta(hours=1)
    return (
        f"{days:.1f} days"
        if days >= 2
        else f"{hours:.1f} hours"
        if hours >= 1
        else f"{span / timedelta(minutes=1):.0f} minutes"
    )


def choose_every(span: Span, given: str, by_file: Every | None, zone: str) -> tuple[Every, str]:
    """Return the length of a partition and the reason.

    Raises:
        UnusableData: The rows cover too little time.
    """
    counts = {every: max(1.0, span.length / timedelta(hours=HOURS[every])) for every in HOURS}
    named = {"month": "M", "week": "W", "day": "D", "hour": "H"}.get(given.lower(), given.upper())
    if given and named not in HOURS:
        raise UnusableData(f"BY={given}: the length of a partition is M, W, D or H")
    able: list[Every] = [every for every in HOURS if every != "H" or zone == "UTC"]
    fitting = [e for e in able if counts[e] >= LEAST_PARTITIONS and span.rows / counts[e] >= LEAST_ROWS]
    chosen = next((e for e in able if e == named), None) or (by_file if by_file in fitting else None)
    chosen = chosen or next(iter(fitting), None) or next((e for e in able if counts[e] >= LEAST_PARTITIONS), None)
    if chosen is None:
        raise UnusableData(
            f"the rows cover {span_words(span.length)}, from {span.first:%Y-%m-%d %H:%M} to {span.last:%Y-%m-%d %H:%M}, but at least "
            f"{LEAST_PARTITIONS} hours are needed: a model is trained on older rows and judged on newer ones; give data of a longer time"
        )
    why = "given as BY" if given else "as the files" if chosen == by_file else "longest with enough partitions"
    return chosen, f"{why}: {counts[chosen]:.0f} {PERIOD[chosen]}s of about {span.rows / counts[chosen]:,.0f} rows"


def choose_block(span: Span, every: Every, holdout: timedelta) -> tuple[Every, float]:
    """Return the length of a block, and the number of blocks with rows in a holdout."""
    days = holdout / timedelta(days=1)
    share = span.days / max(1.0, span.length / timedelta(days=1))
    if share >= SPARSE and (days * min(1, share) >= 5 or every in ("M", "W")):
        return "D", days * min(1.0, share)
    if share >= SPARSE:
        return "H", holdout / timedelta(hours=1) * min(1.0, span.hours / max(1.0, span.length / timedelta(hours=1)))
    return (
        ("W", days / 7 * min(1.0, 7 * share))
        if every == "W" or share * 7 >= SPARSE
        else ("M", days / 31 * min(1.0, 31 * share))
    )


def choose_holdout(span: Span, every: Every, target: TargetChoice) -> tuple[timedelta, str]:
    """Return the shortest holdout with enough rows, rows of each class, and blocks, at most an eighth of the time.

    Raises:
        UnusableData: An eighth of the time has too few rows.
    """
    per_second = span.known / span.length.total_seconds()
    rare = min(target.counts.values()) / span.known if target.counts else 1.0
    best, reason = None, ""
    for length in DURATIONS:
        if length > span.length / 8:
            break
        held, blocks = per_second * length.total_seconds(), choose_block(span, every, length)[1]
        best = length
        reason = (
            f"about {held:,.0f} rows"
            + (f", {held * rare:,.0f} of the rarest class" if target.counts else "")
            + f", in {blocks:.0f} blocks"
        )
        if held >= ENOUGH_HELD and held * rare >= ENOUGH_RARE and blocks >= 10:
            break
    held = per_second * best.total_seconds() if best else 0
    if best is None or held < LEAST_HELD:
        needed = ceil(8 * LEAST_HELD)
        raise UnusableData(
            f"{span.known:,} rows with an outcome in {span_words(span.length)}: a holdout of an eighth of the time has about "
            f"{span.known / 8:.0f} rows, but the gate needs {LEAST_HELD}; give at least {needed} rows with an outcome"
        )
    return best, reason


def choose_periods(
    con: "duckdb.DuckDBPyConnection", time: str, target: TargetChoice, span: Span, every: tuple[Every, str], zone: str,
    delay: tuple[timedelta, str, bool], now: datetime,
) -> Periods:  # fmt: skip
    """Return the periods of a model.

    Raises:
        UnusableData: There are too few partitions, or too few rows.
    """
    holdout, held_reason = choose_holdout(span, every[0], target)
    block, blocks = choose_block(span, every[0], holdout)
    keys, rows = _partitions(con, time, every[0], zone, span, now)
    least = 4 * holdout + 2 * delay[0]
    per = timedelta(hours=HOURS[every[0]])
    first = ceil(least / per) + 1
    if first >= len(keys):
        raise UnusableData(
            f"{len(keys)} complete {PERIOD[every[0]]}s, but a first champion needs {first} of them (a holdout of {span_text(holdout)}, "
            f"a validation split of that length, a label delay of {span_text(delay[0])} before each, and rows to fit), and one more "
            f"is played; give data of a longer time, or a shorter BY="
        )
    first = max(first, len(keys) - PLAYED) if len(keys) > first + PLAYED else first
    reasons = {"every": every[1], "holdout": held_reason, "delay": delay[1]}
    held = floor(span.known / span.length.total_seconds() * holdout.total_seconds())
    enough = max(2, min(10, floor(0.7 * blocks)))
    return Periods(every[0], zone, keys, rows, holdout, block, enough, held, first, delay[0], reasons, delay[2])


def _partitions(
    con: "duckdb.DuckDBPyConnection", time: str, every: Every, zone: str, span: Span, now: datetime
) -> tuple[tuple[str, ...], Sequence[int]]:
    """Return the names of the partitions that the rows cover to their end, and the rows of each partition with rows."""
    start = f"date_trunc('{PERIOD[every]}', timezone({literal(zone)}, {quoted(time)}))"
    form = PARTITION_FORMAT[every]
    query = (
        f"SELECT strftime(CAST({start} AS TIMESTAMP), '{form}'), "  # noqa: S608
        f"timezone({literal(zone)}, CAST({start} AS TIMESTAMP) + INTERVAL 1 {PERIOD[every]}), count(*) "
        f"FROM {ROWS} WHERE {quoted(time)} IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
    )
    found = con.execute(query).fetchall()
    typical = span.length / max(1, span.rows) * 3
    slack = max(typical, timedelta(hours=HOURS[every]) / 20)
    keys = tuple(key for key, end, _ in found if end <= span.last + slack and end <= now)
    return keys, [int(count) for _, _, count in found]
