"""What a person sees of some processed days: artifacts and events on the server, and the status in a terminal."""

import io
import time
from datetime import datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from rich.console import Console

from flows.process import process
from ops.status import Overview, print_or_error
from ops.status_model import print_model
from ops.status_servers import Deployments
from tasks.contracts import PartitionRun, Stage
from tasks.contracts.words import percent
from tasks.orchestration.events import RESEND_AFTER, resend_undecided
from tasks.reports.artifacts import step_table
from tasks.resources import open_resources
from tests.flows.conftest import SHIFTED, STEADY

pytestmark = pytest.mark.usefixtures("processed")
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
    """Wait until the server has stored the events of a fact, which is some time after the call that sends them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        matches = [e for e in events() if e["payload"]["fact_id"] == fact]
        if len(matches) >= count:
            return matches
        time.sleep(0.2)
    raise AssertionError(f"{len(matches)} of {count} events of fact {fact} arrived")


def test_the_fact_was_sent_as_an_event_with_all_that_a_reaction_needs():
    fact = open_resources("tiny").ledger.facts()[0]
    event = wait_for_events(fact.id, 1)[0]
    assert event["resource"]["evergreen.model"] == "tiny"
    assert event["resource"]["evergreen.partition"] == SHIFTED
    assert event["payload"]["as_of"] == "2024-03-19T00:00:00+00:00"
    assert {s["column"] for s in event["payload"]["signals"]} == {s["column"] for s in fact.payload["signals"]}
    assert event["payload"]["drift_share"] >= event["payload"]["threshold"]


def test_a_fact_without_a_decision_is_sent_again_after_a_time_and_not_before():
    res = open_resources("tiny")
    fact = res.ledger.facts()[0]
    assert res.ledger.decision(fact.id) is None

    @flow
    def resend(now: datetime) -> list[str]:
        return [f.id for f in resend_undecided(res, now)]

    before = len(wait_for_events(fact.id, 1))
    assert resend(fact.recorded_at + RESEND_AFTER - timedelta(seconds=1)) == []
    assert resend(fact.recorded_at + RESEND_AFTER + timedelta(seconds=1)) == [fact.id]
    again = wait_for_events(fact.id, before + 1)
    assert again[-1]["payload"] == again[0]["payload"]


def test_a_runs_page_begins_with_its_headline_which_is_its_state_message_too():
    state = process(model="tiny", partition=STEADY, return_state=True)
    page = latest("tiny-process")
    assert page["data"].startswith(f"**{state.message}**")
    assert page["description"] == state.message == f"tiny: everything is fresh ({STEADY}); nothing to do."


def test_every_flow_writes_its_page_and_its_table():
    assert {k: latest(f"tiny-{k}")["type"] for k in ("process", "assess", "backfill", "train")} == dict.fromkeys(
        ("process", "assess", "backfill", "train"), "markdown"
    )
    assert {k: latest(f"tiny-{k}")["type"] for k in ("partitions", "drift", "gate", "grid", "performance")} == (
        dict.fromkeys(("partitions", "drift", "gate", "grid", "performance"), "table")
    )


def test_the_champions_run_in_mlflow_links_to_its_training_and_its_drift_reports():
    """The project of the link is the folder that Evidently's server reads."""
    res = open_resources("tiny")
    champion = res.ledger.champion()
    note = res.registry.client.get_run(champion.run_id).data.tags["mlflow.note.content"]
    assert f"/runs/flow-run/{champion.flow_run})" in note
    project = note.split("/projects/")[1].split(")")[0]
    assert (res.settings.evidently_workspace / project).is_dir()


def test_a_run_has_the_name_of_its_model_and_partitions():
    names = {f"process tiny {SHIFTED}", f"process tiny {STEADY}", "backfill tiny 2024-03-12 to 2024-03-16"}
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=sorted(names))))
    assert {run.name for run in runs} == names


def test_the_step_table_has_a_column_for_each_step():
    run = PartitionRun("2024-03-01", (("ingest", "made", ""), ("score", "waiting", "no champion")))
    assert step_table([run]) == [
        "| partition | ingest | score |",
        "|---|---|---|",
        "| 2024-03-01 | made | waiting |",
    ]


def test_the_status_shows_grid_champion_and_events():
    out = Console(file=io.StringIO(), width=120)
    res = open_resources("tiny")
    print_model(res, out)
    text = out.file.getvalue()
    assert f"champion: version {res.ledger.champion().version}" in text
    (fact,) = res.ledger.facts()
    assert f"  drift in {SHIFTED}: " in text
    assert fact.id not in text
    assert "  the source has 9 partitions, 2024-03-18 to 2024-03-26; none is processed\n" in text
    row = next(line for line in text.splitlines() if STEADY in line and "fresh" in line)
    assert row.split() == [STEADY, *["fresh"] * 6, ".", *["fresh"] * 2], "there was no previous champion"


def test_a_broken_model_is_reported_and_does_not_hide_the_others(processed):
    out = Console(file=io.StringIO(), width=120)
    (processed / "configs" / "broken").mkdir()
    (processed / "configs" / "broken" / "model.yaml").write_text("name: broken\n")
    assert [print_or_error(name, Deployments(), [], out) for name in ("broken", "tiny")] == [2, 0], "exit codes"
    assert "broken/model.yaml" in out.file.getvalue()
    overview = Overview()
    for name in ("broken", "tiny"):
        overview.add(name, Deployments())
    assert overview.code == 2
    assert "broken/model.yaml" in next(alert.message for name, alert in overview.alerts if name == "broken")
    (row,) = overview.rows
    res = open_resources("tiny")
    measured = res.lake.done(Stage.PERFORMANCE, SHIFTED).data
    assert row[0] == "tiny"
    assert row[2:7] == (
        f"v{res.ledger.champion().version}",
        SHIFTED,
        SHIFTED,
        f"{measured['metrics']['log_loss']:.3f}",
        percent(measured["skill"]),
    )
