"""The page of one model: what it needs, its champion, how well it does, what drifted, what was decided and what that cost.

Everything is read from records and ledger, so the page can be made at any time, and again.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tasks.contracts import Promotion, Stage
from tasks.contracts.words import decision_text, number
from tasks.drift.workspace import project_id
from tasks.ledger.history import champion_periods
from tasks.ledger.promotions import stage_of
from tasks.lifecycle.facts import snapshot_url
from tasks.lifecycle.hindsight import verdict_text
from tasks.orchestration.schedules import Schedule
from tasks.reports.health import alerts, state
from tasks.reports.pages.plots import drift_svg, performance_svg
from tasks.reports.pages.template import card_name, fill
from tasks.reports.summary import PartitionSummary, summarise
from tasks.resources import Resources

NEWEST, LISTED = 100, 24
"""Partitions in the pictures, and rows in a table."""


def describe(res: Resources, schedules: Sequence[Schedule] | None = None) -> dict[str, Any]:
    """Everything that the page says, as plain values."""
    config, found = res.config, alerts(res, schedules)
    shown = summarise(res, res.lake.keys(Stage.RAW)[-NEWEST:], judged=False)
    champion = res.ledger.champion()
    return {
        "model": config.name,
        "description": config.description.strip(),
        "state": state(found),
        "headline": headline(champion, shown, config.target.judged_by),
        "needs": [vars(need) for need in found],
        "schedules": schedules if schedules is None else [[s.deployment, s.rule, s.next_run_local] for s in schedules],
        "champion": _champion(champion, shown, res),
        "loss": config.target.judged_by.replace("_", " "),
        "partitions": [_partition(s, res) for s in shown],
        "promoted": _promoted(shown),
        "drift": _drift(res, shown),
        "threshold": config.monitoring.share,
        "decisions": _decisions(res),
        "versions": _versions(res),
        "reigns": _reigns(res),
        "contract": _contract(res, shown),
        "costs": _costs(res, shown),
        "links": _links(champion, res),
    }


def render(page: Mapping[str, Any]) -> str:
    """The page as HTML that needs no server; `page` is what `describe` says."""
    parts = page["partitions"]
    realised = [(p["key"], p["loss"], p["interval"] and tuple(p["interval"])) for p in parts if p["loss"] is not None]
    estimated = [(p["key"], p["estimate"]) for p in parts if p["estimate"] is not None]
    shares = [(p["key"], p["drift"], p["drifted"]) for p in parts if p["drift"] is not None]
    pictures = []
    if realised or estimated:
        drawn = performance_svg(realised, estimated, page["loss"], [tuple(p) for p in page["promoted"]])
        pictures.append(
            (f"{page['loss']} by partition, realised with 95 % intervals and as estimated before", data(drawn))
        )
    if shares:
        pictures.append(("share of columns that drifted, by partition", data(drift_svg(shares, page["threshold"]))))
    rows = [_row(p) for p in parts[-LISTED:][::-1]]
    return fill(Path(__file__).parent / "model.html.j2", page=page, pictures=pictures, rows=rows)


def data(drawn: str) -> str:
    """An SVG as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()


def headline(champion: Promotion | None, shown: Sequence[PartitionSummary], loss: str) -> str:
    """Who is champion, and how the newest partition went, in a line."""
    if champion is None:
        return "No version is champion yet."
    line = f"Version {champion.version} is champion for partitions after {champion.as_of:%Y-%m-%d}."
    measured = [s for s in shown if s.loss is not None]
    if measured:
        line += f" Newest outcomes, {measured[-1].key}: {loss.replace('_', ' ')} {number(measured[-1].loss)}."
    return line


def _champion(champion: Promotion | None, shown: Sequence[PartitionSummary], res: Resources) -> dict[str, Any] | None:
    """Who it is, since when, and how old what it learned is at the newest partition's end."""
    if champion is None:
        return None
    newest = res.ref(shown[-1].key).end if shown else champion.as_of
    return {
        "version": champion.version,
        "since": f"{champion.as_of:%Y-%m-%d}",
        "by": champion.by,
        "reason": champion.reason,
        "learned_until": f"{champion.window_end:%Y-%m-%d}",
        "age": max(0, (newest - champion.window_end).days),
    }


def _partition(s: PartitionSummary, res: Resources) -> dict[str, Any]:
    watched = res.lake.record(Stage.MONITORING, s.key)
    return {
        "key": s.key, "rows": s.rows, "quarantined": s.quarantined, "blocked": s.blocked, "version": s.version, "loss": s.loss,
        "interval": s.interval and list(s.interval), "estimate": s.estimate, "drift": s.drift_share,
        "drifted": bool(watched and watched.status == "done" and watched.data["detected"]),
        "retraining": decision_text(s.decision) if s.facts else "",
    }  # fmt: skip


def _row(p: Mapping[str, Any]) -> list[str]:
    """A partition in the page's table."""
    bounds = f"{number(p['interval'][0])} to {number(p['interval'][1])}" if p["interval"] else ""
    drift = "" if p["drift"] is None else f"{p['drift']:.0%}"
    rows = "blocked" if p["blocked"] else f"{p['rows']:,}" if p["rows"] is not None else ""
    scored = f"v{p['version']}" if p["version"] else ""
    return [
        p["key"], rows, str(p["quarantined"] or 0), scored, number(p["loss"]), bounds, number(p["estimate"]), drift, p["retraining"]
    ]  # fmt: skip


def _promoted(shown: Sequence[PartitionSummary]) -> list[list[str]]:
    """The first partition that each champion scored, with its version."""
    found, before = [], None
    for s in shown:
        if s.version and s.version != before:
            found.append([s.key, s.version])
            before = s.version
    return found


def _drift(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any] | None:
    """The columns of the newest partition that was watched, what matters most first."""
    for s in reversed(shown):
        record = res.lake.record(Stage.MONITORING, s.key)
        if record and record.status == "done":
            columns = [c for c in record.data["columns"] if c["drifted"]]
            rows = [
                [c["column"], c["method"], number(c["score"]), number(c["threshold"]), c["reference"]] for c in columns
            ]
            return {
                "key": s.key,
                "columns": rows[:LISTED],
                "link": snapshot_url(record, res),
                "note": record.data["note"],
            }
    return None


def to_card(text: str, version: str, res: Resources) -> Any:
    """Text that leads to a version's model card, where that is among the pages."""
    name = card_name(res.config.name, version)
    return {"text": text, "href": name} if version and (res.settings.pages / name).is_file() else text


def _decisions(res: Resources) -> list[list[Any]]:
    """What was seen, what the policy made of it and why, newest first."""
    made = {d.fact_id: d for d in res.ledger.decisions()}
    facts = [f for f in res.ledger.facts() if f.kind != "alias"][::-1][:LISTED]
    found = []
    for f in facts:
        decision = made.get(f.id)
        gate = "; ".join(line for line in (decision.gate if decision else ()) if ": passed" not in line)
        why = ". ".join(part for part in (decision.reason if decision else "", gate) if part)
        made_of = to_card(decision_text(decision), decision.version if decision else "", res)
        found.append([f.partition, f"{f.kind}: {f.payload.get('told', '')}", made_of, why])
    return found


def _versions(res: Resources) -> list[list[Any]]:
    """Every version's stage now, newest first; its number leads to its card."""
    rows = res.ledger.promotions()
    last = {row.version: row for row in rows}
    newest = sorted(last.values(), key=lambda row: -row.sequence)[:LISTED]
    return [
        [to_card(r.version, r.version, res), stage_of(r.version, rows), f"{r.window_end:%Y-%m-%d}", r.reason]
        for r in newest
    ]


def _reigns(res: Resources) -> list[list[str]]:
    """Every champion, newest first: since when, instead of whom, by whom and why, and whether it helped."""
    found = []
    for row in champion_periods(res.ledger.promotions())[::-1][:LISTED]:
        judged = res.ledger.hindsight(row.sequence)
        helped = verdict_text(judged) if judged else ""
        found.append(
            [f"{row.as_of:%Y-%m-%d}", row.version, row.previous or "", f"{row.action} by {row.by}", row.reason, helped]
        )
    return found


def _contract(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """How the newest partitions fared with the data contract, and which rules were broken in them."""
    broken: dict[str, list[str]] = {}
    for s in shown:
        record = res.lake.record(Stage.VALID, s.key)
        for f in record.data.get("findings", ()) if record else ():
            if not f["passed"]:
                rule = f"{f['column'] or 'the table'}: {f['expectation'].removeprefix('expect_').replace('_', ' ')} ({f['severity']})"
                broken.setdefault(rule, []).append(s.key)
    return {
        "rules": sum(len(list(e.each())) for e in res.config.expectations),
        "blocked": [s.key for s in shown if s.blocked],
        "quarantined": sum(s.quarantined or 0 for s in shown),
        "broken": [[rule, len(keys), ", ".join(keys[-3:])] for rule, keys in sorted(broken.items())][:LISTED],
    }


def _costs(res: Resources, shown: Sequence[PartitionSummary]) -> dict[str, Any]:
    """Seconds of training by the ledger, and of each partition by its records."""
    trained = [d for d in res.ledger.decisions() if d.action == "retrain" and d.outcome]
    each = []
    for s in shown:
        records = [r for stage in Stage if (r := res.lake.record(stage, s.key)) and r.run]
        each.append(sum(r.run.seconds for r in records if r.run))
    return {
        "retrainings": len(trained),
        "seconds": round(sum(d.seconds for d in trained)),
        "promoted": sum(d.outcome == "promoted" for d in trained),
        "partition": round(median(each), 1) if each else None,
    }


def _links(champion: Promotion | None, res: Resources) -> list[list[str]]:
    """Where to read on. Prefect's menu does not lead to its artifacts."""
    settings, name = res.settings, res.config.name
    artifacts = f"{settings.prefect_ui}/artifacts/key/{name.replace('_', '-')}"
    found = [
        ["its data: dictionary, quality, digests", f"{name}-data.html"],
        ["the gate's verdicts, training by training", f"{artifacts}-gate"],
        ["the policy's decisions, one by one", f"{artifacts}-retrain"],
        ["runs in Prefect", f"{settings.prefect_ui}/runs?tags={name}"],
        ["versions in MLflow", res.registry.version_url(champion.version) if champion else ""],
        ["drift and performance in Evidently", f"{settings.evidently_ui}/projects/{project_id(name)}"],
    ]
    return [[text, url] for text, url in found if url]
