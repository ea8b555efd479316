"""What `process`, `assess` and `backfill` leave: how partitions went through their steps."""

from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_table_artifact

from tasks.artifacts.page import number, page_key, publish_page, told
from tasks.contracts import Passage, Stage
from tasks.events import snapshot_url
from tasks.resources import Resources
from tasks.summary import PartitionSummary, grid, summarise


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
