"""Queries on the ledger rows of one model: earlier tests, requests and champions. Pure functions.

The parameter `rows` has all rows of a model, oldest first.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks.contracts import AUTOMATION, Promotion
from tasks.errors import StaleDecision


def last_change(rows: Sequence[Promotion]) -> Promotion | None:
    """Return the row of the last champion that was not promoted as a refresh: the first one, a change, or one of a rollback."""
    return next((row for row in reversed(champion_periods(rows)) if row.evidence.get("burden") != "refresh"), None)


def last_move(rows: Sequence[Promotion], rule: str) -> float:
    """Return the value of a rule of the gate when the champion was judged; 0 if it is not on record."""
    periods = champion_periods(rows)
    own = (row for row in reversed(rows) if periods and row.version == periods[-1].version)
    verdicts = (v for row in own for v in row.evidence.get("verdicts", ()))
    return next((float(v["value"] or 0) for v in verdicts if v["rule"] == rule), 0.0)


def staged_as(version: str, champion: Promotion, rows: Sequence[Promotion]) -> Mapping[str, Any]:
    """Return the evidence with which a version was staged against this champion; empty if it was not."""
    staged = [r for r in rows if r.version == version and r.action == "stage" and r.against == champion.sequence]
    return staged[-1].evidence if staged else {}


def earlier_gains(key: str, rows: Sequence[Promotion], as_of: datetime) -> list[list[list[float]]]:
    """Return the gains of each block, as recorded by the earlier tests of a change since the last change was promoted, oldest first.

    Args:
        key: The change, see `Reference.key` in `tasks/training/reference.py`.
        rows: The model's promotions, oldest first.
        as_of: Leave out tests as of later moments.
    """
    since = last_change(rows)
    later = (row for row in rows if not since or row.sequence > since.sequence)
    judged = [row.evidence for row in later if row.evidence.get("change") == key and row.as_of <= as_of]
    return list({str(evidence["gains"]): evidence["gains"] for evidence in judged}.values())


def was_requested(version: str, champion: Promotion | None, rows: Sequence[Promotion]) -> bool:
    """Return whether a person's approval of a version was requested while this champion was in force."""
    against = champion.sequence if champion else 0
    return any(r.action == "request" and r.version == version and r.against == against for r in rows)


def was_proposed(version: str, champion: Promotion | None, by: str, reason: str, rows: Sequence[Promotion]) -> bool:
    """Return whether the same proposal is not yet decided: that of a run that was killed and is repeated."""
    against, proposed = champion.sequence if champion else 0, False
    for row in rows:
        if row.version == version and row.action == "propose":
            proposed = (row.by, row.reason, row.against) == (by, reason, against)
        elif row.version == version and row.action in ("refuse", "promote", "adopt", "rollback"):
            proposed = False
    return proposed


def trained_at(rows: Sequence[Promotion]) -> datetime | None:
    """Return the as-of of the newest training that produced a challenger, or of the newest promotion by a person.

    A promotion by the automation is not a training: it follows the shadow test of a challenger that was trained earlier.
    """
    trainings = (
        row for row in rows if row.action == "stage" or (row.action in ("promote", "adopt") and row.by != AUTOMATION)
    )
    return max((row.as_of for row in trainings), default=None)


def champion_periods(rows: Sequence[Promotion]) -> list[Promotion]:
    """Return the rows that began a champion period, oldest first. A restored alias does not begin one."""
    return [row for row in rows if row.to_stage == "champion" and row.action != "restore"]


def predecessor(history: Sequence[Promotion]) -> str | None:
    """Return the version that the champion replaced when it was promoted. Rollbacks do not count.

    Args:
        history: The rows that made a version champion, oldest first.
    """
    champion = history[-1].version if history else None
    promoted = [p for p in history if p.version == champion and p.action in ("promote", "adopt")]
    return promoted[-1].previous if promoted else None


def promotion_exclusion(version: str, rows: Sequence[Promotion], digest_like: Callable[[str], str]) -> str:
    """Return why a version is excluded from automatic promotion, empty if it is not.

    It is excluded if there was a rollback from it, or from a version with the same digest. A later promotion by a person
    ends the exclusion.

    Args:
        version: The version's number.
        digest_like: Returns the digest of its model in the scheme of another digest.
    """
    reason = ""
    digests = {row.version: str(row.evidence.get("digest", "")) for row in rows}

    def is_same(other: str) -> bool:
        digest = digests.get(other)
        return other == version or bool(digest and digest == digest_like(digest))

    for row in rows:
        left = row.previous if row.action == "rollback" else None
        if left and is_same(left):
            reason = f"{row.by} rolled back from version {left} ({row.reason}); only a person may promote it again, by `promote`"
        by_person = row.by != AUTOMATION and row.action in ("promote", "adopt")
        if by_person and is_same(row.version):
            reason = ""
    return reason


def refuse_stale_approval(against: str | None, champion: Promotion | None, model: str) -> None:
    """Raise an error if an approval was given while another version was champion.

    Raises:
        StaleDecision: the champion is not version `against`. The message names both.
    """
    current = champion.version if champion else None
    if against is not None and against != current:
        raise StaleDecision(
            f"{model}: the approval was given while version {against} was champion, but the champion is now version "
            f"{current or 'none'}; review the newest evidence and approve again"
        )
