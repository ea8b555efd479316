"""Summaries of partitions, read from records and the ledger: for pages, tables and the terminal."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contracts import FOR_PEOPLE, Decision, Fact, PartitionRef, Promotion, Record, Stage
from tasks.contracts.words import decision_text
from tasks.lifecycle.estimates import EstimationError, estimate_interval, matured_errors
from tasks.lifecycle.facts import distrust_reason
from tasks.resources import LiveResources, Resources
from tasks.steps.decay import decay_at
from tasks.steps.drift_verdict import drift_verdicts
from tasks.steps.order import steps_of
from tasks.steps.step import Step, freshness

GRID_LABEL = {
    "fresh": "fresh",
    "empty": "empty",
    "missing": "missing",
    "stale": "stale",
    "blocked": "BLOCKED",
    "failed": "FAILED",
    "waiting": ".",
}

DONE_LABELS = ("fresh", "empty", ".")
"""States of a step in the grid that has nothing to do."""


@dataclass(frozen=True)
class PartitionSummary:
    """One partition in numbers. A field is None if the step that computes it has not run.

    `mature`, `pending` and `never` count rows by label: known, not known yet, and never to be known.
    """

    key: str
    rows: int | None
    quarantined: int | None
    blocked: str
    version: str | None
    roc_auc: float | None
    log_loss: float | None
    mature: int | None
    drift_share: float | None
    """Share of the columns that drifted, without those that are always different."""
    facts: tuple[Fact, ...] = ()
    decision: Decision | None = None
    """The policy's decision about its facts: the newest that retrained, else the newest."""
    version_rows: tuple[Promotion, ...] = ()
    """The ledger rows of the version that the decision's retraining produced, oldest first."""
    loss: float | None = None
    """The loss that the gate uses for this kind of target."""
    interval: tuple[float, float] | None = None
    estimate: float | None = None
    estimated_auc: float | None = None
    estimate_interval: tuple[float, float] | None = None
    skill: float | None = None
    """1 minus the loss as a share of that of the partition's own base rate (or mean)."""
    skill_interval: tuple[float, float] | None = None
    trust: str = ""
    """Why the estimate is not trusted; empty if it is."""
    decay: Mapping[str, Any] | None = None
    pending: int | None = None
    never: int | None = None
    drifted: bool = False
    """Whether the share is a fact."""
    empty: bool = False
    """Whether the source has no rows for it."""

    @property
    def shown_rows(self) -> int | str:
        """The number of valid rows, or `blocked` or `empty`."""
        if self.rows is None:
            return "blocked"
        return "empty" if self.empty else self.rows

    @property
    def retraining(self) -> str:
        """The decision and its present result as text; empty without a fact."""
        return decision_text(self.decision, self.version_rows) if self.facts else ""


def recent_keys(res: Resources, count: int) -> list[str]:
    """Return the newest `count` ingested partitions and the newest `count` scored ones, oldest first.

    They are the same, unless a backfill has ingested partitions ahead of those that were processed.
    """
    return sorted({*res.lake.keys(Stage.RAW)[-count:], *res.lake.keys(Stage.PREDICTIONS)[-count:]})


def summarise(
    res: Resources, keys: Collection[str] | None = None, with_decay: bool = True, with_intervals: bool = True
) -> list[PartitionSummary]:
    """Summarise ingested partitions, oldest first.

    Args:
        res: The resources of the model.
        keys: Only these partitions; None for all.
        with_decay: Also judge decay, and whether estimates are trusted.
        with_intervals: Also compute the intervals of estimates, from the errors of all earlier ones.
    """
    facts = [f for f in res.ledger.facts() if f.kind not in FOR_PEOPLE]
    decisions, rows = {d.fact_id: d for d in res.ledger.decisions()}, res.ledger.promotions()
    shown = [key for key in res.lake.keys(Stage.RAW) if keys is None or key in keys]
    drift, errors = drift_verdicts(shown, res), matured_errors(res) if with_intervals else None
    own = {key: tuple(f for f in facts if f.partition == key) for key in shown}
    return [_summary(key, res, own[key], decisions, rows, drift.get(key, {}), errors, with_decay) for key in shown]


def main_decision(facts: Sequence[Fact], decisions: Mapping[str, Decision]) -> Decision | None:
    """Return the newest decision about some facts that retrained, else the newest. `decisions` is by fact id."""
    own = [decisions[f.id] for f in facts if f.id in decisions]
    return next((d for d in reversed(own) if d.action == "retrain"), own[-1] if own else None)


def _summary(
    key: str,
    res: Resources,
    facts: tuple[Fact, ...],
    decisions: Mapping[str, Decision],
    rows: Sequence[Promotion],
    drift: Mapping[str, Any],
    errors: Sequence[EstimationError] | None,
    with_decay: bool,
) -> PartitionSummary:
    """Summarise one partition from the records of its stages."""
    records = {stage: r for stage in Stage if (r := res.lake.record(stage, key))}
    data = {stage: r.data for stage, r in records.items() if r.status == "done"}
    valid = records.get(Stage.VALID)
    measured, loss = data.get(Stage.PERFORMANCE, {}), res.config.target.eval_loss
    metrics, bounds = measured.get("metrics", {}), measured.get("intervals", {}).get(loss)
    estimated = data.get(Stage.ESTIMATES, {}).get("metrics", {})
    estimate = records[Stage.ESTIMATES] if estimated.get(loss) is not None else None
    decay = decay_at(res.ref(key), res) if measured and with_decay else None
    decision = main_decision(facts, decisions)
    return PartitionSummary(
        key=key,
        rows=valid.rows if valid and valid.status == "done" else None,
        quarantined=valid.data.get("quarantined") if valid else None,
        blocked=next((r.reason for r in records.values() if r.status == "blocked"), ""),
        version=data.get(Stage.PREDICTIONS, {}).get("version"),
        roc_auc=metrics.get("roc_auc"),
        log_loss=metrics.get("log_loss"),
        mature=measured.get("mature"),
        drift_share=drift.get("share"),
        drifted=bool(drift.get("detected")),
        facts=facts,
        decision=decision,
        version_rows=tuple(row for row in rows if decision and row.version == decision.version),
        loss=metrics.get(loss),
        interval=(bounds[0], bounds[1]) if bounds and None not in bounds else None,
        estimate=estimated.get(loss),
        estimated_auc=estimated.get("roc_auc"),
        estimate_interval=estimate_interval(estimate, errors, rows, res) if estimate and errors is not None else None,
        skill=measured.get("skill"),
        skill_interval=measured.get("skill_interval"),
        trust=_trust(estimate, res) if estimate and with_decay else "",
        decay=decay,
        pending=measured.get("pending"),
        never=measured.get("never"),
        empty=bool(valid and valid.empty),
    )


def _trust(estimate: Record, res: Resources) -> str:
    """Explain why the estimate of a partition is not used as a signal; empty if it is."""
    rules = res.config.retraining.signals.estimate
    reason = distrust_reason(estimate, rules.after, res) if rules else "retraining.signals.estimate is off"
    return f"not trusted: {reason}" if reason else ""


def grid(res: LiveResources, refs: list[PartitionRef]) -> list[dict[str, str]]:
    """Return a row for each partition with the state of each step.

    States are fresh, empty (fresh, and the source has no rows), stale, missing, BLOCKED, FAILED and RUNNING; `.` if the step is not due.
    """
    rows, active = [], res.claims.active()
    for ref in refs:
        states = {step.verb: GRID_LABEL[_state(step, ref, res)] for step in steps_of(res.config)}
        if ref.key in active and (verb := next((v for v, state in states.items() if state not in DONE_LABELS), None)):
            states[verb] = "RUNNING"
        rows.append({"partition": ref.key, **states})
    return rows


def _state(step: Step, ref: PartitionRef, res: Resources) -> str:
    """Return a step's state; `failed` if it cannot be determined."""
    try:
        state = freshness(step, ref, res).state
    except Exception:  # noqa: BLE001  (for example an unreadable source, which is an error when the step runs)
        return "failed"
    record = res.lake.record(step.stage, ref.key)
    return "empty" if state == "fresh" and record and record.empty else state
