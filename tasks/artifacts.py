"""Pages and tables that a run leaves in the Prefect UI. The first line says what happened and what to do."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.audit import Audit
from tasks.contracts import Decision, GateDecision, Passage, Promotion, Stage, Training, Trial
from tasks.errors import EvergreenError
from tasks.events import snapshot_url
from tasks.reproduction import Reproduction
from tasks.resources import Resources
from tasks.summary import PartitionSummary, grid, summarise


def page_key(model: str, page: str) -> str:
    """Prefect allows lower case letters, digits and dashes in a key."""
    return f"{model}-{page}".replace("_", "-")


def number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def told(decision: Decision | None) -> str:
    """A decision in a few words."""
    if decision is None:
        return "no decision yet"
    if decision.action == "decline":
        return f"declined: {decision.rule}"
    return {
        "": "retraining",
        "promoted": f"retrained: v{decision.version}",
        "staged": f"retrained: v{decision.version} in shadow",
        "refused": "retrained: refused",
    }.get(decision.outcome, f"retraining {decision.outcome}")


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
        "retraining": told(summary.decision) if summary.fact else "",
    }


def publish_page(res: Resources, page: str, line: str, body: Sequence[str]) -> str:
    """A markdown page that begins with its headline, which also is the run's state message; returns the headline."""
    create_markdown_artifact(
        "\n".join([f"**{line}**", "", *body]), key=page_key(res.config.name, page), description=line
    )
    return line


def publish_process(res: Resources, passages: Sequence[Passage]) -> str:
    """The page and the tables of a `process` run; returns the headline."""
    name, keys = res.config.name, [p.partition for p in passages]
    shown = [s for s in summarise(res) if s.key in keys]
    drifted = [f"- {s.key}: {s.drift_share:.0%} of columns drifted, fact `{s.fact.id}` sent" for s in shown if s.fact]
    links = [link for key in keys[-12:] for link in _links(res, key)]
    body = [*step_table(passages[-40:]), "", *_whys(passages[-40:]), "", *drifted, *links]
    create_table_artifact(
        [row(s) for s in shown], key=page_key(name, "partitions"), description=f"{name}: the partitions of this run"
    )
    _publish_drift(res, keys)
    return publish_page(res, "process", process_headline(name, passages), body)


def step_table(passages: Sequence[Passage]) -> list[str]:
    """How each partition went through its steps, as a markdown table."""
    if not passages:
        return []
    verbs = list(dict.fromkeys(verb for p in passages for verb, _, _ in p.steps))
    states = [{verb: state for verb, state, _ in p.steps} for p in passages]
    head = ["| partition | " + " | ".join(verbs) + " |", "|---" * (len(verbs) + 1) + "|"]
    cells = (" | ".join(state.get(verb, "") for verb in verbs) for state in states)
    return head + [f"| {p.partition} | {cell} |" for p, cell in zip(passages, cells, strict=True)]


def _whys(passages: Sequence[Passage]) -> list[str]:
    """What a person would ask about: why a step was made again, waits or is blocked."""
    return [f"- {p.partition}: {verb} {state}: {why}" for p in passages for verb, state, why in p.steps if why]


def process_headline(name: str, passages: Sequence[Passage]) -> str:
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
    """The drift table of the newest partition of a run."""
    records = [r for key in keys if (r := res.lake.record(Stage.MONITORING, key)) and r.status == "done"]
    if records:
        newest = records[-1]
        worst = sorted(newest.data["columns"], key=lambda c: c["score"] / c["threshold"], reverse=True)
        columns = [c | {"score": number(c["score"]), "drifted": "yes" if c["drifted"] else ""} for c in worst]
        share, version = newest.data["share"], newest.data["version"]
        text = f"{newest.model} {newest.partition}: {share:.0%} of columns drifted from what version {version} learned from"
        create_table_artifact(columns, key=page_key(newest.model, "drift"), description=text)


def publish_assess(res: Resources, passages: Sequence[Passage]) -> str:
    """The page and the table of an `assess` run; returns the headline."""
    name, made = res.config.name, [p.partition for p in passages if p.made]
    shown = [s for s in summarise(res) if s.log_loss is not None]
    line = f"{name}: {_count(made)} assessed." if made else f"{name}: no new outcomes; everything known is assessed."
    if made and shown:
        new = shown[-1]
        line += f" Newest {new.key}: ROC AUC {number(new.roc_auc)}, log loss {number(new.log_loss)} on {new.mature} mature rows."
    waits = [f"- {p.partition}: {v} waits: {w}" for p in passages for v, s, w in p.steps if s in ("waiting", "blocked")]
    create_table_artifact(
        [row(s) for s in shown], key=page_key(name, "performance"), description=f"{name}: performance by partition"
    )
    return publish_page(res, "assess", line, waits[-20:])


def publish_training(res: Resources, training: Training) -> Training:
    """The page and the gate's table of a `train` run; returns what it was given, the ledger's last row in it."""
    name, decision, window, judged = res.config.name, training.decision, training.window, training.comparison
    rows = [row for row in res.ledger.promotions() if row.version == training.version]
    training = replace(training, row=rows[-1] if rows else None)
    page = [
        f"Window {window.span}, as of {window.as_of:%Y-%m-%d}"
        + (f"; judged on {judged.start:%Y-%m-%d} to {judged.end:%Y-%m-%d}." if judged else "."),
        *(f"Passed over, since blocked: {key}." for key in window.passed_over),
        "",
        *trial_table(training.selection.trials),
        "",
        *(f"- {row.action}: {row.reason}" for row in rows),
        *_version_links(res, training),
    ]
    create_table_artifact(
        gate_rows(decision),
        key=page_key(name, "gate"),
        description=f"{name}: the gate about version {decision.version}",
    )
    publish_page(res, "train", training_headline(name, training), page)
    return training


def training_headline(name: str, training: Training) -> str:
    """What became of a training, in a line."""
    row, version = training.row, training.version
    if not version:
        return f"{name}: no candidate beats the baseline, so none was fitted; the champion stays. {'; '.join(training.decision.reasons)}"
    if row is None or row.to_stage == "refused":
        why = "; ".join(training.decision.reasons) or (row.reason if row else "")
        return f"{name}: version {version} was refused by the gate; the champion stays. {why}"
    if row.to_stage == "champion":
        return f"{name}: version {version} is champion for partitions after {row.as_of:%Y-%m-%d}."
    if row.action == "request":
        return f"{name}: version {version} passed the gate and waits for a person to run `promote`."
    return f"{name}: version {version} passed the gate and scores in the champion's shadow from now on."


def trial_table(trials: Sequence[Trial]) -> list[str]:
    """What was tried on the validation splits, as a markdown table."""
    head = ["| tried | loss on the validation splits | beats the baseline | |", "|---|---|---|---|"]
    cells = [
        (t.name, f"{t.loss:.5f}", "" if t.name.startswith("baseline") else "yes" if t.beats_baseline else "no", t.note)
        for t in trials
    ]
    return head + ["| " + " | ".join(cell) + " |" for cell in cells]


def gate_rows(decision: GateDecision) -> list[dict[str, str]]:
    return [
        {
            "rule": v.rule,
            "verdict": "REFUSED" if v.outcome == "failed" else v.outcome,
            "value": f"{v.value:.5g}",
            "threshold": f"{v.threshold:.5g}",
            "note": v.note,
        }
        for v in decision.verdicts
    ]


def _version_links(res: Resources, training: Training) -> list[str]:
    """The MLflow pages of the challenger and of its refit."""
    made = {v.version: v for v in (training.challenger, training.final) if v}
    return [link for version in made.values() for link in _version_link(res, version.version, version.run_id)]


def _version_link(res: Resources, version: str, run_id: str) -> list[str]:
    """A version's MLflow pages; none for a registry without a server, and only what can be had when it is down."""
    if not (model := res.registry.version_url(version)):
        return []
    try:
        run = f", [run]({res.registry.run_url(run_id)})"
    except EvergreenError:
        run = ""
    return [f"- version {version}: [model]({model}){run}"]


def publish_decision(res: Resources, decision: Decision, partition: str) -> str:
    """The page of a `retrain` run; returns the headline."""
    name = res.config.name
    line = f"{name} {partition}: {told(decision)}. {decision.reason}."
    page = [
        f"- rule: {decision.rule}",
        f"- as of: {decision.as_of.isoformat()}",
        f"- fact: `{decision.fact_id}`",
        f"- outcome: {decision.outcome or '-'} {decision.detail}",
    ]
    rows = [{"as of": f"{d.as_of:%Y-%m-%d}", "decision": told(d), "why": d.reason} for d in res.ledger.decisions()]
    create_table_artifact(rows, key=page_key(name, "decisions"), description=f"{name}: every decision so far")
    return publish_page(res, "retrain", line, page)


def publish_backfill(res: Resources, passages: Sequence[Passage], failed: dict[str, str]) -> str:
    """The page and the grid of a `backfill` run; returns the headline."""
    name, made = res.config.name, [p for p in passages if p.made]
    blocked = [p for p in passages if any(s == "blocked" for _, s, _ in p.steps)]
    count = len(passages) + len(failed)
    line = (
        f"{name}: {len(made)} of {count} partitions brought up to date, {len(failed)} failed, {len(blocked)} blocked."
    )
    notes = [f"- {key} failed: {why}" for key, why in failed.items()]
    notes += [f"- {p.partition} blocked at {v}: {w}" for p in blocked for v, s, w in p.steps if s == "blocked"]
    refs = [res.ref(key) for key in sorted({*(p.partition for p in passages), *failed})]
    create_table_artifact(grid(res, refs), key=page_key(name, "grid"), description=f"{name}: partition by stage")
    return publish_page(res, "backfill", line, notes)


def publish_promotion(res: Resources, promotion: Promotion) -> str:
    """The page of a `promote` or `rollback` run and the ledger as a table; returns the headline."""
    name = res.config.name
    since = f"for partitions after {promotion.as_of:%Y-%m-%d}, by {promotion.by}: {promotion.reason}"
    line = f"{name}: version {promotion.version} is champion {since}"
    description = f"{name}: every change of stage"
    create_table_artifact(ledger_rows(res.ledger.promotions()), key=page_key(name, "ledger"), description=description)
    return publish_page(res, promotion.action, line, _version_link(res, promotion.version, promotion.run_id))


def ledger_rows(rows: Sequence[Promotion]) -> list[dict[str, Any]]:
    """The ledger for people, newest first."""
    return [
        {
            "#": row.sequence,
            "version": row.version,
            "from": row.from_stage,
            "to": row.to_stage,
            "action": row.action,
            "as of": f"{row.as_of:%Y-%m-%d}",
            "by": row.by if row.assurance == "automation" else f"{row.by} ({row.assurance})",
            "reason": row.reason,
        }
        for row in reversed(rows)
    ]


def publish_reproduction(res: Resources, found: Reproduction) -> str:
    """The page of a `reproduce` run; returns the headline."""
    name = f"{res.config.name} version {found.version}"
    if found.same:
        line = f"{name} was reproduced: the same digest, and the same bytes of predictions for {found.rows:,} rows."
    elif found.changed:
        line = f"{name} was not reproduced: the data have changed since in {', '.join(c.split(':')[0] for c in found.changed)}."
    else:
        line = f"{name} was not reproduced, though its rows are the same: {'; '.join(found.differs) or 'nothing known differs'}."
    page = [
        f"- digest then: `{found.digest}`",
        f"- digest now: `{found.digest_again}`",
        f"- predictions: {'the same bytes' if found.same_predictions else 'other bytes'} for {found.rows:,} rows",
        *(f"- data changed: {told}" for told in found.changed),
        *(f"- not as it was: {told}" for told in found.differs),
    ]
    return publish_page(res, "reproduce", line, page)


def publish_audit(res: Resources, found: Audit) -> str:
    """The page of an `audit` run and the ledger as a table; returns the headline."""
    create_table_artifact(
        ledger_rows(found.rows),
        key=page_key(found.model, "ledger"),
        description=f"{found.model}: every change of stage",
    )
    line = audit_headline(found)
    return publish_page(res, "audit", line, audit_lines(found))


def audit_headline(found: Audit) -> str:
    """Who was champion, and whether the record holds together."""
    when = f"at {found.at.isoformat()}" if found.at else "today"
    who = f"version {found.champion.version} was champion" if found.champion else "there was no champion"
    sound = f"{len(found.problems)} things do not agree" if found.problems else "ledger, MLflow and events agree"
    return f"{found.model}: {when} {who}; {sound}."


def audit_lines(found: Audit) -> list[str]:
    """The path of the champion with its evidence, and what was checked, as markdown."""
    lines = [f"Checked: {found.checked}.", *(f"- **{problem}**" for problem in found.problems), ""]
    for row in found.path:
        who = row.by if row.assurance == "automation" else f"{row.by} ({row.assurance} name)"
        lines.append(
            f"- row {row.sequence}, {row.action}, as of {row.as_of:%Y-%m-%d}, written {row.recorded_at}, by {who}: {row.reason}"
        )
    verdicts = [v for row in reversed(found.path) if (v := row.evidence.get("verdicts"))]
    if verdicts:
        lines += ["", "| rule | verdict | value | threshold | |", "|---|---|---|---|---|"]
        shown = [(v, number(v["value"], 5), number(v["threshold"], 5)) for v in verdicts[0]]
        lines += [f"| {v['rule']} | {v['outcome']} | {value} | {bound} | {v['note']} |" for v, value, bound in shown]
    return lines
