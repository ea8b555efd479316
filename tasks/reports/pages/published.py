"""The published contract on the data page: owner, versions, schema, freshness, and how the newest partitions kept the expectations."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from configs.schema import ModelConfig
from tasks.contracts import Record, Stage
from tasks.contracts.published import Promise, PublishedColumn, PublishedContract
from tasks.errors import UnreadableContract
from tasks.resources import Resources
from tasks.steps.publish import contract_problem
from tasks.storage.contract_changes import breaking_changes
from tasks.storage.partitions import NoPartition
from tasks.storage.published_contract import (
    History,
    promises_of,
    published_contract,
    read_history,
    version_of,
)

JUDGED = 12
"""The newest validated partitions, in which the page counts how expectations were kept."""
PERIODS = {"M": "month", "W": "week", "D": "day", "H": "hour"}


def describe_contract(keys: Sequence[str], types: Mapping[str, str], res: Resources) -> dict[str, Any]:
    """Return what the page shows of the contract.

    Args:
        keys: The partitions that the page lists, oldest first.
        types: Arrow types of the newest partition by column.
        res: The model's resources.
    """
    history, problem = known_history(res)
    records = [r for key in keys if (r := res.lake.record(Stage.VALID, key))]
    published = history[-1].contract if problem and history else published_contract(res.config)
    reported = [promise for promise in promises_of(res.config.expectations) if promise.severity == "info"]
    by_role = {column.role: name for name, column in published.columns.items()}
    return {
        "owner": res.config.contract.owner,
        "version": history[-1].version if history else res.config.contract.version,
        "problem": problem,
        "versions": _versions(history, records, res.config),
        "period": PERIODS[published.every],
        "timezone": published.timezone,
        "freshness": _freshness(published, res),
        "key": by_role["key"],
        "time": by_role["time"],
        "judged": len(records[-JUDGED:]),
        "promises": _kept_promises([*published.promises, *reported], records[-JUDGED:]),
        "columns": _columns(published, types, res.config),
    }


def known_history(res: Resources) -> tuple[History, str]:
    """Return the recorded versions, and what is wrong with them or with the present model.yaml; empty if nothing is."""
    try:
        history = read_history(res.lake)
    except UnreadableContract as error:
        return (), str(error)
    return history, contract_problem(res.model, history)


def _versions(history: History, records: Sequence[Record], config: ModelConfig) -> list[list[str]]:
    """Return number, first partition, moment, partitions of the valid rows, and breaking changes of each version, newest first."""
    done = [record for record in records if record.status == "done"]
    ranges: dict[int, list[str]] = {}
    for version, same in groupby(done, lambda record: version_of(record, history, config)):
        keys = [record.partition for record in same]
        ranges.setdefault(version, []).append(keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]}")
    rows = []
    for at, entry in enumerate(history):
        broken = breaking_changes(history[at - 1].contract, entry.contract) if at else ()
        listed, moment = ", ".join(ranges.get(entry.version, ["none"])), _moment(entry.recorded_at)
        rows.append([str(entry.version), entry.first, moment, listed, "; ".join(map(str, broken))])
    return rows[::-1]


def _freshness(contract: PublishedContract, res: Resources) -> list[list[str]]:
    """Return dataset, promised moment, newest partition, when it was due and when it was published."""
    period = PERIODS[contract.every]
    complete = f"complete {_after(contract.grace)} of the {period}"
    matured = f"outcomes matured {_after(max(contract.delay, contract.grace))} of the {period}"
    return [
        ["valid: rows that passed validation", complete, *_newest(Stage.VALID, res)],
        ["predictions", complete, *_newest(Stage.PREDICTIONS, res)],
        ["labels", matured, *_newest(Stage.LABELS, res)],
    ]


def _newest(stage: Stage, res: Resources) -> list[str]:
    """Return the newest published partition of a dataset, when it was due, and when its newest content was written."""
    keys = reversed(res.lake.keys(stage))
    record = next((r for key in keys if (r := res.lake.record(stage, key)) and r.status == "done"), None)
    if record is None:
        return ["none yet", "", ""]
    due, run = "", record.run
    with suppress(NoPartition):  # it is from before `partition.every` was changed
        ref = res.ref(record.partition)
        due = _moment(ref.matured if stage is Stage.LABELS else ref.complete)
    written = _moment(run.started + timedelta(seconds=run.seconds)) if run else "not recorded"
    return [record.partition, due, written]


def _after(span: timedelta) -> str:
    return f"{span_words(span)} after the end" if span else "at the end"


def span_words(span: timedelta) -> str:
    """Return a duration in words, such as `1 day` or `90 minutes`."""
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if not span % length:
            count = span // length
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    return f"{span.total_seconds():g} seconds"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _kept_promises(promises: Sequence[Promise], records: Sequence[Record]) -> list[list[str]]:
    """Return each check with how partitions kept it, those first that were not kept.

    A row has columns, rule, severity, the newest partition, the number of all partitions, and the rows that failed.
    """
    rows = []
    for promise in promises:
        kept = [_kept(promise, record) for record in records]
        checked = [k for k in kept if k is not None]
        newest = "not checked" if not kept or kept[-1] is None else "kept" if kept[-1][0] else "not kept"
        share = f"{sum(passed for passed, _ in checked)} of {len(checked)}" if checked else ""
        about = [", ".join(promise.columns) or "the table", promise.rule, promise.severity]
        failed = not all(passed for passed, _ in checked)
        count = f"{sum(count for _, count in checked):,}" if checked else ""
        rows.append((not failed, [*about, newest, share, count]))
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _kept(promise: Promise, record: Record) -> tuple[bool, int] | None:
    """Return whether a partition passed a check, and the rows that failed it; None if it was validated without the check.

    Several findings have the same check if model.yaml repeats one that every model has.
    """
    about = (promise.type, ", ".join(promise.columns), promise.severity)
    findings = [f for f in record.data.get("findings", ()) if (f["expectation"], f["column"], f["severity"]) == about]
    return (all(f["passed"] for f in findings), max(f["rows"] for f in findings)) if findings else None


def _columns(contract: PublishedContract, types: Mapping[str, str], config: ModelConfig) -> list[list[str]]:
    """Return name, Arrow type, role, whether it may be null, and meaning of each published column."""
    return [
        [
            name,
            types.get(name, column.type),
            _role(name, column, config),
            "yes" if column.nullable else "never",
            config.dictionary.get(name, ""),
        ]
        for name, column in contract.columns.items()
    ]


def _role(name: str, column: PublishedColumn, config: ModelConfig) -> str:
    """Return the role of a column with what else a reader has to know about it."""
    notes = ["a category" if column.type == "string" else "a number"] if column.role == "feature" else []
    notes += ["whole"] if column.whole else []
    notes += ["no feature"] if column.role == "group" else ["in the labels"] if column.role == "target" else []
    notes += ["retired: new versions of the model do not use it"] if name in config.features.retired else []
    notes += ["personal data"] if column.personal else []
    return ", ".join([column.role, *notes])
