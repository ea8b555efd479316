"""The newest state of a model: its last decision, and the newest partition with outcomes. Home, pages and terminal read it from here."""

from tasks.contracts import Decision, Record, Stage
from tasks.resources import Resources


def last_decision(res: Resources) -> Decision | None:
    """Return the decision with the latest as-of, the one that was written last if there are several."""
    decisions = res.ledger.decisions()
    return decisions[-1] if decisions else None


def newest_assessed(res: Resources) -> Record | None:
    """Return the performance record of the newest partition that has rows with outcomes."""
    records = (res.lake.record(Stage.PERFORMANCE, key) for key in reversed(res.lake.keys(Stage.PERFORMANCE)))
    return next((r for r in records if r and r.status == "done" and r.rows), None)
