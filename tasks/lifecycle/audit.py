"""Audit: the champion as of a moment with the rows that led to it, and a consistency check of ledger, MLflow and events."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.contracts import Promotion
from tasks.errors import EvergreenError
from tasks.ledger.chain import (
    Entry,
    Kind,
    broken_entries,
    broken_links,
    differing_anchors,
    differing_marks,
    unknown_marks,
)
from tasks.orchestration.events import CHANGE
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
        events: The hashes in the events that Prefect still has, by what they are about. None skips the check of events.
    """
    rows, (entries, digests) = res.ledger.promotions(), res.ledger.chain_and_contents()
    champion = res.ledger.champion(at)
    path = [r for r in rows if champion and r.version == champion.version and r.sequence <= champion.sequence]
    problems = broken_links(rows) + broken_entries(entries, digests) + compare_with_mlflow(rows, res)
    checked = f"{len(rows)} rows, {_counts(entries)}, their marks in MLflow"
    if events is not None:
        subjects = {f"row {r.sequence} of version {r.version}": r.hash for r in rows if r.action in CHANGE}
        subjects |= {f"{e.kind} {e.key}": e.hash for e in entries if e.kind in ("fact", "decision", "hindsight")}
        known = [subject for subject in subjects if subject in events]
        hashes = set(events.values())
        problems += [f"{subject}: its event has another hash" for subject in known if subjects[subject] not in hashes]
        checked += f", {len(known)} events that Prefect still has"
    return Audit(res.config.name, at, champion, tuple(path), tuple(rows), tuple(problems), checked)


def _counts(entries: Sequence[Entry]) -> str:
    """Return how many facts, decisions and measured effects a chain has: `3 facts, 2 decisions, 1 measured effect`."""
    kinds = Counter(entry.kind for entry in entries)
    names: dict[Kind, str] = {"fact": "fact", "decision": "decision", "hindsight": "measured effect"}
    return ", ".join(f"{kinds[kind]} {name}{'' if kinds[kind] == 1 else 's'}" for kind, name in names.items())


def compare_with_mlflow(rows: Sequence[Promotion], res: LiveResources) -> list[str]:
    """Return the inconsistencies between the ledger and the tags on the versions in MLflow."""
    last_delivered = res.ledger.last_delivered()
    undelivered = {row.sequence for row in res.ledger.undelivered()}
    try:
        marks, anchors = res.registry.read_copies()
    except EvergreenError as error:
        return [f"the ledger cannot be compared with MLflow: {error}"]
    return [
        *differing_marks(rows, marks, undelivered, last_delivered),
        *unknown_marks(res.ledger.promotions(), marks),  # with rows that were written since
        *differing_anchors(res.ledger.chain(), anchors),
    ]
