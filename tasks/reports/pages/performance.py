"""Performance over time: metrics with intervals, skill, estimates and champion periods; the declared groups; calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from configs.kinds import METRICS
from tasks.contracts import Promotion, Record, Stage
from tasks.contracts.words import number
from tasks.ledger.history import champion_periods
from tasks.lifecycle.hindsight import verdict_text
from tasks.reports.summary import PartitionSummary
from tasks.resources import Resources

DIGITS = 6
ABOUT_SKILL = (
    "Skill: by how much the loss is lower than that of the best constant prediction of the same rows. "
    "It does not move with the base rate alone, so partitions can be compared."
)
ABOUT = {
    "base_rate": "The share of positive outcomes.",
    "mean_prediction": "The mean of the predictions.",
    "log_loss": "Lower is better. It moves with the base rate: compare skill, or the line of the constant prediction.",
    "roc_auc": "Higher is better; 0.5 is random.",
    "accuracy": "Share of correct predictions.",
    "average_precision": "Higher is better. It moves with the base rate.",
    "brier": "Mean squared error of the probability; lower is better.",
    "calibration_error": "Expected calibration error; 0 is best.",
}


def performance(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Return the metrics of the partitions that were scored, oldest first, with the champion periods as positions among them."""
    target = res.config.target
    scored = [s for s in shown if s.version]
    return {
        "loss": target.eval_loss,
        "metrics": list(METRICS[target.kind]),
        "about": ABOUT,
        "about_skill": ABOUT_SKILL,
        "prior_name": "best constant prediction of the same rows",
        "partitions": [_partition(s, res.lake.record(Stage.PERFORMANCE, s.key), target.eval_loss) for s in scored],
        "champions": champion_bands(scored, res),
    }


def _partition(s: PartitionSummary, record: Record | None, loss: str) -> dict[str, Any]:
    data = record.data if record and record.status == "done" else {}
    estimates = data.get("estimate", {}).get("metrics", {})
    estimated = {loss: s.estimate} if s.estimate is not None else {}
    return {
        "key": s.key,
        "version": s.version,
        "rows": s.mature,
        "metrics": _rounded(data.get("metrics", {})),
        "intervals": {n: _rounded(bounds) for n, bounds in data.get("intervals", {}).items() if None not in bounds},
        "estimates": _rounded(estimates or estimated),
        "estimate_interval": _rounded(s.estimate_interval),
        "prior_loss": _rounded(data.get("prior_loss")),
        "skill": _rounded(s.skill),
        "skill_interval": _rounded(s.skill_interval),
    }


def _rounded(value: Any) -> Any:
    """Return numbers, also those in a list or a mapping, with as many digits as the page may show: 400 partitions stay small."""
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def champion_bands(scored: Sequence[PartitionSummary], res: Resources) -> list[dict[str, Any]]:
    """Return version, first and last position, and the gate's evidence of each champion that scored some of the partitions."""
    bands: list[dict[str, Any]] = []
    promotions = res.ledger.promotions()
    periods, effects = champion_periods(promotions), {h.sequence: verdict_text(h) for h in res.ledger.hindsights()}
    for at, s in enumerate(scored):
        if bands and bands[-1]["version"] == s.version:
            bands[-1]["to"] = at
            continue
        version = str(s.version)
        moment = res.ref(s.key).complete
        row = next((r for r in reversed(periods) if r.version == version and r.as_of < moment), None)
        judged = judged_row(version, promotions)
        bands.append(
            {
                "version": version,
                "from": at,
                "to": at,
                "gate": gate_text(judged) if judged else "",
                "effect": effects.get(row.sequence, "") if row else "",
            }
        )
    return bands


def judged_row(version: str, rows: Sequence[Promotion]) -> Promotion | None:
    """Return the newest ledger row with the gate's verdicts on a version or on its refit; None if the gate judged neither."""
    judged = [row for row in rows if row.evidence.get("verdicts") and version in (row.version, row.evidence["judged"])]
    return judged[-1] if judged else None


def gate_text(row: Promotion) -> str:
    """Describe the gate's evidence of a ledger row: the gain over the version it was compared with, and the rules that were passed."""
    evidence: Mapping[str, Any] = row.evidence
    verdicts = evidence.get("verdicts", [])
    gain = evidence.get("gain")
    parts = [f"passed {sum(v['passed'] for v in verdicts)} of {len(verdicts)} rules"] if verdicts else []
    if gain and gain.get("mean") is not None:
        bounds = f" ({number(gain['lower'], 4)} to {number(gain['upper'], 4)})" if gain.get("lower") is not None else ""
        parts.append(f"gain {gain['mean']:+.4f}{bounds} over version {evidence.get('compared', row.previous)}")
    return ", ".join(parts)


def groups_over_time(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any] | None:
    """Return the loss of each declared group and the fairness gaps by partition; None if nothing is declared or measured."""
    records = [
        (s.key, r.data) for s in shown if (r := res.lake.record(Stage.PERFORMANCE, s.key)) and r.data.get("segments")
    ]
    if not records:
        return None
    limits: dict[tuple[str, str], float] = {
        (rule.column, rule.metric): rule.at_most for rule in res.config.gate.fairness
    }
    columns = list(dict.fromkeys(column for _, data in records for column in data["segments"]))
    return {
        "partitions": [key for key, _ in records],
        "segments": [
            {"column": c, "groups": _groups(c, records), "fairness": _gaps(c, records, limits)} for c in columns
        ],
    }


def _groups(column: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return name and losses of each group, the one with most rows first."""
    tables = [{value: (rows, loss) for value, rows, loss in data["segments"].get(column, [])} for _, data in records]
    rows: dict[str, int] = {}
    for table in tables:
        for value, (count, _) in table.items():
            rows[value] = rows.get(value, 0) + count
    names = sorted(rows, key=lambda value: (-rows[value], value))
    return [
        {"name": n, "rows": rows[n], "losses": [round(t[n][1], 5) if n in t else None for t in tables]} for n in names
    ]


def _gaps(
    column: str, records: Sequence[tuple[str, Mapping[str, Any]]], limits: Mapping[tuple[str, str], float]
) -> list[dict[str, Any]]:
    """Return metric, limit and the gap by partition of each fairness rule of a column."""
    gaps = [{gap["metric"]: gap["gap"] for gap in data["fairness"] if gap["column"] == column} for _, data in records]
    return [
        {"metric": metric.replace("_", " "), "limit": limit, "values": [_rounded(own.get(metric)) for own in gaps]}
        for (name, metric), limit in limits.items()
        if name == column
    ]


def calibration(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any] | None:
    """Return rows, sums of predictions and sums of outcomes in ten bins for each partition; None if there are none."""
    records = [(s.key, r.data) for s in shown if (r := res.lake.record(Stage.PERFORMANCE, s.key))]
    parts = [
        {"key": key, "bins": [[round(x, 3) for x in row] for row in data["calibration"]]}
        for key, data in records
        if data.get("calibration")
    ]
    return {"partitions": parts} if parts else None
