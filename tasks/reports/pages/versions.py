"""The versions of a model: champions and refusals over time, and what is needed to compare two versions and to trace one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts import Promotion
from tasks.contracts.links import run_url
from tasks.contracts.words import change_text, who
from tasks.ledger.history import champion_periods
from tasks.ledger.promotions import stage_of
from tasks.lifecycle.hindsight import verdict_text
from tasks.reports.pages.performance import gate_text, judged_row
from tasks.reports.pages.template import card_link, card_name, documentation_name, facts_name
from tasks.reports.refusals import failed_rules
from tasks.reports.summary import PartitionSummary
from tasks.resources import Resources

TIMELINE = ("as of", "version", "what", "by", "evidence", "measured effect")


def describe_versions(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Return the timeline, all versions, and the two that are compared first: the champion and the one before it, or the newest."""
    rows = version_rows(res, shown)
    newest = [own["version"] for own in rows]
    champions = list(dict.fromkeys(row.version for row in champion_periods(res.ledger.promotions())[::-1]))
    pair = (champions if len(champions) > 1 else newest)[:2]
    return {"timeline": timeline(res), "versions": rows, "compared": pair[::-1], "unfitted": unfitted(res)}


def timeline(res: Resources) -> list[list[Any]]:
    """List the champions and the refused versions, newest first: when, by whom, on what evidence, and the measured effect."""
    rows = res.ledger.promotions()
    periods = {row.sequence for row in champion_periods(rows)}
    effects = {h.sequence: verdict_text(h) for h in res.ledger.hindsights()}
    return [
        [
            f"{row.as_of:%Y-%m-%d}",
            card_link(f"v{row.version}", row.version, res),
            f"{row.action}: {change_text(row)}",
            who(row.by),
            _evidence(row, rows) or row.reason,
            effects.get(row.sequence, ""),
        ]
        for row in reversed(rows)
        if row.sequence in periods or row.to_stage == "refused"
    ]


def unfitted(res: Resources) -> list[dict[str, str]]:
    """List the cards of the trainings in which nothing beat the prior, newest first, as cells with a link."""
    paths = sorted(res.settings.pages.glob(f"{res.config.name}-training-*.html"), reverse=True)
    names = {path.name: path.stem.rpartition("-")[2] for path in paths}
    return [{"text": f"{t[:4]}-{t[4:6]}-{t[6:8]}", "href": name} for name, t in names.items()]


def _evidence(row: Promotion, rows: Sequence[Promotion]) -> str:
    """Return the gate's evidence of a version: the rules that it did not pass if it was refused."""
    if row.to_stage == "refused":
        return "; ".join(failed_rules(row.evidence.get("verdicts", [])))
    judged = judged_row(row.version, rows)
    return gate_text(judged) if judged else ""


def version_rows(res: Resources, shown: Sequence[PartitionSummary]) -> list[dict[str, Any]]:
    """Describe every version of the ledger, newest first, for the tables that compare and trace them."""
    rows = res.ledger.promotions()
    last = {row.version: row for row in rows}
    scored: dict[str, list[str]] = {}
    for s in shown:
        if s.version:
            scored.setdefault(s.version, []).append(s.key)
    newest = sorted(last.values(), key=lambda row: -row.sequence)
    return [_version(row, rows, scored.get(row.version, []), res) for row in newest]


def _version(row: Promotion, rows: Sequence[Promotion], scored: Sequence[str], res: Resources) -> dict[str, Any]:
    judged = judged_row(row.version, rows)
    evidence: Mapping[str, Any] = judged.evidence if judged else {}
    name, first = res.config.name, next(r for r in rows if r.version == row.version)
    card, facts, documentation = (f(name, row.version) for f in (card_name, facts_name, documentation_name))
    return {
        "version": row.version,
        "stage": stage_of(row.version, rows),
        "learned": f"{row.window_end:%Y-%m-%d}",
        "trained": f"{first.as_of:%Y-%m-%d}",
        "run": run_url(res.settings.prefect_ui, first.flow_run) if first.flow_run else "",
        "mlflow": res.registry.version_url(row.version),
        "judged": _judged_text(row.version, evidence),
        "metrics": _metrics(evidence),
        "gate": {v["rule"]: _verdict(v) for v in evidence.get("verdicts", ())},
        "card": card if (res.settings.pages / card).is_file() else "",
        "documentation": documentation if (res.settings.pages / facts).is_file() else "",
        "file": facts if (res.settings.pages / facts).is_file() else "",
        "scored": list(scored),
        "latest": f"{change_text(row)}: {row.reason}",
    }


def _judged_text(version: str, evidence: Mapping[str, Any]) -> str:
    """Describe on which rows a version was judged, and for a refit, which version was judged in its place."""
    if not evidence:
        return "not judged by the gate"
    span = " to ".join(moment[:10] for moment in evidence["rows"])
    if evidence["judged"] == version:
        return f"rows of {span}, which it had not learned from"
    return (
        f"version {evidence['judged']} on rows of {span}; this one is its refit, which has learned from these rows too"
    )


def _metrics(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of the judged version as text, each with its interval."""
    card = evidence.get("scorecards", {}).get(evidence.get("judged", ""), {})
    return {name: metric_text(value, card["intervals"].get(name)) for name, value in card.get("metrics", {}).items()}


def metric_text(value: float | None, bounds: Sequence[float | None] | None) -> str:
    """Return a metric with its 95 % interval: `0.4810 [0.4700, 0.4920]`; `-` if it is not defined."""
    if value is None or value != value:
        return "-"
    known = bounds is not None and None not in bounds and all(b == b for b in bounds)
    return f"{value:.4f} [{bounds[0]:.4f}, {bounds[1]:.4f}]" if known and bounds else f"{value:.4f}"


def _verdict(verdict: Mapping[str, Any]) -> str:
    value, limit = (f"{verdict[n]:.4g}" if verdict[n] is not None else "" for n in ("value", "threshold"))
    outcome = "refused" if verdict["outcome"] == "failed" else verdict["outcome"]
    return f"{outcome}: {value} (limit {limit})" if value and limit else outcome


def version_table(versions: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the rows of the table of versions: version, stage, end of its training window, newest event, documentation."""
    return [
        [
            {"text": f"v{v['version']}", "href": v["card"]} if v["card"] else f"v{v['version']}",
            v["stage"],
            v["learned"],
            v["latest"],
            {"text": "documentation", "href": v["documentation"]} if v["documentation"] else "",
        ]
        for v in versions
    ]


def read_facts(res: Resources, version: str) -> dict[str, Any] | None:
    """Return what the card of a version has in its file for other pages; None if there is no such file."""
    path = res.settings.pages / facts_name(res.config.name, version)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
