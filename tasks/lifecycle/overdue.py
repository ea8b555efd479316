"""What does not come: a partition that is late, and a champion that has become too old. Found by the clock."""

from datetime import UTC, datetime
from typing import NamedTuple

from tasks.contracts import Fact, PartitionRef, Stage
from tasks.errors import EvergreenError, MissingSource
from tasks.ledger.fact_ids import make_fact
from tasks.lifecycle.policy import days_text
from tasks.orchestration.events import emit_new
from tasks.resources import Resources
from tasks.source.extent import fingerprint
from tasks.storage.partitions import containing


class Overdue(NamedTuple):
    """One thing that should have happened by `since`: a sentence about it, and what it is about."""

    message: str
    since: datetime
    partition: str
    champion: str


def late_partition(res: Resources, now: datetime) -> Overdue | None:
    """Return the first partition that should be processed by now, and is not. None if model.yaml has no `source.due_within`.

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
    """The newest partition for which `process` has nothing left to do: it is scored, blocked, without rows, or there is no champion."""
    has_champion = res.ledger.champion() is not None
    for key in reversed(res.lake.keys(Stage.RAW)):
        raw, valid, scored = (res.lake.record(stage, key) for stage in (Stage.RAW, Stage.VALID, Stage.PREDICTIONS))
        blocked = "blocked" in {record.status for record in (raw, valid) if record}
        if blocked or scored or (valid and not (valid.rows and has_champion)):
            return res.ref(key)
    return None


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
    message = (
        f"version {champion.version} learned from rows up to {champion.window_end:%Y-%m-%d}, {days_text(now - champion.window_end)} ago; "
        f"champion.max_age is {days_text(most)}"
    )
    return Overdue(message, champion.window_end + most, "", champion.version)


def report_overdue(res: Resources, now: datetime | None = None) -> list[Fact]:
    """Record and emit what is overdue, once for each partition and champion. Returns the new facts."""
    now, model = now or datetime.now(UTC), res.config.name
    late, old = late_partition(res, now), old_champion(res, now)
    facts = [*([late_fact(model, late)] if late else []), *([old_fact(model, old)] if old else [])]
    return emit_new(facts, res)


def late_fact(model: str, late: Overdue) -> Fact:
    """Return the fact that a partition is late."""
    payload = {"told": late.message, "champion": late.champion}
    return make_fact("late", model, late.partition, late.since, [], payload)


def old_fact(model: str, old: Overdue) -> Fact:
    """Return the fact that a champion is older than `champion.max_age`."""
    payload = {"told": old.message, "champion": old.champion}
    return make_fact("old", model, "", old.since, [old.champion, old.since], payload)
