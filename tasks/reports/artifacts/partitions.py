"""What `process`, `assess` and `backfill` leave: how partitions went through their steps."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.contracts import PartitionRun, Stage
from tasks.contracts.words import decision_text, number
from tasks.lifecycle.facts import snapshot_url
from tasks.orchestration.run_names import page_key
from tasks.reports.artifacts.page import publish_page
from tasks.reports.card.plots import performance_plot
from tasks.reports.summary import PartitionSummary, summarise
from tasks.resources import Resources

NEWEST = 100
"""Partitions that a table or picture over time shows."""


def publish_process(res: Resources, passages: Sequence[PartitionRun]) -> str:
    """The page and the tables of a `process` run; returns the headline."""
    name, keys = res.config.name, [p.partition for p in passages]
    shown = summarise(res, keys, judged=False)
    drifted = [f"- {f.partition}: {f.kind}: {f.payload['told']}, fact `{f.id}` sent" for s in shown for f in s.facts]
    links = [link for key in keys[-12:] for link in _links(res, key)]
    body = [*step_table(passages[-40:]), "", *_whys(passages[-40:]), "", *drifted, *links]
    create_table_artifact(
        [row(s) for s in shown], key=page_key(name, "partitions"), description=f"{name}: the partitions of this run"
    )
    _publish_drift(res, [p.partition for p in passages if ("watch", "made") in {step[:2] for step in p.steps}])
    return publish_page(res, "process", process_headline(name, passages), body)


def step_table(passages: Sequence[PartitionRun]) -> list[str]:
    """How each partition went through its steps, as a markdown table."""
    if not passages:
        return []
    verbs = list(dict.fromkeys(verb for p in passages for verb, _, _ in p.steps))
    states = [{verb: state for verb, state, _ in p.steps} for p in passages]
    head = ["| partition | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 1) + "|"]
    cells = (" | ".join(state.get(verb, "") for verb in verbs) for state in states)
    return head + [f"| {p.partition} | {cell} |" for p, cell in zip(passages, cells, strict=True)]


def _whys(passages: Sequence[PartitionRun]) -> list[str]:
    """What a person would ask about: why a step was made again, waits or is blocked."""
    return [f"- {p.partition}: {verb} {state}: {why}" for p in passages for verb, state, why in p.steps if why]


def process_headline(name: str, passages: Sequence[PartitionRun]) -> str:
    """What happened and what to do, in a line."""
    made, blocked = [p.partition for p in passages if p.made], [p for p in passages if p.newly_blocked]
    if blocked:
        first = blocked[0]
        return (
            f"{name}: {len(blocked)} of {len(passages)} partitions blocked, first {first.partition}: "
            f"{first.newly_blocked}. Mend the source; the next run tries again when it has changed."
        )
    if not made:
        return f"{name}: everything is fresh ({_count([p.partition for p in passages])}); nothing to do."
    fresh = len(passages) - len(made)
    return f"{name}: {_count(made)} processed" + (f"; {fresh} were fresh." if fresh else ".")


def _count(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{len(keys)} partitions"


def _links(res: Resources, key: str) -> list[str]:
    """Where to read on about one partition."""
    links = []
    scored = res.lake.record(Stage.PREDICTIONS, key)
    if scored and scored.status == "done" and (url := res.registry.version_url(scored.data["version"])):
        links.append(f"[model v{scored.data['version']} in MLflow]({url})")
    watched = res.lake.record(Stage.MONITORING, key)
    if watched and watched.status == "done" and (url := snapshot_url(watched, res)):
        links.append(f"[drift report in Evidently]({url})")
    return [f"- {key}: {', '.join(links)}"] if links else []


def _publish_drift(res: Resources, keys: Sequence[str]) -> None:
    """The drift table of each partition that a run has watched, so that the artifact's history is the model's; the newest dozen of many."""
    records = [r for key in keys if (r := res.lake.record(Stage.MONITORING, key)) and r.status == "done"]
    for newest in records[-12:]:
        share, version, note = newest.data["share"], newest.data["version"], newest.data["note"]
        text = f"{newest.model} {newest.partition}: {share:.0%} of columns drifted from what version {version} knows"
        create_table_artifact(
            [drift_row(c) for c in newest.data["columns"]],
            key=page_key(newest.model, "drift"),
            description=f"{text}. {note}" if note else text,
        )


def drift_row(c: Mapping[str, Any]) -> dict[str, Any]:
    """One signal of one column for people."""
    importance = c["importance"]
    return {
        "column": c["column"],
        "method": c["method"],
        "score": number(c["score"]),
        "threshold": number(c["threshold"]),
        "p-value": number(c["p_value"], 4),
        "importance": "" if importance is None else f"{importance:.0%}",
        "verdict": "drifted" if c["drifted"] else c["note"] and "does not count",
        "against": c["reference"],
    }


def publish_assess(res: Resources, passages: Sequence[PartitionRun]) -> str:
    """The page and the table of an `assess` run; returns the headline."""
    name, made = res.config.name, [p.partition for p in passages if p.made]
    shown = [s for s in summarise(res, res.lake.keys(Stage.PERFORMANCE)[-NEWEST:]) if s.loss is not None]
    line = f"{name}: {_count(made)} assessed." if made else f"{name}: no new outcomes; everything known is assessed."
    if made and shown:
        new = shown[-1]
        line += f" Newest {new.key}: {res.config.target.judged_by} {number(new.loss)} on {new.mature} mature rows."
        if new.decay and new.decay["detected"]:
            line += f" Decay: the gate saw {number(new.decay['expected'])}."
    waits = [f"- {p.partition}: {v} waits: {w}" for p in passages for v, s, w in p.steps if s in ("waiting", "blocked")]
    create_table_artifact(
        [performance_row(s, res) for s in shown],
        key=page_key(name, "performance"),
        description=f"{name}: performance of the newest {len(shown)} partitions, realised and estimated",
    )
    if made and shown:
        publish_picture(res, shown)
    return publish_page(res, "assess", line, waits[-20:])


def row(summary: PartitionSummary) -> dict[str, Any]:
    """One partition as a row of a table."""
    return {
        "partition": summary.key,
        "rows": summary.rows if summary.rows is not None else "blocked",
        "quarantined": summary.quarantined or 0,
        "scored by": f"v{summary.version}" if summary.version else "",
        "ROC AUC": number(summary.roc_auc),
        "log loss": number(summary.log_loss),
        "drift share": number(summary.drift_share, 2),
        "retraining": decision_text(summary.decision) if summary.facts else "",
    }


def performance_row(summary: PartitionSummary, res: Resources) -> dict[str, Any]:
    """How one partition was predicted, as a row of a table: realised with its interval, and estimated before."""
    estimate, bounds, decay = summary.estimate, summary.interval, summary.decay or {}
    return {
        "partition": summary.key,
        "scored by": f"v{summary.version}" if summary.version else "",
        res.config.target.judged_by: number(summary.loss),
        "95 % interval": f"{number(bounds[0])} to {number(bounds[1])}" if bounds else "",
        "estimated before": number(estimate),
        "estimate": "" if estimate is None else summary.trust or "trusted",
        "error": "" if estimate is None or summary.loss is None else f"{summary.loss - estimate:+.3f}",
        "ROC AUC": number(summary.roc_auc),
        "estimated AUC": number(summary.estimated_auc),
        "gate saw": number(decay.get("expected")),
        "decay": "decay" if decay.get("detected") else "",
        "mature": f"{summary.mature:,}" if summary.mature is not None else "",
        "to come": summary.pending,
        "never": summary.never,
    }


def publish_picture(res: Resources, shown: Sequence[PartitionSummary]) -> None:
    """Realised and estimated loss over partitions, as a picture in a page."""
    realised = [(s.key, s.loss, s.interval) for s in shown if s.loss is not None]
    estimated = [(s.key, s.estimate) for s in shown if s.estimate is not None]
    picture = base64.b64encode(performance_plot(realised, estimated, res.config.target.judged_by)).decode()
    name = res.config.name
    create_markdown_artifact(
        f"![realised and estimated loss by partition](data:image/png;base64,{picture})",
        key=page_key(name, "performance-over-time"),
        description=f"{name}: {res.config.target.judged_by} by partition, realised with 95 % intervals, and as estimated before",
    )
