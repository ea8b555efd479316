"""Drift by column and partition: scores as shares of their thresholds, and for each partition its tests and distributions."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contracts import Stage
from tasks.contracts.words import number, percent
from tasks.lifecycle.facts import snapshot_url
from tasks.reports.summary import PartitionSummary
from tasks.resources import Resources
from tasks.steps.drift_verdict import ALWAYS, drift_at, drift_verdicts
from tasks.steps.explain import loss_text
from tasks.steps.step import done_record
from tasks.steps.watch import distributions_file

SIGNALS = (
    "column",
    "test",
    "score",
    "threshold",
    "p-value",
    "result",
    "loss change by it alone",
    "importance",
    "against",
    "note",
)
"""The columns of a partition's tests."""


def drift_by_column(res: Resources, keys: Sequence[str]) -> dict[str, Any]:
    """Return for each partition with a drift check, and each column, the largest score as a share of its threshold.

    Returns:
        `columns`, those first that drifted most often, then by importance. `cells` by partition and column: None if the column was not
        tested, else the share (None without a threshold) and 1 if it drifted, 2 if it is always different, else 0.
    """
    verdicts = drift_verdicts(keys, res)
    tested = [key for key in keys if key in verdicts and verdicts[key]["rows"]]
    own = {key: _cells(verdicts[key]["columns"]) for key in tested}
    importance = {
        c["column"]: c["importance"] for key in tested for c in verdicts[key]["columns"] if c.get("importance")
    }
    names = {name for cells in own.values() for name in cells}
    count = {name: sum(cells.get(name, (None, 0))[1] == 1 for cells in own.values()) for name in names}
    columns = sorted(names, key=lambda name: (-count[name], -(importance.get(name) or 0.0), name))
    return {
        "columns": [
            {"name": n, "note": f"importance {percent(importance.get(n)) or 'unknown'}; drifted in {count[n]}"}
            for n in columns
        ],
        "partitions": tested,
        "cells": [[own[key].get(name) for name in columns] for key in tested],
        "files": f"{res.config.name}/drift/KEY.json",
        "verdicts": {key: verdicts[key] for key in tested},
    }


def _cells(signals: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float | None, int]]:
    """Return share and flag of each column, from the test that counts most."""
    cells: dict[str, tuple[float | None, int]] = {}
    for c in signals:
        limit = c["threshold"]
        share = round(c["score"] / limit, 4) if limit and c["score"] is not None else None
        flag = 1 if c["drifted"] else 2 if c["note"].startswith(ALWAYS) else 0
        before = cells.get(c["column"])
        if before is None or ((flag == 1, flag, share or 0.0) > (before[1] == 1, before[1], before[0] or 0.0)):
            cells[c["column"]] = (share, flag)
    return cells


def distributions_digest(res: Resources, key: str) -> str:
    """Return the digest of a partition's stored distributions, as its record has it; empty if there are none."""
    record = res.lake.record(Stage.MONITORING, key)
    files = record.run.files if record and record.run else {}
    return next((digest for path, digest in files.items() if path.endswith(".distributions")), "")


def partition_drift(res: Resources, key: str, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tests of a partition's columns as rows of a table, and the stored distributions, empty if there are none."""
    path = distributions_file(key, res)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"columns": SIGNALS, "signals": [signal_row(c) for c in verdict["columns"]], "distributions": stored}


def signal_row(c: Mapping[str, Any]) -> list[str]:
    """Return one test of a column as a row of a table with the columns `SIGNALS`."""
    result = "drifted" if c["drifted"] else ALWAYS if c["note"].startswith(ALWAYS) else "no drift"
    return [
        c["column"], c["method"], number(c["score"]), number(c["threshold"]), number(c["p_value"], 4),
        result if c["threshold"] is not None else "not tested", loss_text(c), percent(c["importance"]), c["reference"], c["note"],
    ]  # fmt: skip


def drift_now(res: Resources, shown: Sequence[PartitionSummary], most: int) -> dict[str, Any] | None:
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
            link, note = snapshot_url(record, res), record.data["note"]
            return {"key": s.key, "columns": rows[:most], "link": link, "note": note}
    return None
