"""The page of one model: alerts, champion, performance, drift, decisions and costs.

Everything is read from records and the ledger, so the page can be written again at any time.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tasks.contracts import FOR_PEOPLE, Promotion, Record, Stage
from tasks.contracts.words import bounds_text, decision_text, number, percent
from tasks.drift.workspace import project_id
from tasks.errors import EvergreenError
from tasks.ledger.history import champion_periods
from tasks.ledger.promotions import stage_of
from tasks.lifecycle.facts import snapshot_url
from tasks.lifecycle.hindsight import verdict_text
from tasks.lifecycle.policy_inputs import gain_now
from tasks.lifecycle.shadow import what_it_waits_for
from tasks.orchestration.schedules import Schedule
from tasks.reports.health import alerts, state
from tasks.reports.pages.plots import drift_svg, performance_svg
from tasks.reports.pages.template import card_name, render_template
from tasks.reports.refusals import last_refusal
from tasks.reports.summary import PartitionSummary, recent_keys, summarise
from tasks.resources import Resources
from tasks.steps.drift_verdict import ALWAYS, drift_at
from tasks.steps.explain import loss_text
from tasks.steps.step import done_record
from tasks.storage.earlier import superseded

NEWEST, LISTED = 100, 24
"""Newest partitions in the plots, and rows in a table."""


def describe(res: Resources, schedules: Sequence[Schedule] | None = None) -> dict[str, Any]:
    """Collect the content of the page as plain values. `schedules` are as in `alerts`."""
    config, current = res.config, alerts(res, schedules)
    shown = summarise(res, recent_keys(res, NEWEST), with_decay=False)
    champion, refusal = res.ledger.champion(), last_refusal(res)
    return {
        "model": config.name,
        "description": config.description.strip(),
        "state": state(current),
        "headline": headline(champion, shown, config.target.eval_loss),
        "alerts": [vars(alert) for alert in current],
        "schedules": schedules if schedules is None else [[s.deployment, s.rule, s.next_run_local] for s in schedules],
        "champion": _champion(champion, shown, res),
        "challenger": _challenger(res),
        "refusal": {"text": refusal.headline, "rules": list(refusal.rules)} if refusal else None,
        "loss": config.target.eval_loss.replace("_", " "),
        "partitions": [_partition(s, res) for s in shown],
        "promoted": _promoted(shown),
        "drift": _drift(res, shown),
        "threshold": config.monitoring.share,
        "decisions": _decisions(res),
        "gain": gain_now(res),
        "versions": _versions(res),
        "champion_periods": _champion_periods(res),
        "contract": _contract(res, shown),
        "costs": _costs(res, shown),
        "links": _links(champion, res),
    }


def render(page: Mapping[str, Any]) -> str:
    """Render the page as HTML that needs no server. `page` is the output of `describe`."""
    parts = page["partitions"]
    realised = [(p["key"], p["loss"], p["interval"] and tuple(p["interval"])) for p in parts if p["loss"] is not None]
    estimated = [(p["key"], p["estimate"]) for p in parts if p["estimate"] is not None]
    shares = [(p["key"], p["drift"], p["drifted"]) for p in parts if p["drift"] is not None]
    images = []
    if realised or estimated:
        svg = performance_svg(realised, estimated, page["loss"], [tuple(p) for p in page["promoted"]])
        title = f"{page['loss']} by partition, realised with 95 % intervals and as estimated before"
        images.append((title, data_uri(svg)))
    if shares:
        svg = drift_svg(shares, page["threshold"])
        images.append(("share of columns that drifted, by partition", data_uri(svg)))
    rows = [_row(p) for p in parts[-LISTED:][::-1]]
    return render_template(Path(__file__).parent / "model.html.j2", page=page, images=images, rows=rows)


def data_uri(svg: str) -> str:
    """Encode an SVG as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def headline(champion: Promotion | None, shown: Sequence[PartitionSummary], loss: str) -> str:
    """Summarise in one line the champion and the loss of the newest partition with outcomes."""
    if champion is None:
        return "No version is champion yet."
    line = f"Version {champion.version} is champion for partitions after {champion.as_of:%Y-%m-%d}."
    measured = [s for s in shown if s.loss is not None]
    if measured:
        line += f" Newest outcomes, {measured[-1].key}: {loss.replace('_', ' ')} {number(measured[-1].loss)}"
        line += f", skill {percent(measured[-1].skill)}." if measured[-1].skill is not None else "."
    return line


def _champion(champion: Promotion | None, shown: Sequence[PartitionSummary], res: Resources) -> dict[str, Any] | None:
    """Describe the champion. `age` is in days, from the end of its training window to the end of the newest scored partition."""
    if champion is None:
        return None
    newest = next((res.ref(s.key).end for s in reversed(shown) if s.version), champion.as_of)
    return {
        "version": champion.version,
        "since": f"{champion.as_of:%Y-%m-%d}",
        "by": champion.by,
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
    drift = "" if p["drift"] is None else f"{p['drift']:.0%}"
    rows = "blocked" if p["blocked"] else "empty" if p["empty"] else f"{p['rows']:,}" if p["rows"] is not None else ""
    scored = f"v{p['version']}" if p["version"] else ""
    scored += f" ({p['superseded']} superseded)" if p["superseded"] else ""
    return [
        p["key"], rows, p["late"], str(p["quarantined"] or 0), scored, p["labels"] or number(p["loss"]),
        bounds_text(p["interval"]), percent(p["skill"]), estimate, drift, p["retraining"],
    ]  # fmt: skip


def _promoted(shown: Sequence[PartitionSummary]) -> list[list[str]]:
    """List the first partition that each champion scored, with its version."""
    firsts, previous = [], None
    for s in shown:
        if s.version and s.version != previous:
            firsts.append([s.key, s.version])
            previous = s.version
    return firsts


def _drift(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any] | None:
    """List the drifted columns of the newest monitored partition with rows, those first that change the loss most.

    Columns that are always different follow, with a note.
    """
    for s in (s for s in reversed(shown) if not s.empty):
        ref = res.ref(s.key)
        if (record := done_record(Stage.MONITORING, ref, res)) and (verdict := drift_at(ref, res)):
            columns = [c for c in verdict["columns"] if c["drifted"] or c["note"].startswith(ALWAYS)]
            rows = [
                [
                    c["column"],
                    c["method"],
                    number(c["score"]),
                    number(c["threshold"]),
                    loss_text(c),
                    c["reference"],
                    c["note"],
                ]
                for c in columns
            ]
            return {
                "key": s.key,
                "columns": rows[:LISTED],
                "link": snapshot_url(record, res),
                "note": record.data["note"],
            }
    return None


def card_link(text: str, version: str, res: Resources) -> Any:
    """Return a cell that links to a version's model card; only the text if the card is not among the pages."""
    name = card_name(res.config.name, version)
    return {"text": text, "href": name} if version and (res.settings.pages / name).is_file() else text


def _decisions(res: Resources) -> list[list[Any]]:
    """List signals with the policy's decision and its reason, newest first."""
    decisions, changes = {d.fact_id: d for d in res.ledger.decisions()}, res.ledger.promotions()
    facts = [f for f in res.ledger.facts() if f.kind not in FOR_PEOPLE][::-1][:LISTED]
    rows = []
    for f in facts:
        decision = decisions.get(f.id)
        gate = "; ".join(line for line in (decision.gate if decision else ()) if ": passed" not in line)
        reason = ". ".join(part for part in (decision.reason if decision else "", gate) if part)
        link = card_link(decision_text(decision, changes), decision.version if decision else "", res)
        rows.append([f.partition, f"{f.kind}: {f.payload.get('told', '')}", link, reason])
    return rows


def _versions(res: Resources) -> list[list[Any]]:
    """List the current stage of every version, newest first. The version number links to its card."""
    rows = res.ledger.promotions()
    last = {row.version: row for row in rows}
    newest = sorted(last.values(), key=lambda row: -row.sequence)[:LISTED]
    return [
        [card_link(r.version, r.version, res), stage_of(r.version, rows), f"{r.window_end:%Y-%m-%d}", r.reason]
        for r in newest
    ]


def _champion_periods(res: Resources) -> list[list[str]]:
    """List all champions, newest first: since when, the version before it, by whom, why, and the measured effect."""
    rows = []
    for row in champion_periods(res.ledger.promotions())[::-1][:LISTED]:
        hindsight = res.ledger.hindsight(row.sequence)
        effect = verdict_text(hindsight) if hindsight else ""
        rows.append(
            [f"{row.as_of:%Y-%m-%d}", row.version, row.previous or "", f"{row.action} by {row.by}", row.reason, effect]
        )
    return rows


def _contract(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Summarise the results of the data contract in the newest partitions, with the rules that failed."""
    failed: dict[str, list[str]] = {}
    for s in shown:
        record = res.lake.record(Stage.VALID, s.key)
        for f in record.data.get("findings", ()) if record else ():
            if not f["passed"]:
                rule = f"{f['column'] or 'the table'}: {f['expectation'].removeprefix('expect_').replace('_', ' ')} ({f['severity']})"
                failed.setdefault(rule, []).append(s.key)
    return {
        "rules": sum(len(list(e.checks())) for e in res.config.expectations),
        "blocked": [s.key for s in shown if s.blocked],
        "quarantined": sum(s.quarantined or 0 for s in shown),
        "failed": [[rule, len(keys), ", ".join(keys[-3:])] for rule, keys in sorted(failed.items())][:LISTED],
    }


def _costs(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Sum up the training time in the ledger; and the median time of a partition by its records, in seconds."""
    retrainings = [d for d in res.ledger.decisions() if d.action == "retrain" and d.outcome]
    seconds = []
    for s in shown:
        records = [r for stage in Stage if (r := res.lake.record(stage, s.key)) and r.run]
        seconds.append(sum(r.run.seconds for r in records if r.run))
    return {
        "retrainings": len(retrainings),
        "seconds": round(sum(d.seconds for d in retrainings)),
        "promoted": sum(d.outcome == "promoted" for d in retrainings),
        "partition": round(median(seconds), 1) if seconds else None,
    }


def _links(champion: Promotion | None, res: Resources) -> list[list[str]]:
    """List the links of the page. They include artifacts, because Prefect's menu has no entry for them."""
    settings, name = res.settings, res.config.name
    artifacts = f"{settings.prefect_ui}/artifacts/key/{name.replace('_', '-')}"
    links = [
        ["its data: dictionary, quality, digests", f"{name}-data.html"],
        ["the gate's verdicts, training by training", f"{artifacts}-gate"],
        ["the policy's decisions, one by one", f"{artifacts}-retrain"],
        ["runs in Prefect", f"{settings.prefect_ui}/runs?tags={name}"],
        ["versions in MLflow", res.registry.version_url(champion.version) if champion else ""],
        ["drift and performance in Evidently", f"{settings.evidently_ui}/projects/{project_id(name)}"],
    ]
    return [[text, url] for text, url in links if url]
