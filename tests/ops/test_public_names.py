"""docs/public-names.md lists the persisted and published names. Each list is computed from the code and compared with the page.

A difference means that a name was added, renamed or removed. A new name belongs on the page. A renamed or removed one breaks stored
data or other people's code.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from configs.load import load_model
from configs.schema import ModelConfig
from configs.settings import ROOT, Settings
from ops.check import flow_of, read_deployments
from tasks import catalogue
from tasks.contracts import (
    Action,
    Decision,
    Fact,
    FactKind,
    Hindsight,
    ModelStage,
    PartitionRef,
    PartitionRun,
    Period,
    Promotion,
    Record,
    RunInfo,
    Stage,
)
from tasks.ledger.tables import metadata
from tasks.lifecycle import estimates, facts, partition_events
from tasks.lifecycle.lateness import Overdue
from tasks.lifecycle.overdue import late_fact, old_fact
from tasks.orchestration import events
from tasks.orchestration.on_arrival import TAG
from tasks.registry import CHALLENGER, CHAMPION
from tasks.registry.versions import TAG_FIELDS
from tasks.sinks.records import Sent
from tasks.steps import decay
from tasks.steps.drift_verdict import judge_drift
from tasks.steps.order import ALL
from tests.ops.test_prometheus_files import exported

PAGE = ROOT / "docs" / "public-names.md"
Names = Mapping[str, tuple[str, ...]]
"""Names of a section, each with the names below it (parameters, columns, keys), in the order of the code."""
NOW = datetime(2013, 7, 1, tzinfo=UTC)
SIGNAL = {"column": "a", "method": "m", "score": 1.0, "threshold": 0.1, "drifted": True}
LINKS = {"project": "p", "snapshot": "s", "report": "r"}


def deployments() -> Names:
    names = {}
    for deployment in read_deployments():
        flow, name = flow_of(deployment), deployment["name"]
        name = "<model>" if name == deployment.get("parameters", {}).get("model") else name
        function = getattr(import_module(f"flows.{flow}"), flow).fn
        names[f"{flow}/{name}"] = tuple(inspect.signature(function).parameters)
    return dict(sorted(names.items()))


def observed_facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fact]:
    """Yield facts of every kind, built by the functions that production uses from records with the fields that they read."""
    ref = PartitionRef("flights", "2013-06", NOW, NOW, NOW, NOW)
    config = load_model("flights").config
    rules = config.retraining.signals.model_copy(
        update={"target": True, "partitions": 1, "estimate": SimpleNamespace(after=0)}
    )
    config = config.model_copy(update={"retraining": config.retraining.model_copy(update={"signals": rules})})
    registry = SimpleNamespace(version_url=str)
    lake = SimpleNamespace(keys=lambda *_: [])
    ledger = SimpleNamespace(promotions=list)
    ui = SimpleNamespace(evidently_ui="http://ui")
    res: Any = SimpleNamespace(config=config, registry=registry, flow_run="r", settings=ui, lake=lake, ledger=ledger)
    data = {
        "detected": True,
        "columns": [SIGNAL],
        "version": "1",
        "share": 1.0,
        "threshold": 0.1,
        "target": SIGNAL,
        "metrics": {"log_loss": 0.9},
        "outcomes": [[5_000]] * 30,
    } | LINKS
    data["blocks"] = [[day, 10_000, 9_000.0 + day] for day in range(30)]
    record = Record("flights", Stage.MONITORING, "2013-06", NOW, 1, "done", 1, "", {}, data)
    better = tuple((day, 10_000, 1_000.0 + day) for day in range(30))
    periods = [Period(better, ((5_000,),) * 30, (1_000.0,) * 30)] * 3
    for module, name, value in (
        (decay, "newest_records", [record]),
        (decay, "staged_periods", periods),
        (estimates, "staged_periods", periods),
        (facts, "done_record", record),
        (facts, "drift_at", judge_drift(data, [], config)),
    ):
        monkeypatch.setattr(module, name, lambda *_, value=value: value)
    champion = Promotion("flights", 1, "promote", "1", None, NOW, NOW, "evergreen", "")
    yield from facts.process_facts(ref, res)
    yield from facts.assess_facts(ref, res)
    due = facts.due_fact(ref, champion, NOW, 0, 1, res)
    assert due
    yield due
    retry = facts.retry_fact(Decision(due.id, "flights", NOW, "retrain", "due", "", outcome="failed"), due, 2)
    assert retry
    yield retry
    yield facts.person_fact(res, ref, "ann", "why")
    yield facts.alias_fact(champion, "2", res)
    yield late_fact("flights", Overdue("", NOW, "2013-06", "1"))
    yield old_fact("flights", Overdue("", NOW, "", "1"), 1)


def sent_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Yield every event that the code can send, as the keyword arguments for Prefect's `emit_event`."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    observed = list(observed_facts(monkeypatch))
    assert {fact.kind for fact in observed} == set(get_args(FactKind))
    for fact in observed:
        events.emit(fact)
    events.emit_decision(Decision(observed[0].id, "flights", NOW, "retrain", "drift", ""), observed[0])
    events.emit_hindsight(Hindsight("flights", 1, "2", "1", NOW, "helped", None, (), 0))
    row = Promotion("flights", 1, "promote", "2", "1", NOW, NOW, "evergreen", "")
    for action in get_args(Action):
        events.emit_change(replace(row, action=action), SimpleNamespace(registry=SimpleNamespace(version_url=str)))  # type: ignore[arg-type]
    for name, payload in partition_payloads():
        events.emit_partition(name, PartitionRef("flights", "2013-06", NOW, NOW, NOW, NOW), payload)
    yield from sent


def partition_payloads() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the payloads of the events about a partition, from records with the fields that they read."""
    data = {"version": "1", "detected": True, "metrics": {}, "intervals": {}, "mature": 1, "pending": 0}
    data |= {"columns": [SIGNAL], "threshold": 0.1}
    record = Record("flights", Stage.PREDICTIONS, "2013-06", NOW, 1, "done", 1, "", {}, data)
    lake = SimpleNamespace(
        record=lambda *_: record, done=lambda *_: record, file=lambda *_: "predictions.parquet", keys=lambda *_: []
    )
    ref = PartitionRef("flights", "2013-06", NOW, NOW, NOW, NOW)
    res: Any = SimpleNamespace(lake=lake, config=load_model("flights").config, ref=lambda *_: ref)
    yield events.PROCESSED, partition_events.processed_payload(ref, res)
    yield (
        events.BLOCKED,
        partition_events.blocked_payload(PartitionRun("2013-06", (("validate", "blocked", "why"),), "why")),
    )
    yield events.ASSESSED, partition_events.assessed_payload(ref, res)


def event_payloads(monkeypatch: pytest.MonkeyPatch) -> Names:
    keys: dict[str, set[str]] = {}
    for event in sent_events(monkeypatch):
        keys.setdefault(event["event"], set()).update(event["payload"])
    return {name: tuple(sorted(payload)) for name, payload in sorted(keys.items())}


def starting_events() -> Names:
    expected = {event for d in read_deployments() for trigger in d.get("triggers", []) for event in trigger["expect"]}
    return dict.fromkeys(sorted({event for event in expected if event.endswith(".updated")} | {TAG}), ())


def event_labels(monkeypatch: pytest.MonkeyPatch) -> Names:
    return dict.fromkeys(sorted({label for event in sent_events(monkeypatch) for label in event["resource"]}), ())


def tables() -> Names:
    return {table.name: tuple(table.columns.keys()) for table in metadata.tables.values()}


def values() -> Names:
    """The values of columns and keys that have a fixed set of values."""
    decision = get_type_hints(Decision)
    return {
        "record status": get_args(get_type_hints(Record)["status"]),
        "dataset": tuple(Stage),
        "model stage": tuple(filter(None, get_args(ModelStage))),
        "ledger action": get_args(Action),
        "assurance": get_args(get_type_hints(Promotion)["assurance"]),
        "fact kind": get_args(FactKind),
        "decision action": get_args(decision["action"]),
        "decision outcome": tuple(filter(None, get_args(decision["outcome"]))),
        "hindsight verdict": get_args(get_type_hints(Hindsight)["verdict"]),
    }


def records() -> Names:
    return {"record": names_of(Record), "run": names_of(RunInfo), "sent": names_of(Sent)}


def names_of(contract: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(contract))


def steps() -> Names:
    return {step.verb: (str(step.stage),) for step in ALL}


def strings_of(*folders: str) -> set[str]:
    """Return all string constants in the Python files below these folders."""
    trees = (
        ast.parse(path.read_text(encoding="utf-8")) for folder in folders for path in (ROOT / folder).rglob("*.py")
    )
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def mlflow_tags() -> Names:
    """The tags of a version, and the tags whose names are literals in the code. The prefix `evergreen.ledger.` is followed by a number."""
    literals = strings_of("tasks/registry", "tasks/reports")
    tags = {text for text in literals if re.fullmatch(r"evergreen(\.[a-z_]+)+\.?", text)}
    complete = {f"{text}<sequence>" if text.endswith(".") else text for text in tags}
    return dict.fromkeys(sorted(complete | {f"evergreen.{field}" for field in TAG_FIELDS}), ())


def aliases() -> Names:
    return {CHAMPION: (), CHALLENGER: ()}


def model_keys() -> Names:
    return dict.fromkeys(ModelConfig.model_fields, ())


def catalogue_load() -> Names:
    return {"from tasks.catalogue import load": tuple(inspect.signature(catalogue.load).parameters)}


def make_targets() -> Names:
    return dict.fromkeys(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M), ())


def settings() -> Names:
    """The fields of `Settings`, and the variables whose full names are literals in the code."""
    literals = strings_of("configs", "tasks", "flows", "serving", "ops")
    variables = {text for text in literals if re.fullmatch("EVERGREEN_[A-Z_]+[A-Z]", text)}
    return dict.fromkeys(sorted(variables | {f"EVERGREEN_{name.upper()}" for name in Settings.model_fields}), ())


def metrics() -> Names:
    return {name: tuple(sorted(labels)) for name, labels in sorted(exported().items()) if name != "up"}


SECTIONS = {
    "Deployments and their parameters": deployments,
    "Model aliases in MLflow": aliases,
    "Events and their payload keys": event_payloads,
    "Events that start runs, and the tag of `poll/all`": starting_events,
    "Labels of an event's resource": event_labels,
    "Tables of the ledger and their columns": tables,
    "Values": values,
    "Keys of a record": records,
    "Steps and what they write": steps,
    "MLflow tags": mlflow_tags,
    "Metrics and their labels": metrics,
    "Top-level keys of model.yaml": model_keys,
    "Python interface": catalogue_load,
    "Make targets": make_targets,
    "Environment settings": settings,
}


def listed(section: str) -> Names:
    """Return the names in the list of a section of the page: the first of each line, with the others below it."""
    text = PAGE.read_text(encoding="utf-8")
    part = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    lines = re.findall(r"^- .*$", part[1] if part else "", re.M)
    names = [re.findall("`([^`]+)`", line) for line in lines]
    return {first: tuple(others) for first, *others in names}


def as_list(names: Names) -> str:
    """Return names as the list in the page's Markdown."""
    return "\n".join(
        f"- `{name}`" + (": " if below else "") + ", ".join(f"`{n}`" for n in below) for name, below in names.items()
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_lists_the_names_of_the_code(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compute: Any = SECTIONS[section]
    names = compute(monkeypatch) if inspect.signature(compute).parameters else compute()
    assert names
    assert as_list(listed(section)) == as_list(names), f"update the list below `## {section}` in docs/public-names.md"


def test_the_page_has_no_other_section() -> None:
    assert re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.M) == list(SECTIONS)
