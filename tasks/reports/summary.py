"""What is known of a model's partitions, read from records and ledger: for pages, tables and the terminal."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contracts import Decision, Fact, PartitionRef, Stage
from tasks.lifecycle.facts import distrust
from tasks.resources import Resources
from tasks.steps.decay import decay_at
from tasks.steps.order import steps_of
from tasks.steps.step import Step, freshness

LETTER = {
    "fresh": "fresh",
    "missing": "missing",
    "stale": "stale",
    "blocked": "BLOCKED",
    "failed": "FAILED",
    "waiting": ".",
}


@dataclass(frozen=True)
class PartitionSummary:
    """One partition's life in numbers; None where it has not come to that."""

    key: str
    rows: int | None
    quarantined: int | None
    blocked: str
    version: str | None
    roc_auc: float | None
    log_loss: float | None
    mature: int | None
    drift_share: float | None
    facts: tuple[Fact, ...] = ()
    decision: Decision | None = None
    """What the policy made of its facts: the one that retrained, else the newest."""
    loss: float | None = None
    """In what models of this target are judged by."""
    interval: tuple[float, float] | None = None
    estimate: float | None = None
    estimated_auc: float | None = None
    trust: str = ""
    """Why the estimate is not trusted; empty when it is."""
    decay: Mapping[str, Any] | None = None
    pending: int | None = None
    never: int | None = None


def summarise(res: Resources, keys: Collection[str] | None = None, judged: bool = True) -> list[PartitionSummary]:
    """Some partitions that were ingested, or all of them, oldest first.

    Without `judged` nothing is said of decay and of trust in estimates, which take a bootstrap for each.
    """
    facts = [f for f in res.ledger.facts() if f.kind != "alias"]
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    return [
        _summary(key, res, tuple(f for f in facts if f.partition == key), decisions, judged)
        for key in res.lake.keys(Stage.RAW)
        if keys is None or key in keys
    ]


def chosen(facts: Sequence[Fact], decisions: Mapping[str, Decision]) -> Decision | None:
    """The decision that tells most of some facts: one that retrained, else the newest."""
    made = [decisions[f.id] for f in facts if f.id in decisions]
    return next((d for d in reversed(made) if d.action == "retrain"), made[-1] if made else None)


def _summary(
    key: str, res: Resources, facts: tuple[Fact, ...], decisions: Mapping[str, Decision], judged: bool
) -> PartitionSummary:
    """One row, from the records of the partition's stages."""
    records = {stage: r for stage in Stage if (r := res.lake.record(stage, key))}
    data = {stage: r.data for stage, r in records.items() if r.status == "done"}
    valid = records.get(Stage.VALID)
    measured, loss = data.get(Stage.PERFORMANCE, {}), res.config.target.judged_by
    metrics, bounds = measured.get("metrics", {}), measured.get("intervals", {}).get(loss)
    estimated = data.get(Stage.ESTIMATES, {}).get("metrics", {})
    decay = decay_at(res.ref(key), Stage.PERFORMANCE, res) if measured and judged else None
    return PartitionSummary(
        key=key,
        rows=valid.rows if valid and valid.status == "done" else None,
        quarantined=valid.data.get("quarantined") if valid else None,
        blocked=next((r.reason for r in records.values() if r.status == "blocked"), ""),
        version=data.get(Stage.PREDICTIONS, {}).get("version"),
        roc_auc=metrics.get("roc_auc"),
        log_loss=metrics.get("log_loss"),
        mature=measured.get("mature"),
        drift_share=data.get(Stage.MONITORING, {}).get("share"),
        facts=facts,
        decision=chosen(facts, decisions),
        loss=metrics.get(loss),
        interval=(bounds[0], bounds[1]) if bounds and None not in bounds else None,
        estimate=estimated.get(loss),
        estimated_auc=estimated.get("roc_auc"),
        trust=_trust(key, estimated.get(loss), decay, res) if judged else "",
        decay=decay,
        pending=measured.get("pending"),
        never=measured.get("never"),
    )


def _trust(key: str, estimate: float | None, decay: Mapping[str, Any] | None, res: Resources) -> str:
    """Why the estimate of a partition does not count as a signal; empty when it does, or there is none."""
    rules = res.config.retraining.signals.estimate
    if estimate is None:
        return ""
    if rules is None:
        return "not trusted: retraining.signals.estimate is off"
    expected = (decay or {}).get("expected")
    why = distrust(res.ref(key), abs(estimate - expected) if expected else 0.0, rules.after, res)
    return f"not trusted: {why}" if why else ""


def grid(res: Resources, refs: list[PartitionRef]) -> list[dict[str, str]]:
    """One row a partition, one column a step: fresh, stale, BLOCKED, FAILED, RUNNING, missing, `.` not due."""
    rows, running = [], res.claims.running()
    for ref in refs:
        states = {step.verb: LETTER[_state(step, ref, res)] for step in steps_of(res.config)}
        if ref.key in running and (at := next((s for s, state in states.items() if state not in ("fresh", ".")), None)):
            states[at] = "RUNNING"
        rows.append({"partition": ref.key, **states})
    return rows


def _state(step: Step, ref: PartitionRef, res: Resources) -> str:
    """A step's state; what cannot be looked at has failed."""
    try:
        return freshness(step, ref, res).state
    except Exception:  # noqa: BLE001  (a source that cannot be read, say; whoever runs the step is told)
        return "failed"
