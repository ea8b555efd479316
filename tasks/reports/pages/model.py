"""The first page of one model: alerts, champion, performance, newest partitions and decisions, schedules and costs.

Everything is read from records and the ledger, so the page can be written again at any time.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tasks.contracts import Promotion, Record, Stage
from tasks.contracts.links import runs_url
from tasks.contracts.words import bounds_text, decision_text, duration_text, number, percent, who
from tasks.drift.workspace import project_id
from tasks.errors import EvergreenError
from tasks.lifecycle.policy_inputs import gain_now
from tasks.lifecycle.shadow import what_it_waits_for
from tasks.orchestration.schedules import Schedule
from tasks.reports.health import alerts, state
from tasks.reports.newest import last_decision, newest_assessed
from tasks.reports.pages.decisions import decision_rows
from tasks.reports.pages.drift_map import drift_now
from tasks.reports.pages.performance import calibration, groups_over_time, performance
from tasks.reports.pages.steps import LABELS, checks_by_partition, contract_summary
from tasks.reports.pages.template import card_link, render_template
from tasks.reports.refusals import last_refusal
from tasks.reports.summary import PartitionSummary, recent_keys, summarise
from tasks.resources import Resources
from tasks.steps.order import steps_of
from tasks.storage.earlier import superseded

NEWEST, LISTED = 400, 24
"""Newest partitions in the charts, and rows in a table of this page."""
TREND = 40
"""Newest partitions in the line on the index."""


def describe(
    res: Resources,
    schedules: Sequence[Schedule] | None = None,
    forms: Sequence[Mapping[str, Any]] = (),
    shown: Sequence[PartitionSummary] | None = None,
    files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect the content of the page as plain values.

    Args:
        res: The resources of the model.
        schedules: As in `alerts`.
        forms: Prefect's forms that start a run: text, address, parameters, and whether they have `start` and `end`.
        shown: The newest partitions, if they were summarised already.
        files: The contents of the files beside the page, if they were collected already. See `data_files`.
    """
    config, current = res.config, alerts(res, schedules)
    shown = summarise(res, recent_keys(res, NEWEST), with_decay=False) if shown is None else shown
    files = data_files(res, shown) if files is None else files
    champion, refusal = res.ledger.champion(), last_refusal(res)
    return {
        "model": config.name,
        "description": config.description.strip(),
        "state": state(current),
        "headline": headline(champion, newest_assessed(res), config.target.eval_loss),
        "alerts": [vars(alert) for alert in current],
        "last_run": _last_run(shown, res),
        "next_run": _next_run(schedules or ()),
        "schedules": schedules if schedules is None else [[s.deployment, s.rule, s.next_run_local] for s in schedules],
        "forms": list(forms),
        "champion": _champion(champion, shown, res),
        "challenger": _challenger(res),
        "refusal": {"text": refusal.headline, "rules": list(refusal.rules)} if refusal else None,
        "loss": config.target.eval_loss.replace("_", " "),
        "count": len(shown),
        "partitions": [_partition(s, res) for s in shown[-LISTED:]],
        "trend": [round(s.skill, 4) for s in shown if s.skill is not None][-TREND:],
        "drift": drift_now(res, shown, LISTED),
        "decisions": decision_rows(res)[:LISTED],
        "last_decision": _last_decision(res),
        "gain": gain_now(res),
        "contract": contract_summary(files["checks"], [s.key for s in shown if s.blocked]),
        "costs": _costs(res, shown),
        "has": {name: name in files for name in ("groups", "calibration")},
        "links": _links(champion, res),
    }


def data_files(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Return the contents of the files that this page is made from, by name. Those without content are left out."""
    own = {
        "performance": performance(res, shown),
        "groups": groups_over_time(res, shown),
        "calibration": calibration(res, shown),
        "checks": checks_by_partition(res, [s.key for s in shown]),
    }
    return {name: content for name, content in own.items() if content}


def render(page: Mapping[str, Any]) -> str:
    """Render the page as HTML. `page` is the output of `describe`."""
    rows = [_row(p) for p in page["partitions"][::-1]]
    return render_template(Path(__file__).parent / "model.html.j2", page=page, rows=rows)


def headline(champion: Promotion | None, newest: Record | None, loss: str) -> str:
    """Summarise in one line the champion, and loss and skill of the newest partition with outcomes."""
    if champion is None:
        return "No version is champion yet."
    line = f"Version {champion.version} is champion for partitions after {champion.as_of:%Y-%m-%d}."
    if newest:
        skill = newest.data.get("skill")
        line += (
            f" Newest outcomes, {newest.partition}: {loss.replace('_', ' ')} {number(newest.data['metrics'].get(loss))}"
        )
        line += "." if skill is None else f", skill {percent(skill)}."
    return line


def _champion(champion: Promotion | None, shown: Sequence[PartitionSummary], res: Resources) -> dict[str, Any] | None:
    """Describe the champion. `age` is in days, from the end of its training window to the end of the newest scored partition."""
    if champion is None:
        return None
    newest = next((res.ref(s.key).end for s in reversed(shown) if s.version), champion.as_of)
    return {
        "version": champion.version,
        "since": f"{champion.as_of:%Y-%m-%d}",
        "by": who(champion.by),
        "reason": champion.reason,
        "learned_until": f"{champion.window_end:%Y-%m-%d}",
        "age": max(0, (newest - champion.window_end).days),
    }


def _challenger(res: Resources) -> dict[str, str] | None:
    """Describe the challenger: its version, since when it is staged, and what it waits for."""
    if (staged := res.ledger.challenger()) is None:
        return None
    return {"version": staged.version, "since": f"{staged.as_of:%Y-%m-%d}", "waits": what_it_waits_for(staged, res)}


def _partition(s: PartitionSummary, res: Resources) -> dict[str, Any]:
    raw = res.lake.record(Stage.RAW, s.key)
    return {
        "key": s.key, "rows": s.rows, "empty": s.empty, "quarantined": s.quarantined, "blocked": s.blocked, "version": s.version,
        "loss": s.loss, "interval": s.interval and list(s.interval), "estimate": s.estimate, "drift": s.drift_share,
        "skill": s.skill, "estimate_interval": s.estimate_interval and list(s.estimate_interval),
        "drifted": s.drifted,
        "retraining": s.retraining, "labels": _labels_due(s, res), "late": _late(raw),
        "superseded": len(superseded(res.lake, Stage.PREDICTIONS, s.key)),
    }  # fmt: skip


def _late(raw: Record | None) -> str:
    """The number of rows that came late, and of those that were left out."""
    late, left_out = (raw.data.get(name, 0) if raw else 0 for name in ("late_rows", "left_out"))
    return f"{late} ({left_out} left out)" if left_out else str(late)


def _labels_due(s: PartitionSummary, res: Resources) -> str:
    """When the labels of a scored partition mature, and the share of its rows whose labels have; empty if they are assessed."""
    ref, delay = res.ref(s.key), res.config.target.delay
    if not s.version or s.loss is not None or s.empty:
        return ""
    due, now = f"labels due {ref.matured:%Y-%m-%d}", datetime.now(UTC)
    if not ref.start + delay < now < ref.matured:
        return due
    try:
        times = res.lake.read(Stage.PREDICTIONS, s.key, [res.config.time])[res.config.time]
    except EvergreenError:  # another alert says that the file is damaged
        return due
    return f"{due}, {(times + delay <= now).mean():.0%} matured"


def _row(p: Mapping[str, Any]) -> list[str]:
    """One partition's row in the page's table."""
    estimate = number(p["estimate"]) + (f" ({bounds_text(p['estimate_interval'])})" if p["estimate_interval"] else "")
    rows = "blocked" if p["blocked"] else "empty" if p["empty"] else f"{p['rows']:,}" if p["rows"] is not None else ""
    scored = f"v{p['version']}" if p["version"] else ""
    scored += f" ({p['superseded']} superseded)" if p["superseded"] else ""
    return [
        p["key"], rows, p["late"], str(p["quarantined"] or 0), scored, p["labels"] or number(p["loss"]),
        bounds_text(p["interval"]), percent(p["skill"]), estimate, percent(p["drift"]), p["retraining"],
    ]  # fmt: skip


def _last_run(shown: Sequence[PartitionSummary], res: Resources) -> str:
    """Return when a step of one of the newest partitions ran last, UTC; empty if none has."""
    records = (res.lake.record(stage, s.key) for s in shown[-LISTED:] for stage in Stage)
    started = [r.run.started for r in records if r and r.run]
    return f"{max(started).astimezone(UTC):%Y-%m-%d %H:%M} UTC" if started else ""


def _next_run(schedules: Sequence[Schedule]) -> str:
    """Return the earliest planned run of all schedules in the zone of its schedule; empty if none is planned."""
    planned = [(s.next_run, s.next_run_local) for s in schedules if s.next_run]
    return min(planned)[1] if planned else ""


def _last_decision(res: Resources) -> Any:
    """Return the newest decision as text, with a link to the card of its version; empty if there is none."""
    decision = last_decision(res)
    return card_link(decision_text(decision, res.ledger.promotions()), decision.version, res) if decision else ""


def _costs(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Sum up the training time in the ledger, and the time of each step by its records.

    A retraining's seconds are for selection, fit, gate and refit. `steps` has verb, partitions, median and total seconds.
    """
    retrainings = [d for d in res.ledger.decisions() if d.action == "retrain" and d.outcome]
    seconds: dict[str, dict[str, float]] = {}
    for step in steps_of(res.config):
        records = ((s.key, res.lake.record(step.stage, s.key)) for s in shown)
        seconds[step.verb] = {key: r.run.seconds for key, r in records if r and r.run}
    whole = [sum(own.get(s.key, 0.0) for own in seconds.values()) for s in shown if s.version]
    return {
        "retrainings": len(retrainings),
        "seconds": duration_text(sum(d.seconds for d in retrainings)),
        "promoted": sum(d.outcome == "promoted" for d in retrainings),
        "partition": duration_text(median(whole)) if whole else None,
        "steps": [
            [LABELS.get(verb, verb), len(own), f"{median(own.values()):.2f}", duration_text(sum(own.values()))]
            for verb, own in seconds.items()
            if own
        ],
    }


def _links(champion: Promotion | None, res: Resources) -> list[list[str]]:
    """List the links of the page. They include artifacts, because Prefect's menu has no entry for them."""
    settings, name = res.settings, res.config.name
    artifacts = f"{settings.prefect_ui}/artifacts/key/{name.replace('_', '-')}"
    links = [
        ["the gate's verdicts, training by training", f"{artifacts}-gate"],
        ["the policy's decisions, one by one", f"{artifacts}-retrain"],
        ["runs in Prefect", runs_url(settings.prefect_ui, [name])],
        ["versions in MLflow", res.registry.version_url(champion.version) if champion else ""],
        ["drift and performance in Evidently", f"{settings.evidently_ui}/projects/{project_id(name)}"],
    ]
    return [[text, url] for text, url in links if url]
