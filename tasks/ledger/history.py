"""What a model's ledger says when it is read: who was asked, who is barred, who came before. Touches nothing.

`rows` are a model's rows, oldest first.
"""

from collections.abc import Sequence
from datetime import datetime

from tasks.contracts import AUTOMATION, Promotion, Version
from tasks.errors import StaleDecision


def count_tests(champion: Promotion | None, rows: Sequence[Promotion]) -> int:
    """Which judgement against this champion the next one is. A re-judgement counts as another look."""
    if champion is None:
        return 1
    judged = [r for r in rows if r.against == champion.sequence and r.evidence.get("verdicts")]
    return 1 + len({str(r.evidence["verdicts"]) for r in judged})


def was_requested(version: str, champion: Promotion | None, rows: Sequence[Promotion]) -> bool:
    """Whether a person has been asked about a version while this champion was in force."""
    against = champion.sequence if champion else 0
    return any(r.action == "request" and r.version == version and r.against == against for r in rows)


def trained_at(rows: Sequence[Promotion]) -> datetime | None:
    """As-of of the newest training, or judgement by a person, that made a challenger or champion; None when there was none.

    That the automation promotes a challenger after its shadow is no training.
    """
    made = (
        row for row in rows if row.action == "stage" or (row.action in ("promote", "adopt") and row.by != AUTOMATION)
    )
    return max((row.as_of for row in made), default=None)


def champion_periods(rows: Sequence[Promotion]) -> list[Promotion]:
    """The rows that began a champion's reign, oldest first: an alias that was put back began none."""
    return [row for row in rows if row.to_stage == "champion" and row.action != "restore"]


def predecessor(history: Sequence[Promotion]) -> str | None:
    """The version that the champion replaced when it was promoted; what was rolled back from does not count.

    `history` are the rows that made champions, oldest first.
    """
    champion = history[-1].version if history else None
    promoted = [p for p in history if p.version == champion and p.action in ("promote", "adopt")]
    return promoted[-1].previous if promoted else None


def promotion_exclusion(version: Version, rows: Sequence[Promotion]) -> str:
    """Why automation may not promote a version: a person rolled back from it, or from its twin by digest.

    A later promotion by a person lifts the bar. Empty when there is none.
    """
    why = ""
    digests = {row.version: row.evidence.get("digest") for row in rows}
    for row in rows:
        left = row.previous if row.action == "rollback" else None
        if left and (left == version.version or digests.get(left) == version.digest):
            why = f"{row.by} rolled back from version {left} ({row.reason}); only a person may promote it again, by `promote`"
        made = row.by != AUTOMATION and row.action in ("promote", "adopt")
        if made and (row.version == version.version or digests.get(row.version) == version.digest):
            why = ""
    return why


def refuse_stale_approval(against: str | None, champion: Promotion | None, model: str) -> None:
    """Refuse an approval that was given while another version was champion.

    Raises:
        StaleDecision: naming both.
    """
    current = champion.version if champion else None
    if against is not None and against != current:
        raise StaleDecision(
            f"{model}: the approval is for a time when version {against} was champion, but now it is version {current or 'none'}; "
            f"look at the newest evidence and approve again"
        )
