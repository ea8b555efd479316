"""What is known of a model's partitions, read from records and ledger: for pages, tables and the terminal."""

from dataclasses import dataclass

from tasks.contracts import Decision, Fact, PartitionRef, Stage
from tasks.resources import Resources
from tasks.stages import freshness
from tasks.walk import steps_of

LETTER = {"fresh": "fresh", "missing": "-", "stale": "stale", "blocked": "BLOCKED", "failed": "FAILED", "waiting": "."}


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
    fact: Fact | None
    decision: Decision | None


def summarise(res: Resources) -> list[PartitionSummary]:
    """Every partition that was ever ingested, oldest first."""
    facts = {f.partition: f for f in res.ledger.facts()}
    decisions = {d.fact_id: d for d in res.ledger.decisions()}
    return [_summary(key, res, facts.get(key), decisions) for key in res.lake.keys(Stage.RAW)]


def _summary(key: str, res: Resources, fact: Fact | None, decisions: dict[str, Decision]) -> PartitionSummary:
    """One row, from the records of the partition's stages."""
    records = {stage: r for stage in Stage if (r := res.lake.record(stage, key))}
    data = {stage: r.data for stage, r in records.items() if r.status == "done"}
    valid = records.get(Stage.VALID)
    metrics = data.get(Stage.PERFORMANCE, {}).get("metrics", {})
    return PartitionSummary(
        key=key,
        rows=valid.rows if valid and valid.status == "done" else None,
        quarantined=valid.data.get("quarantined") if valid else None,
        blocked=next((r.reason for r in records.values() if r.status == "blocked"), ""),
        version=data.get(Stage.PREDICTIONS, {}).get("version"),
        roc_auc=metrics.get("roc_auc"),
        log_loss=metrics.get("log_loss"),
        mature=data.get(Stage.PERFORMANCE, {}).get("mature"),
        drift_share=data.get(Stage.MONITORING, {}).get("share"),
        fact=fact,
        decision=decisions.get(fact.id) if fact else None,
    )


def grid(res: Resources, refs: list[PartitionRef]) -> list[dict[str, str]]:
    """One row a partition, one column a stage: fresh, stale, BLOCKED, FAILED, `-` missing, `.` not due."""
    rows = []
    for ref in refs:
        states = {str(step.stage): LETTER[freshness(step, ref, res).state] for step in steps_of(res.config)}
        rows.append({"partition": ref.key, **states})
    return rows
