"""Queries on the ledger rows of one model: earlier tests, requests and champions. Pure functions.

The parameter `rows` has all rows of a model, oldest first.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from tasks.contracts import AUTOMATION, Promotion
from tasks.errors import StaleDecision


def count_tests(champion: Promotion | None, rows: Sequence[Promotion]) -> int:
    """Return the number of tests against this champion, the next one included (for the note on multiple testing).

    A version that is judged again counts as another test.
    """
    if champion is None:
        return 1
    judged = [r for r in rows if r.against == champion.sequence and r.evidence.get("verdicts")]
    return 1 + len({str(r.evidence["verdicts"]) for r in judged})


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
