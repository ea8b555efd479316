"""Artifacts of `process` and `assess` runs: the steps of each partition, drift and performance."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact

from tasks.contracts import Fact, PartitionRun, Stage
from tasks.contracts.escape import for_markdown
from tasks.contracts.words import bounds_text, counted, number, percent
from tasks.lifecycle.facts import decay_text, snapshot_url
from tasks.orchestration.run_names import page_key
from tasks.reports.artifacts.outcomes import drift_of, outcome_text, run_tags
from tasks.reports.artifacts.page import publish_page, publish_table, table_lines
from tasks.reports.figures import performance_plot
from tasks.reports.summary import PartitionSummary, summarise
from tasks.resources import Resources
from tasks.source.extent import available_partitions, why_no_partition
from tasks.steps.drift_verdict import drift_verdicts
from tasks.steps.explain import loss_text

NEWEST = 100
"""Partitions in a table or plot over time."""
PARTITIONS_LEGEND = (
    "Rows: valid rows; quarantined: rows that failed a check; drift share: share of the compared columns that drifted; "
    "ROC AUC and log loss: empty until the labels have matured."
)
DRIFT_LEGEND = (
    "A column drifts when its score exceeds the threshold, which is the larger of the smallest effect that matters and of what differs "
    "by chance; p-value: corrected for all columns; importance: the column's share of the champion's; loss change: what this column's "
    "shift alone changes; against: the reference."
)
PERFORMANCE_LEGEND = (
    "Expected: the loss by validation splits and holdout; skill: 1 minus the loss as a share of that of the partition's base rate; "
    "estimated: before the labels came; error: realised minus estimated; mature: rows with a label."
)


def publish_process(res: Resources, runs: Sequence[PartitionRun]) -> tuple[str, list[str]]:
    """Create the page and the tables of a `process` run; returns the headline and the run's tags."""
    name, keys = res.config.name, [r.partition for r in runs]
    shown = summarise(res, keys, with_decay=False, with_intervals=False)
    facts = [
        f"- {f.partition}: {f.kind}: {for_markdown(f.payload['told'])}, fact `{f.id}` emitted"
        for s in shown
        for f in s.facts
    ]
    links = [link for key in keys[-12:] for link in _links(res, key)]
    body = [*step_table(runs[-40:]), "", *_reasons(runs[-40:]), "", *facts, *links]
    publish_table(
        res, "partitions", [row(s) for s in shown], f"{name}: the partitions of this run. {PARTITIONS_LEGEND}"
    )
    watched = [r.partition for r in runs if "watch" in r.steps_run]
    _publish_drift(res, watched)
    if not runs:
        return publish_page(res, "process", f"{name}: {_why_none_due(res)}.", body), ["warning"]
    processed = {r.partition for r in runs if r.steps_run}
    drifted, emitted = drift_of(watched, res), [f for s in shown for f in s.facts if f.partition in processed]
    line = process_headline(name, runs, drifted, emitted)
    return publish_page(res, "process", line, body), run_tags(runs, drifted, emitted)


def _why_none_due(res: Resources) -> str:
    """Explain why a run had no partition: the source has none, or none is due yet."""
    if why := why_no_partition(res.model):
        return why
    first = res.ref(available_partitions(res.model)[0])
    return f"no partition is due yet; the first, {first.key}, is due at {first.as_of:%Y-%m-%d %H:%M} UTC"


def step_table(runs: Sequence[PartitionRun]) -> list[str]:
    """Return a markdown table with the state of each step of each partition."""
    if not runs:
        return []
    verbs = list(dict.fromkeys(verb for r in runs for verb, _, _ in r.steps))
    states = [{verb: state for verb, state, _ in r.steps} for r in runs]
    rows = [(r.partition, *(state.get(verb, "") for verb in verbs)) for r, state in zip(runs, states, strict=True)]
    return table_lines(("partition", *verbs), rows)


def _reasons(runs: Sequence[PartitionRun]) -> list[str]:
    """List why steps ran again, wait or are blocked."""
    return [
        f"- {r.partition}: {verb} {state}: {for_markdown(reason)}"
        for r in runs
        for verb, state, reason in r.steps
        if reason
    ]


def process_headline(name: str, runs: Sequence[PartitionRun], drifted: Mapping[str, str], facts: Sequence[Fact]) -> str:
    """Summarise a `process` run and what to do next in one line. `drifted` and `facts` are about the partitions that it processed."""
    processed, blocked = [r.partition for r in runs if r.steps_run], [r for r in runs if r.newly_blocked]
    if blocked:
        first = blocked[0]
        return (
            f"{name}: {len(blocked)} of {counted(len(runs), 'partition')} blocked, first {first.partition}: "
            f"{first.newly_blocked}. Fix the source. The next run tries again when it has changed."
        )
    waits = [(r.partition, why) for r in runs for verb, state, why in r.steps if (verb, state) == ("ingest", "waiting")]
    waiting = f", {len(waits)} without source data, first {waits[0][0]} ({waits[0][1]})" if waits else ""
    fresh = len(runs) - len(processed) - len(waits)
    if not processed and waits:
        return f"{name}: {fresh} of {_count([r.partition for r in runs])} fresh{waiting}."
    if not processed:
        return f"{name}: everything is fresh ({_count([r.partition for r in runs])}); nothing to do."
    line = f"{name}: {_count(processed)} processed" + (f", {fresh} already fresh" if fresh else "") + waiting
    return f"{line}{outcome_text(drifted, facts, single=len(processed) == 1)}."


def _count(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else counted(len(keys), "partition")


def _links(res: Resources, key: str) -> list[str]:
    """Return links to the version that scored a partition, and to its drift report."""
    links = []
    scored = res.lake.record(Stage.PREDICTIONS, key)
    if scored and scored.status == "done" and (url := res.registry.version_url(scored.data["version"])):
        links.append(f"[model v{scored.data['version']} in MLflow]({url})")
    monitored = res.lake.record(Stage.MONITORING, key)
    if monitored and monitored.status == "done" and (url := snapshot_url(monitored, res)):
        links.append(f"[drift report in Evidently]({url})")
    return [f"- {key}: {', '.join(links)}"] if links else []


def _publish_drift(res: Resources, keys: Sequence[str]) -> None:
    """Create a drift table for each monitored partition, at most the newest twelve: the artifact's history has one version each."""
    for key, newest in [*drift_verdicts(keys, res).items()][-12:]:
        share, version, note = newest["share"], newest["version"], newest["note"]
        text = f"{res.config.name} {key}: {percent(share)} of columns drifted from the reference of version {version}."
        text += f" {note}" if note else ""
        publish_table(res, "drift", [drift_row(c) for c in newest["columns"]], f"{text} {DRIFT_LEGEND}")


def drift_row(c: Mapping[str, Any]) -> dict[str, Any]:
    """Return one drift statistic of one column as a table row."""
    importance = c["importance"]
    return {
        "column": c["column"],
        "method": c["method"],
        "score": number(c["score"]),
        "threshold": number(c["threshold"]),
        "p-value": number(c["p_value"], 4),
        "importance": percent(importance),
        "loss change": loss_text(c),
        "verdict": "drifted" if c["drifted"] else c["note"] and f"does not count: {c['note']}",
        "against": c["reference"],
    }


def publish_assess(res: Resources, runs: Sequence[PartitionRun]) -> tuple[str, list[str]]:
    """Create the page and the table of an `assess` run; returns the headline and the run's tags."""
    name, assessed = res.config.name, [r.partition for r in runs if r.steps_run]
    facts = [f for f in res.ledger.facts() if f.partition in set(assessed) and is_of_assess(f)]
    shown = [s for s in summarise(res, res.lake.keys(Stage.PERFORMANCE)[-NEWEST:]) if s.loss is not None]
    line = f"{name}: no new outcomes, nothing to assess."
    if assessed:
        line = f"{name}: {_count(assessed)} assessed{outcome_text({}, facts, single=len(assessed) == 1)}."
    if assessed and shown:
        new = shown[-1]
        rows = counted(new.mature or 0, "mature row")
        line += f" Newest {new.key}: {res.config.target.eval_loss} {number(new.loss)} on {rows}."
        if new.decay and new.decay["detected"] and not facts:
            line += f" Decay: {decay_text(new.decay)}."
    waits = [
        f"- {r.partition}: {v} waits: {for_markdown(w)}"
        for r in runs
        for v, s, w in r.steps
        if s in ("waiting", "blocked")
    ]
    newest = counted(len(shown), "partition")
    description = f"{name}: performance of the newest {newest}, realised and estimated. {PERFORMANCE_LEGEND}"
    publish_table(res, "performance", [performance_row(s, res) for s in shown], description)
    if assessed and shown:
        publish_performance_plot(res, shown)
    decayed = (
        ["decay"] if assessed and any(s.key in assessed and (s.decay or {}).get("detected") for s in shown) else []
    )
    return publish_page(res, "assess", line, waits[-20:]), [*run_tags(runs, {}, facts), *decayed]


def is_of_assess(fact: Fact) -> bool:
    """Whether a fact is about outcomes, which only `assess` has."""
    return fact.kind == "decay" or fact.payload.get("of") == "outcomes"


def row(summary: PartitionSummary) -> dict[str, Any]:
    """Return the summary of a partition as a table row."""
    return {
        "partition": summary.key,
        "rows": summary.shown_rows,
        "quarantined": summary.quarantined or 0,
        "scored by": f"v{summary.version}" if summary.version else "",
        "ROC AUC": number(summary.roc_auc),
        "log loss": number(summary.log_loss),
        "drift share": percent(summary.drift_share),
        "retraining": summary.retraining,
    }


def performance_row(summary: PartitionSummary, res: Resources) -> dict[str, Any]:
    """Return the performance of a partition as a table row: realised with its interval, and estimated before the labels came."""
    estimate, decay = summary.estimate, summary.decay or {}
    return {
        "partition": summary.key,
        "scored by": f"v{summary.version}" if summary.version else "",
        res.config.target.eval_loss: number(summary.loss),
        "95 % interval": bounds_text(summary.interval),
        "expected": number(decay.get("expected")),
        "skill": percent(summary.skill),
        "expected skill": percent(decay.get("expected_skill")),
        "estimated before": number(estimate),
        "estimated 95 % interval": bounds_text(summary.estimate_interval),
        "estimate": "" if estimate is None else summary.trust or "trusted",
        "error": "" if estimate is None or summary.loss is None else f"{summary.loss - estimate:+.3f}",
        "ROC AUC": number(summary.roc_auc),
        "estimated AUC": number(summary.estimated_auc),
        "decay": "decay" if decay.get("detected") else "",
        "mature": f"{summary.mature:,}" if summary.mature is not None else "",
        "labels pending": "" if summary.pending is None else f"{summary.pending:,}",
        "never labelled": "" if summary.never is None else f"{summary.never:,}",
    }


def publish_performance_plot(res: Resources, shown: Sequence[PartitionSummary]) -> None:
    """Create an artifact with the plot of realised and estimated loss by partition."""
    realised = [(s.key, s.loss, s.interval) for s in shown if s.loss is not None]
    estimated = [(s.key, s.estimate) for s in shown if s.estimate is not None]
    image = base64.b64encode(performance_plot(realised, estimated, res.config.target.eval_loss)).decode()
    name = res.config.name
    create_markdown_artifact(
        f"![realised and estimated loss by partition](data:image/png;base64,{image})",
        key=page_key(name, "performance-over-time"),
        description=f"{name}: {res.config.target.eval_loss} by partition, realised with 95 % intervals, and as estimated before",
    )
