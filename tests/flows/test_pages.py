"""What a person sees of a played history: artifacts and events on the server, and the status in a terminal."""

import io
import time
from datetime import datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from rich.console import Console

from flows.process import process
from ops.status import model, model_or_error
from tasks.contracts import PartitionRun
from tasks.orchestration.events import PATIENCE, resend_undecided
from tasks.reports.artifacts import step_table
from tasks.resources import open_resources
from tests.flows.conftest import SHIFTED, STEADY

pytestmark = pytest.mark.usefixtures("played")
WHO = "evergreen.model.tiny"


def latest(key: str) -> dict:
    with get_client(sync_client=True) as client:
        answer = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key})
        return answer.json()


def events() -> list[dict]:
    body = {"filter": {"event": {"name": ["evergreen.drift.detected"]}, "resource": {"id": [WHO]}, "order": "ASC"}}
    with get_client(sync_client=True) as client:
        return client._client.post("/events/filter", json=body).json()["events"]


def wait_for_events(fact: str, count: int) -> list[dict]:
    """Events are sent and stored after the call that sends them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [e for e in events() if e["payload"]["fact_id"] == fact]
        if len(found) >= count:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{len(found)} of {count} events of fact {fact} arrived")


def test_the_fact_was_sent_as_an_event_that_a_later_reader_can_act_on():
    fact = open_resources("tiny").ledger.facts()[0]
    event = wait_for_events(fact.id, 1)[0]
    assert event["resource"]["evergreen.model"] == "tiny"
    assert event["resource"]["evergreen.partition"] == SHIFTED
    assert event["payload"]["as_of"] == "2024-03-19T00:00:00+00:00"
    assert {s["column"] for s in event["payload"]["signals"]} == {s["column"] for s in fact.payload["signals"]}
    assert event["payload"]["drift_share"] >= event["payload"]["threshold"]


def test_a_fact_without_a_decision_is_sent_again_after_a_while_and_only_then():
    res = open_resources("tiny")
    fact = res.ledger.facts()[0]
    assert res.ledger.decision(fact.id) is None

    @flow
    def ask(now: datetime) -> list[str]:
        return [f.id for f in resend_undecided(res, now)]

    before = len(wait_for_events(fact.id, 1))
    assert ask(fact.recorded_at + PATIENCE - timedelta(seconds=1)) == []
    assert ask(fact.recorded_at + PATIENCE + timedelta(seconds=1)) == [fact.id]
    again = wait_for_events(fact.id, before + 1)
    assert again[-1]["payload"] == again[0]["payload"]


def test_a_runs_page_begins_with_its_headline_which_is_its_state_too():
    state = process(model="tiny", partition=STEADY, return_state=True)
    page = latest("tiny-process")
    assert page["data"].startswith(f"**{state.message}**")
    assert page["description"] == state.message == f"tiny: everything is fresh ({STEADY}); nothing to do."


def test_every_flow_leaves_its_page_and_its_table():
    assert {k: latest(f"tiny-{k}")["type"] for k in ("process", "assess", "backfill", "train")} == dict.fromkeys(
        ("process", "assess", "backfill", "train"), "markdown"
    )
    assert {k: latest(f"tiny-{k}")["type"] for k in ("partitions", "drift", "gate", "grid", "performance")} == (
        dict.fromkeys(("partitions", "drift", "gate", "grid", "performance"), "table")
    )


def test_the_champions_run_in_mlflow_leads_to_its_training_and_to_what_is_watched():
    """The project of the link is the folder that Evidently's server reads."""
    res = open_resources("tiny")
    champion = res.ledger.champion()
    told = res.registry.client.get_run(champion.run_id).data.tags["mlflow.note.content"]
    assert f"/runs/flow-run/{champion.flow_run})" in told
    project = told.split("/projects/")[1].split(")")[0]
    assert (res.settings.evidently_workspace / project).is_dir()


def test_runs_are_named_after_what_they_are_about():
    wanted = {f"tiny {SHIFTED}", f"tiny {STEADY}", "tiny 2024-03-12 to 2024-03-16"}
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=sorted(wanted))))
    assert {run.name for run in found} == wanted


def test_a_page_tells_why_a_step_waits_and_shows_the_steps_as_columns():
    passage = PartitionRun("2024-03-01", (("ingest", "made", ""), ("score", "waiting", "no champion")))
    assert step_table([passage]) == [
        "| partition | ingest | score |",
        "|---|---|---|",
        "| 2024-03-01 | made | waiting |",
    ]


def test_the_status_shows_grid_champion_and_events():
    out = Console(file=io.StringIO(), width=120)
    res = open_resources("tiny")
    model(res, out)
    text = out.file.getvalue()
    assert f"champion: version {res.ledger.champion().version}" in text
    assert res.ledger.facts()[0].id in text
    row = next(line for line in text.splitlines() if STEADY in line and "fresh" in line)
    assert row.split() == [STEADY, *["fresh"] * 6, ".", *["fresh"] * 2], "nobody was champion before the first"


def test_a_broken_model_is_told_and_does_not_hide_the_others(played):
    out = Console(file=io.StringIO(), width=120)
    (played / "configs" / "broken").mkdir()
    (played / "configs" / "broken" / "model.yaml").write_text("name: broken\n")
    assert [model_or_error(name, out) for name in ("broken", "tiny")] == [2, 0], "exit codes"
    assert "broken/model.yaml" in out.file.getvalue()
