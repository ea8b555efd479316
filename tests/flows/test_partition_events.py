"""Events about partitions, for flows elsewhere that use the outputs."""

import time
from typing import Any

import pandas as pd
import pytest
from prefect.events import emit_event

from flows.assess import assess
from flows.process import process
from tasks.contracts import Stage
from tasks.orchestration import events as events_module
from tasks.orchestration.events import ASSESSED, BLOCKED, PROCESSED
from tasks.resources import open_resources
from tests.conftest import ROWS, day_file
from tests.flows.conftest import parcels_of
from tests.flows.test_controller import day, events

DAY, SEED = 10, 500
"""A day whose rows no other file of tests has, so that its events are not those of others."""


def wait_for(name: str, count: int) -> list[dict]:
    """Payloads of the events of our day, once there are as many."""
    deadline = time.monotonic() + 60
    while len(found := [e for e in events(name) if e["payload"]["partition"] == day(DAY)]) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} events {name}"
        time.sleep(0.2)
    return found


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The names of the events that were sent. The server keeps an event that is sent twice once."""
    names: list[str] = []

    def emit(**event: Any) -> None:
        names.append(event["event"])
        emit_event(**event)

    monkeypatch.setattr(events_module, "emit_event", emit)
    return names


def test_a_processed_and_an_assessed_partition_say_where_its_predictions_are_and_what_they_are_worth(champion, sent):
    parcels_of(champion, DAY, SEED)
    before = len(wait_for(PROCESSED, 0)), len(wait_for(ASSESSED, 0))
    path = day_file(champion, DAY)
    for _ in range(2):  # the second time the file is another one with the same rows
        process(model="tiny", partition=day(DAY))
        assess(model="tiny", partition=day(DAY))
        pd.read_parquet(path).assign(unused=1).to_parquet(path, index=False)
    res = open_resources("tiny")
    scored, valid = (res.lake.done(stage, day(DAY)) for stage in (Stage.PREDICTIONS, Stage.VALID))
    processed = wait_for(PROCESSED, before[0] + 1)[-1]
    assert processed["resource"]["prefect.resource.id"] == "evergreen.model.tiny"
    assert processed["resource"]["evergreen.partition"] == day(DAY)
    payload = processed["payload"]
    predictions = pd.read_parquet(payload.pop("predictions"))
    assert (len(predictions), set(predictions["model_version"])) == (valid.rows, {payload["version"]})
    assert payload == {
        "model": "tiny", "partition": day(DAY), "as_of": "2024-03-13T00:00:00+00:00", "rows": ROWS, "quarantined": 0, "late_rows": 0,
        "version": scored.data["version"], "drifted": res.lake.done(Stage.MONITORING, day(DAY)).data["detected"], "digest": scored.digest,
    }  # fmt: skip
    assessed = wait_for(ASSESSED, before[1] + 1)[-1]["payload"]
    measured = res.lake.done(Stage.PERFORMANCE, day(DAY)).data
    assert (assessed["loss"], assessed["value"]) == ("log_loss", measured["metrics"]["log_loss"])
    assert assessed["interval"][0] < assessed["value"] < assessed["interval"][1]
    assert (assessed["labelled"], assessed["pending"], assessed["version"]) == (ROWS - 3, 0, scored.data["version"])
    assert [name for name in sent if name in (PROCESSED, ASSESSED)] == [PROCESSED, ASSESSED], "once each"


def test_a_blocked_partition_says_at_which_step_and_why(champion, sent):
    path = day_file(champion, DAY)
    parcels_of(champion, DAY, SEED + 1)
    pd.read_parquet(path).assign(weight=99.0).to_parquet(path, index=False)
    before = len(wait_for(BLOCKED, 0))
    process(model="tiny", partition=day(DAY), return_state=True)
    pd.read_parquet(path).assign(unused=1).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY), return_state=True)
    assert [name for name in sent if name in (PROCESSED, BLOCKED)] == [BLOCKED], "it is blocked for the same reason"
    payload = wait_for(BLOCKED, before + 1)[-1]["payload"]
    assert payload["step"] == "validate"
    assert "weight" in payload["reason"]
