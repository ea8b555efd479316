"""The page of one model's data: its published contract, and quality and digest of each partition."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.contracts import Record, Stage
from tasks.reports.pages.published import describe_contract, known_history
from tasks.reports.pages.template import render_template
from tasks.resources import Resources
from tasks.storage.published_contract import History, version_of

LISTED = 400
"""The newest partitions, which the page lists."""


def describe_data(res: Resources) -> dict[str, Any]:
    """Collect the content of the page as plain values."""
    config = res.config
    keys = sorted({key for stage in (Stage.RAW, Stage.VALID) for key in res.lake.keys(stage)})[-LISTED:]
    done = [key for key in keys if (r := res.lake.record(Stage.VALID, key)) and r.status == "done"]
    types = {key: schema_of(key, res) for key in done}
    newest = types[done[-1]] if done else {}
    history, _ = known_history(res)
    return {
        "model": config.name,
        "description": config.description.strip(),
        "span": [done[0], done[-1]] if done else None,
        "contract": describe_contract(keys, newest, res),
        "partitions": [_partition(key, types, newest, history, res) for key in reversed(keys)],
        "lake": str(res.lake.root),
    }


def render_data(page: Mapping[str, Any]) -> str:
    """Render the page as HTML that needs no server. `page` is the output of `describe_data`."""
    return render_template(Path(__file__).parent / "catalogue.html.j2", page=page)


def schema_of(key: str, res: Resources) -> dict[str, str]:
    """Return the Arrow type of each column of a partition's valid rows; empty if the file is missing or is no parquet."""
    import pyarrow.parquet as pq

    try:
        with res.lake.file(Stage.VALID, key).open("rb") as file:
            schema = pq.read_schema(file)
    except (OSError, ValueError):
        return {}
    return {name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)}


def _partition(
    key: str, types: Mapping[str, Mapping[str, str]], newest: Mapping[str, str], history: History, res: Resources
) -> list[str]:
    """Return rows, quality, schema changes, digest and contract version of one partition."""
    valid, raw = res.lake.record(Stage.VALID, key), res.lake.record(Stage.RAW, key)
    blocked = next((r.reason for r in (raw, valid) if r and r.status == "blocked"), "")
    if valid is None or blocked:
        return [key, "", "", f"blocked: {blocked}" if blocked else "not validated yet", "", "", ""]
    quarantined = int(valid.data.get("quarantined", 0))
    return [
        key,
        f"{valid.rows:,}",
        str(quarantined),
        quality(valid),
        changes(types.get(key, {}), newest),
        valid.digest[:16],
        str(version_of(valid, history, res.config)),
    ]


def quality(record: Record) -> str:
    """Summarise how many checks of a partition passed."""
    if record.empty:
        return "empty: the source has no rows"
    findings = record.data.get("findings", [])
    failed = [f for f in findings if not f["passed"]]
    if not failed:
        return f"{len(findings)} checks passed"
    names = ", ".join(dict.fromkeys(f["column"] or "the table" for f in failed))
    return f"{len(failed)} of {len(findings)} checks failed: {names}"


def changes(types: Mapping[str, str], newest: Mapping[str, str]) -> str:
    """Describe how a partition's columns differ from those of the newest."""
    if not types:
        return "the file is missing or is no parquet"
    names = [n for n in {**types, **newest} if types.get(n) != newest.get(n)]
    return "same as the newest" if not names else "; ".join(f"{n}: {types.get(n, 'none')}" for n in names)
