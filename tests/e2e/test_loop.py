"""The full loop on real servers: a copy of the repository, a new model, and a retraining that a drift event starts."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from ops.supervision import find_processes
from tests.copies import Copy
from tests.flows.conftest import SHIFTED, STEADY
from tests.receiver import webhook

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def received() -> Iterator[list[dict]]:
    """The notifications that a local webhook received, as JSON bodies. The first item is the address of the webhook."""
    with webhook() as (host, bodies):
        bodies.append({"address": f"http://{host}/hook"})
        yield bodies


@pytest.fixture(scope="module")
def copy(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, received: list[dict]) -> Iterator[Copy]:
    """A copy of the repository with the models flights and tiny, and with a running stack."""
    copy = Copy(tmp_path_factory.mktemp("copy"))
    copy.env["EVERGREEN_NOTIFY_URL"] = received[0]["address"]
    copy.add_tiny(tiny_source)
    try:
        copy.up()
        yield copy
    finally:
        copy.down()


@pytest.fixture(scope="module")
def stack(copy: Copy) -> Copy:
    """The copy, with a champion of tiny and sixteen days without drift."""
    copy.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-10")
    copy.deployment("train/tiny", reason="first champion")
    copy.deployment("process/tiny", partition=STEADY)
    copy.deployment("assess/tiny", partition=STEADY)
    copy.deployment("backfill/manual", model="tiny", start="2024-03-12", end="2024-03-16")
    return copy


def test_drift_retrains_by_event_and_automation_alone(stack):
    assert stack.runs_of("retrain") == []
    stack.deployment("process/tiny", partition=SHIFTED)
    run = stack.wait_for("retrain", {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, 600)

    assert run["created_by"]["type"] == "AUTOMATION"
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["parameters"]["model"] == "tiny"
    assert run["parameters"]["partition"] == SHIFTED
    status = stack.run("python", "-m", "ops.status", "tiny")
    assert f"drift in {SHIFTED}: retrained" in status
    assert "retrained" in status
    assert [r["parameters"]["model"] for r in stack.runs_of("retrain")] == ["tiny"]
    alias, by_client, champion = stack.run("python", "-c", ALIASES).split()
    assert alias == by_client == champion
    assert int(champion) > 1


def test_a_promotion_and_a_blocked_partition_send_a_notification(stack, received):
    champion = stack.run(
        "python", "-c", "from tasks.resources import open_resources as o; print(o('tiny').champion().version)"
    )
    wait_until(lambda: any(f"version {champion.split()[-1]}: " in body.get("body", "") for body in received))
    promoted = [body for body in received if "evergreen.model.promoted" in body.get("subject", "")]
    assert promoted[0]["subject"] == "tiny: evergreen.model.promoted"
    assert any(f"version {champion.split()[-1]}: " in body["body"] for body in promoted)
    assert all("/models/tiny/versions/" in body["body"] for body in promoted)

    path = stack.folder / "data" / "parcels-2024-03-18.parquet"
    original = path.read_bytes()
    pd.read_parquet(path).assign(weight=99.0).to_parquet(path, index=False)
    stack.failing.add(stack.begin("process/tiny", partition="2024-03-18"))
    wait_until(lambda: any("Failed" in body.get("subject", "") for body in received))
    failures = {(body["subject"], body["body"]) for body in received if "Failed" in body.get("subject", "")}
    # A set, because Prefect sends a notification twice if it could not record the first.
    assert len(failures) == 1, failures
    ((subject, body),) = failures
    assert subject.startswith("process tiny 2024-03-18: Failed")
    assert "blocked, first 2024-03-18: weight" in body
    assert "/runs/flow-run/" in body
    path.write_bytes(original)
    assert received[0]["address"] not in (stack.folder / ".evergreen" / "logs" / "deploy.log").read_text()


ALIASES = """
from tasks.registry import Registry
from tasks.resources import open_resources
res = open_resources("tiny")
assert res.registry.is_open_server
assert res.registry.alias("challenger") == res.registry._alias_by_client("challenger")
assert Registry(res.registry.uri, "nobody", res.registry.cache).alias() is None
print(res.registry.alias(), res.registry._alias_by_client("champion"), res.ledger.champion().version)
"""


BURST = """
from dataclasses import replace
from tasks.orchestration.events import emit, flush
from tasks.resources import open_resources
fact = next(f for f in open_resources("tiny").ledger.facts() if f.partition == "2024-03-20")
for _ in range(10):
    emit(fact)
    emit(replace(fact, model="flights"))
assert flush()
print(fact.id)
"""


@pytest.mark.slow
def test_ten_events_of_one_fact_start_one_run_and_none_of_another_model(stack):
    """The events are in addition to the one of `process`. Those of flights start one run, for which the fact does not exist."""
    # The training window must have no gap.
    stack.deployment("backfill/manual", model="tiny", start="2024-03-17", end="2024-03-19")
    stack.deployment("process/tiny", partition="2024-03-20")
    fact = stack.run("python", "-c", BURST).split()[-1]
    before = len(stack.runs_of("retrain"))
    wait_until(lambda: {r["parameters"]["model"] for r in runs_about(stack, fact)} == {"tiny", "flights"})
    time.sleep(20)  # longer than Prefect needs to create another run
    runs = runs_about(stack, fact)
    assert sorted(r["parameters"]["model"] for r in runs) == ["flights", "tiny"]
    assert len(stack.runs_of("retrain")) <= before + 2
    wait_until(lambda: all(r["state_type"] in ENDED for r in runs_about(stack, fact)))
    stack.failing |= {r["id"] for r in runs_about(stack, fact) if r["parameters"]["model"] == "flights"}
    decisions = stack.run("python", "-c", DECISIONS)
    assert decisions.count(fact) == 1, decisions


DECISIONS = """
from tasks.resources import open_resources
for d in open_resources("tiny").ledger.decisions():
    print(d.fact_id, d.action, d.rule, d.outcome)
"""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def runs_about(copy: Copy, fact: str) -> list[dict]:
    return [r for r in copy.runs_of("retrain") if r["parameters"].get("fact") == fact]


def wait_until(condition, seconds: float = 300) -> None:
    """Call `condition` every second until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds:.0f} s"
        time.sleep(1)


DRIFT_WITHOUT_SERVER = """
import os
from tasks.orchestration.events import emit
from tasks.resources import open_resources
from tasks.lifecycle.facts import process_facts
from tasks.steps.step import NotDue, advance
from tasks.steps.order import PROCESS
res = open_resources("tiny")
ref = res.ref("2024-03-24")
for step in PROCESS:
    try:
        advance(step, ref, res)
    except NotDue:
        pass
fact = next(process_facts(ref, res))
assert res.ledger.record_fact(fact)
emit(fact)
print(fact.id, flush=True)
os._exit(0)  # as if the process were killed
"""
MAKE_FACTS_OLDER = """
import sqlalchemy as sa
from tasks.ledger.tables import facts
from tasks.resources import open_resources
from datetime import UTC, datetime, timedelta
with open_resources("tiny").ledger.engine.begin() as con:
    con.execute(sa.update(facts).values(recorded_at=datetime.now(UTC) - timedelta(minutes=10)))
"""


@pytest.mark.slow
def test_drift_detected_without_a_server_is_decided_when_the_server_is_back(stack):
    """The event is lost, but the fact is in the database. `remind` sends its event again."""
    stack.deployment("backfill/manual", model="tiny", start="2024-03-17", end="2024-03-23")
    stack.down()
    shift(stack, "2024-03-24", 10)
    fact = stack.run("python", "-c", DRIFT_WITHOUT_SERVER).split()[-1]
    stack.up()
    assert runs_about(stack, fact) == []
    stack.run("python", "-c", MAKE_FACTS_OLDER)  # `remind` sends facts again that are older than two minutes
    stack.deployment("remind/all")
    wait_until(lambda: any(r["state_type"] in ENDED for r in runs_about(stack, fact)), 600)
    (run,) = runs_about(stack, fact)
    assert (run["created_by"]["type"], run["state_type"]) == ("AUTOMATION", "COMPLETED")
    assert stack.run("python", "-c", DECISIONS).count(fact) == 1


@pytest.mark.slow
def test_a_lost_event_delays_the_retraining_until_remind_sends_it_again(stack):
    """The automation is disabled when the event is sent, as if Prefect had lost it. The schedule of `remind/all` sends it again."""
    before, name = {run["id"] for run in stack.runs_of("remind")}, "retrain tiny on facts"
    (automation,) = [a for a in stack.ask("automations/filter", {}) if a["name"] == name]
    stack.ask(f"automations/{automation['id']}", {"enabled": False}, "PATCH")
    stack.deployment("backfill/manual", model="tiny", start="2024-03-17", end="2024-03-24")
    shift(stack, "2024-03-25", 40)
    stack.deployment("process/tiny", partition="2024-03-25")
    fact = stack.run("python", "-c", NEWEST_FACT).split()[-1]
    time.sleep(10)  # longer than the automation needs
    assert runs_about(stack, fact) == []
    stack.ask(f"automations/{automation['id']}", {"enabled": True}, "PATCH")
    stack.run("python", "-c", MAKE_FACTS_OLDER)
    with scheduled_every(20, "remind/all", stack):
        wait_until(lambda: any(r["state_type"] in ENDED for r in runs_about(stack, fact)))
    (run,) = runs_about(stack, fact)
    assert (run["created_by"]["type"], run["state_type"]) == ("AUTOMATION", "COMPLETED")
    reminders = [r for r in stack.runs_of("remind") if r["id"] not in before and r["state_type"] == "COMPLETED"]
    assert {r["created_by"]["type"] for r in reminders} == {"SCHEDULE"}
    assert stack.run("python", "-c", DECISIONS).count(fact) == 1


def shift(copy: Copy, day: str, by: float) -> None:
    """Make the parcels of a day heavier than any before: a column that is different each day counts only if it is further away."""
    path = copy.folder / "data" / f"parcels-{day}.parquet"
    rows = pd.read_parquet(path)
    rows.assign(weight=rows["weight"] + by).to_parquet(path, index=False)


NEWEST_FACT = """
from tasks.resources import open_resources
(fact,) = [f for f in open_resources("tiny").ledger.facts() if f.partition == "2024-03-25" and f.kind == "drift"]
print(fact.id)
"""


@contextmanager
def scheduled_every(seconds: int, deployment: str, copy: Copy) -> Iterator[None]:
    """Add a temporary schedule to a deployment, from the command line."""
    copy.run("prefect", "deployment", "schedule", "create", deployment, "--interval", str(seconds))
    flow, _, name = deployment.partition("/")
    (known,) = [d for d in copy.ask("deployments/filter", {"flows": {"name": {"any_": [flow]}}}) if d["name"] == name]
    (added,) = [s for s in known["schedules"] if "interval" in s["schedule"]]
    try:
        yield
    finally:
        copy.run("prefect", "deployment", "schedule", "delete", deployment, added["id"], "--accept-yes")


@pytest.mark.slow
def test_backfills_leave_a_slot_of_the_worker_for_other_runs(stack):
    """The worker runs four flow runs at once. Of five backfills at most three run, so that a later run does not wait for the rest."""
    for _ in range(5):
        given = ("-p", "model=tiny", "-p", "start=2024-03-01", "-p", "end=2024-03-24", "-p", "mode=all")
        stack.run("prefect", "deployment", "run", "backfill/manual", *given)
    stack.deployment("process/tiny", partition="2024-03-11")
    began = stack.newest("process")["start_time"]
    wait_until(lambda: all(r["state_type"] in ENDED for r in stack.runs_of("backfill")), 900)
    backfills = sorted(stack.runs_of("backfill"), key=lambda run: run["start_time"])[-5:]
    assert all(run["work_queue_name"] == "backfills" for run in backfills)
    assert began < backfills[-1]["start_time"], "the run waited until all backfills had started"
    for run in backfills:
        parallel = [r for r in backfills if r["start_time"] <= run["start_time"] < r["end_time"]]
        assert len(parallel) <= 3, "at most three backfills run at once"


@pytest.mark.slow
def test_a_cancelled_backfill_stops_between_partitions_and_reports_its_progress(stack):
    """The button in the UI sets the run's state. The worker then signals the process, which completes the partitions in progress."""
    given = (
        "-p",
        "model=tiny",
        "-p",
        "start=2024-03-01",
        "-p",
        "end=2024-03-16",
        "-p",
        "mode=all",
        "-p",
        "concurrency=1",
    )
    stack.run("prefect", "deployment", "run", "backfill/manual", *given)
    run = stack.wait_for("backfill", {"RUNNING"}, 120)
    tasks = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    wait_until(lambda: len(stack.ask("task_runs/filter", tasks)) >= 2, 120)
    stack.failing.add(run["id"])  # Prefect logs the end of a cancelled run as an error
    response = stack.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert response["status"] == "ACCEPT", response
    wait_until(lambda: stack.newest("backfill")["state_type"] in ENDED, 120)
    ended = stack.newest("backfill")
    assert (ended["id"], ended["state_type"]) == (run["id"], "CANCELLED")
    assert "not started; run it again with mode=missing to continue" in ended["state"]["message"]
    assert "incomplete" not in ended["state"]["message"]


@pytest.mark.slow
def test_a_backfill_whose_worker_is_killed_crashes_at_once_and_the_next_one_completes_it(stack):
    """Prefect sets the state of a run that has lost its worker to CRASHED. The stack has started a new worker by then."""
    parameters = {
        "model": "tiny",
        "start": "2024-03-11",
        "end": "2024-03-24",
        "override": {"monitoring": {"alpha": 0.04}},
    }
    given = [part for k, v in parameters.items() for part in ("-p", f"{k}={json.dumps(v)}")]
    stack.run("prefect", "deployment", "run", "backfill/manual", *given, "-p", "concurrency=1")
    run = stack.wait_for("backfill", {"RUNNING"}, 120)
    processes = find_processes(stack.folder / ".evergreen", "worker")
    workers = [process for process in processes if process.ppid() not in {p.pid for p in processes}]
    assert workers
    stack.failing.add(run["id"])
    stack.kill("worker", workers)
    wait_until(lambda: stack.newest("backfill")["state_type"] in ENDED, 120)
    ended = stack.newest("backfill")
    assert (ended["id"], ended["state_type"]) == (run["id"], "CRASHED"), ended["state"]
    stack.deployment("backfill/manual", **parameters)
    assert "brought up to date" in stack.newest("backfill")["state"]["message"]
    stack.deployment("backfill/manual", **parameters)
    assert "nothing to do for 14 partitions" in stack.newest("backfill")["state"]["message"]


@pytest.mark.slow
def test_a_run_killed_with_its_worker_is_set_to_crashed_by_the_automation(stack):
    given = [
        part
        for k, v in (("model", "tiny"), ("start", "2024-03-01"), ("end", "2024-03-24"), ("mode", "all"))
        for part in ("-p", f"{k}={v}")
    ]
    stack.run("prefect", "deployment", "run", "backfill/manual", *given)
    lost = stack.wait_for("backfill", {"RUNNING"}, 120)
    time.sleep(2)
    processes = find_processes(stack.folder / ".evergreen", "worker")
    assert len(processes) > 1, "the worker and its flow run"
    stack.failing.add(lost["id"])
    stack.kill("worker", processes)

    run = stack.wait_for("backfill", {"CRASHED", "COMPLETED", "FAILED"}, 600)
    assert run["id"] == lost["id"]
    assert run["state_type"] == "CRASHED"
    assert "no heartbeat" in run["state"]["message"]

    stack.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-24")
    assert stack.newest("backfill")["state_type"] == "COMPLETED"
