"""Which version was champion at a moment, why, who approved it and on what evidence; and whether the record holds together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.contracts import Promotion
from tasks.errors import EvergreenError
from tasks.ledger.chain import broken_links
from tasks.orchestration.events import CHANGE, change_id
from tasks.resources import Resources


@dataclass(frozen=True)
class Audit:
    """The answer for one moment, and what does not agree between ledger, MLflow and events."""

    model: str
    at: datetime | None
    champion: Promotion | None
    path: tuple[Promotion, ...]
    """Every row about the champion's version up to the one that made it champion."""
    rows: tuple[Promotion, ...]
    problems: tuple[str, ...]
    checked: str
    """How many rows were held against what."""


def audit(res: Resources, at: datetime | None, events: Mapping[str, str] | None) -> Audit:
    """Look up a moment (as-of time; today without one) and check the whole record.

    `events` has the hash of every event that Prefect still knows, by the event's id; None where it was not asked.
    """
    rows = res.ledger.promotions()
    champion = res.ledger.champion(at)
    path = [r for r in rows if champion and r.version == champion.version and r.sequence <= champion.sequence]
    problems = broken_links(rows) + unmarked(rows, res)
    told = [r for r in rows if r.action in CHANGE]
    if events is not None:
        for row in told:
            seen = events.get(str(change_id(row)))
            if seen is not None and seen != row.hash:
                problems.append(f"row {row.sequence}: its event has another hash")
    asked = (
        ""
        if events is None
        else f", {sum(str(change_id(r)) in events for r in told)} of {len(told)} events that Prefect still has"
    )
    checked = f"{len(rows)} rows, their marks in MLflow{asked}"
    return Audit(res.config.name, at, champion, tuple(path), tuple(rows), tuple(problems), checked)


def unmarked(rows: Sequence[Promotion], res: Resources) -> list[str]:
    """Rows whose hash on the MLflow version is not theirs, and marks in MLflow of rows that are not in the ledger."""
    undelivered = {row.sequence for row in res.ledger.undelivered()}
    try:
        marks = res.registry.marks()
    except EvergreenError as why:
        return [f"the ledger cannot be held against MLflow: {why}"]
    found = []
    for row in rows:
        if row.sequence in undelivered:
            continue
        if row.version not in marks:
            found.append(f"row {row.sequence}: MLflow has no version {row.version} any more")
        elif (seen := marks[row.version].get(row.sequence)) != row.hash:
            found.append(
                f"row {row.sequence}: MLflow's version {row.version} bears {'another hash' if seen else 'no mark of it'}"
            )
    known = {(row.version, row.sequence) for row in rows}
    strange = sorted((n, version) for version, own in marks.items() for n in own if (version, n) not in known)
    return found + [
        f"MLflow's version {version} bears a mark of row {n}, which the ledger does not have" for n, version in strange
    ]
