"""What happened to each partition: its steps with their runs, the checks of the data contract, and the rows in quarantine."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from tasks.contracts import Record, Stage
from tasks.contracts.links import run_url
from tasks.contracts.words import first_line
from tasks.errors import EvergreenError
from tasks.resources import Resources
from tasks.steps.order import steps_of

LABELS = {
    "watch": "check drift",
    "shadow": "score: challenger",
    "former": "score: previous champion",
    "collect": "collect labels",
}
"""Names of steps on the page, where the step's own name is not clear without its neighbours."""
MOST_ROWS = 100
"""Quarantined rows of a partition that are listed."""


def steps_by_partition(res: Resources, keys: Sequence[str]) -> dict[str, Any]:
    """Return the state of each step of some partitions, as their records have it.

    Returns:
        `cells` by partition and step: state, start (UTC), seconds, position of the flow run in `runs` (-1 without one), and the reason.
    """
    steps, runs = steps_of(res.config), dict[str, int]()
    failed = {step.stage: set(res.lake.failed(step.stage)) for step in steps}
    cells = [[_cell(res, step.stage, key, key in failed[step.stage], runs) for step in steps] for key in keys]
    return {
        "steps": [LABELS.get(step.verb, step.verb) for step in steps],
        "partitions": list(keys),
        "cells": cells,
        "runs": list(runs),
        "runs_url": run_url(res.settings.prefect_ui, "RUN"),
    }


def _cell(res: Resources, stage: Stage, key: str, failed: bool, runs: dict[str, int]) -> list[Any] | None:
    record, failure = res.lake.record(stage, key), res.lake.failure(stage, key) if failed else ""
    if record is None:
        return ["failed", "", 0, -1, first_line(failure)] if failure else None
    state = (
        "failed" if failure else record.status if record.status == "blocked" else "empty" if record.empty else "done"
    )
    why = first_line(failure or record.reason)
    if record.run is None:
        return [state, "", 0, -1, why]
    run = runs.setdefault(record.run.flow_run, len(runs)) if record.run.flow_run else -1
    return [state, f"{record.run.started:%Y-%m-%d %H:%M}", round(record.run.seconds, 1), run, *([why] if why else [])]


def checks_by_partition(res: Resources, keys: Sequence[str]) -> dict[str, Any]:
    """Return the result of each check of the data contract by partition.

    Returns:
        `cells` by partition and check: None if it was not checked, 0 if it passed, else rows, share and what was observed. `quarantine`
        has the rows in quarantine by partition, and the file that lists them.
    """
    rules: dict[str, str] = {}
    found: list[tuple[str, Record, dict[str, Any]]] = []
    for key in keys:
        if record := res.lake.record(Stage.VALID, key):
            own: dict[str, Any] = {}
            for finding in record.data.get("findings", ()):
                rule = _distinct(rule_name(finding), own)
                rules[rule] = str(finding["severity"])
                own[rule] = 0 if finding["passed"] else _failure(finding)
            found.append((key, record, own))
    return {
        "rules": [{"name": name, "severity": severity} for name, severity in rules.items()],
        "partitions": [key for key, _, _ in found],
        "cells": [[own.get(rule) for rule in rules] for _, _, own in found],
        "quarantine": {
            key: {"rows": rows, "file": f"{res.config.name}/quarantine/{key}.json"}
            for key, record, _ in found
            if (rows := record.data.get("quarantined"))
        },
    }


def rule_name(finding: Mapping[str, Any]) -> str:
    """Return column, check and severity of a finding in words: `weight: values to be between, warning`."""
    name = finding["expectation"].removeprefix("expect_").removeprefix("column_").replace("_", " ")
    return f"{finding['column'] or 'the table'}: {name.removeprefix('table ')}, {finding['severity']}"


def _distinct(rule: str, known: Mapping[str, Any]) -> str:
    """Return the name of a check, with a number if another check of the partition has the same name."""
    return rule if rule not in known else next(name for n in count(2) if (name := f"{rule} ({n})") not in known)


def _failure(finding: Mapping[str, Any]) -> list[Any]:
    observed = f"could not be checked: {finding['broke']}" if finding["broke"] else f"observed: {finding['observed']}"
    return [finding["rows"], finding["share"], first_line(observed)]


def quarantined_rows(res: Resources, key: str) -> dict[str, Any]:
    """Return reasons and rows in quarantine of a partition: key and reasons of each row; without keys if the key is personal."""
    config, record = res.config, res.lake.record(Stage.VALID, key)
    content = {"key": config.key, "reasons": record.data.get("reasons", {}) if record else {}, "rows": []}
    path = res.lake.path(Stage.QUARANTINE, key)
    if config.key in config.personal or not path.is_file():
        return content
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            table = pq.read_table(file, columns=[config.key, "reasons"]).slice(0, MOST_ROWS)
    except (OSError, ValueError, EvergreenError):  # another alert says that the file is damaged
        return content
    return content | {"rows": [[str(row[config.key]), str(row["reasons"])] for row in table.to_pylist()]}


def contract_summary(checks: Mapping[str, Any], blocked: Sequence[str]) -> dict[str, Any]:
    """Summarise the checks of some partitions: how many there are, the partitions that are blocked, and the checks that failed."""
    failed: dict[int, list[str]] = {}
    for key, cells in zip(checks["partitions"], checks["cells"], strict=True):
        for at, cell in enumerate(cells):
            if cell:
                failed.setdefault(at, []).append(key)
    rules = checks["rules"]
    rows = [[rules[at]["name"], len(keys), ", ".join(keys[-3:])] for at, keys in failed.items()]
    return {
        "rules": len(rules),
        "blocked": list(blocked),
        "quarantined": sum(own["rows"] for own in checks["quarantine"].values()),
        "failed": sorted(rows),
    }
