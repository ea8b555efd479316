"""What is overdue by the clock: a partition that has not come, and a champion that has become too old. Loads no Prefect."""

from datetime import datetime
from typing import NamedTuple

from tasks.contracts import PartitionRef, Stage
from tasks.errors import EvergreenError, MissingSource
from tasks.lifecycle.policy import days_text
from tasks.resources import Resources
from tasks.source.extent import fingerprint
from tasks.storage.partitions import containing


class Overdue(NamedTuple):
    """A message, when it became overdue, and the partition and the champion that it concerns."""

    message: str
    since: datetime
    partition: str
    champion: str


def late_partition(res: Resources, now: datetime) -> Overdue | None:
    """Return the partition after the newest finished one, if it should be processed by now and is not.

    None if model.yaml has no `source.due_within`. A gap before a newer processed partition is not late.

    Args:
        res: The model's resources.
        now: The time by the clock, aware.
    """
    within, newest = res.config.source.due_within, _newest_finished(res)
    if within is None or newest is None:
        return None
    ref = containing(res.config, newest.end)
    if ref.complete + within > now:
        return None
    champion = res.ledger.champion()
    message = (
        f"{ref.key} {_why_unfinished(ref, res)}: it was due by {ref.complete + within:%Y-%m-%d %H:%M} UTC, and the newest that is "
        f"processed is {newest.key}"
    )
    return Overdue(message, ref.complete + within, ref.key, champion.version if champion else "")


def _newest_finished(res: Resources) -> PartitionRef | None:
    """The newest finished partition: scored, blocked, without valid rows, or validated as of a moment without a champion."""
    champions = res.ledger.champions()
    for key in reversed(res.lake.keys(Stage.RAW)):
        raw, valid, scored = (res.lake.record(stage, key) for stage in (Stage.RAW, Stage.VALID, Stage.PREDICTIONS))
        ref, blocked = res.ref(key), "blocked" in {record.status for record in (raw, valid) if record}
        to_score = valid and valid.rows and champions and ref.complete > champions[0].as_of
        if blocked or scored or (valid and not to_score):
            return ref
    return None


def nothing_scored(res: Resources, now: datetime) -> str:
    """Return that the champion has scored no rows for longer than `source.due_within`, since no rows came; empty if it has.

    Args:
        res: The model's resources.
        now: The time by the clock, aware.
    """
    within, champion = res.config.source.due_within, res.ledger.champion()
    if within is None or champion is None or late_partition(res, now):
        return ""
    records = (res.lake.record(Stage.PREDICTIONS, key) for key in reversed(res.lake.keys(Stage.PREDICTIONS)))
    newest = next((res.ref(record.partition) for record in records if record and record.rows), None)
    if newest is None or containing(res.config, newest.end).complete + within > now:
        return ""
    return f"the champion has scored no rows since {newest.key}: the partitions after it are blocked or have none"


def _why_unfinished(ref: PartitionRef, res: Resources) -> str:
    try:
        fingerprint(res.model, ref)
    except MissingSource:
        return "has not come"
    except EvergreenError:
        return "cannot be read from the source"
    return "has come, but is not processed"


def old_champion(res: Resources, now: datetime) -> Overdue | None:
    """Return that the newest rows which the champion learned from are older than `champion.max_age`. None if it is not declared."""
    champion, most = res.ledger.champion(), res.config.champion.max_age
    if champion is None or most is None or now - champion.window_end <= most:
        return None
    since = champion.window_end + most
    message = (
        f"version {champion.version} learned from rows up to {champion.window_end:%Y-%m-%d}; champion.max_age is {days_text(most)}, "
        f"so it is too old since {since:%Y-%m-%d}"
    )
    return Overdue(message, since, "", champion.version)
