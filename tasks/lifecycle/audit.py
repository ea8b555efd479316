"""Audit: the champion as of a moment with the rows that led to it, and a consistency check of ledger, MLflow and events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.contracts import Promotion
from tasks.errors import EvergreenError
from tasks.ledger.chain import broken_links
from tasks.orchestration.events import CHANGE, change_id
from tasks.resources import LiveResources


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        at: The as-of of the question, None for now.
        champion: The row that made the champion as of `at`.
        path: All rows about the champion's version up to that row.
        rows: All rows of the model.
        problems: Inconsistencies between ledger, MLflow and events, one sentence each.
        checked: Description of what was compared.
    """

    model: str
    at: datetime | None
    champion: Promotion | None
    path: tuple[Promotion, ...]
    rows: tuple[Promotion, ...]
    problems: tuple[str, ...]
    checked: str


def audit(res: LiveResources, at: datetime | None, events: Mapping[str, str] | None) -> Audit:
    """Return the champion as of a moment, and check all rows of the ledger.

    Args:
        res: The model's resources.
        at: The as-of to look up, by default now.
        events: Row hash by event id of the events that Prefect still has. None skips the check of events.
    """
    rows = res.ledger.promotions()
    champion = res.ledger.champion(at)
    path = [r for r in rows if champion and r.version == champion.version and r.sequence <= champion.sequence]
    problems = broken_links(rows) + missing_marks(rows, res)
    checked = f"{len(rows)} rows, their marks in MLflow"
    if events is not None:
        with_event = [r for r in rows if r.action in CHANGE]
        hashes = {r.sequence: events.get(str(change_id(r))) for r in with_event}
        problems += [
            f"row {r.sequence}: its event has another hash"
            for r in with_event
            if hashes[r.sequence] not in (None, r.hash)
        ]
        existing = sum(event_hash is not None for event_hash in hashes.values())
        checked += f", {existing} of {len(with_event)} events that Prefect still has"
    return Audit(res.config.name, at, champion, tuple(path), tuple(rows), tuple(problems), checked)


def missing_marks(rows: Sequence[Promotion], res: LiveResources) -> list[str]:
    """Return the inconsistencies between the ledger's rows and the tags that mark them on the versions in MLflow."""
    undelivered = {row.sequence for row in res.ledger.undelivered()}
    try:
        marks = res.registry.read_ledger_tags()
    except EvergreenError as error:
        return [f"the ledger cannot be compared with MLflow: {error}"]
    problems = []
    for row in rows:
        if row.sequence in undelivered:
            continue
        if row.version not in marks:
            problems.append(f"row {row.sequence}: version {row.version} no longer exists in MLflow")
        elif (mark := marks[row.version].get(row.sequence)) != row.hash:
            problem = "has another hash of it" if mark else "has no mark of it"
            problems.append(f"row {row.sequence}: version {row.version} in MLflow {problem}")
    recorded = {(row.version, row.sequence) for row in rows}
    unknown = sorted((n, version) for version, own in marks.items() for n in own if (version, n) not in recorded)
    return problems + [
        f"version {version} in MLflow has a mark of row {n}, which the ledger does not have" for n, version in unknown
    ]
