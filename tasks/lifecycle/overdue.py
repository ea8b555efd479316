"""Facts of what is overdue, each recorded and emitted once. `tasks/lifecycle/lateness.py` finds it."""

from datetime import UTC, datetime

from tasks.contracts import Fact
from tasks.ledger.fact_ids import make_fact
from tasks.lifecycle.lateness import Overdue, late_partition, old_champion
from tasks.orchestration.events import emit_new
from tasks.resources import Resources


def report_overdue(res: Resources, now: datetime | None = None) -> list[Fact]:
    """Record and emit what is overdue, once for each partition and champion. Returns the new facts."""
    now, model = now or datetime.now(UTC), res.config.name
    late, old, champion = late_partition(res, now), old_champion(res, now), res.ledger.champion()
    facts = [late_fact(model, late)] if late else []
    if old and champion:
        facts.append(old_fact(model, old, champion.sequence))
    return emit_new(facts, res)


def late_fact(model: str, late: Overdue) -> Fact:
    """Return the fact that a partition is late."""
    payload = {"told": late.message, "champion": late.champion}
    return make_fact("late", model, late.partition, late.since, [], payload)


def old_fact(model: str, old: Overdue, sequence: int) -> Fact:
    """Return the fact that a champion is older than `champion.max_age`. `sequence` is the ledger row that made it champion."""
    payload = {"told": old.message, "champion": old.champion}
    return make_fact("old", model, "", old.since, [sequence, old.since], payload)
