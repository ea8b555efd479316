"""The whole loop on real servers: a copy of the repository, a model added to it, and a drift that retrains it by itself."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from ops.supervision import marked
from tests.copies import Copy
from tests.flows.conftest import SHIFTED, STEADY
from tests.receiver import receiving

pytestmark = [pytest.mark.e2e, pytest.mark.servers]


@pytest.fixture(scope="module")
def received() -> Iterator[list[dict]]:
    """What people were written to: every body that a webhook on this machine got. Its address is the list's first item."""
    with receiving() as (host, found):
        found.append({"address": f"http://{host}/hook"})
        yield found


@pytest.fixture(scope="module")
def copy(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, received: list[dict]) -> Iterator[Copy]:
    """The repository with the tiny model beside flights, its stack up; stopped afterwards."""
    folder = tmp_path_factory.mktemp("copy")
    made = Copy(folder)
    made.env["EVERGREEN_NOTIFY_URL"] = received[0]["address"]
    made.add_tiny(tiny_source)
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def living(copy: Copy) -> Copy:
    """The copy with a champion and sixteen steady days."""
    copy.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-10")
    copy.deployment("train/tiny", reason="first champion")
    copy.deployment("process/tiny", partition=STEADY)
    copy.deployment("assess/tiny", partition=STEADY)
    copy.deployment("backfill/manual", model="tiny", start="2024-03-12", end="2024-03-16")
    return copy


def test_drift_retrains_by_event_and_automation_alone(living):
    assert living.runs_of("retrain") == []
    living.deployment("process/tiny", partition=SHIFTED)
    run = living.wait_for("retrain", {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, 600)

    assert run["created_by"]["type"] == "AUTOMATION"
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["parameters"]["model"] == "tiny"
    assert run["parameters"]["partition"] == SHIFTED
    status = living.run("python", "-m", "ops.status")
    assert run["parameters"]["fact"] in status
    assert "retrained" in status
    assert [r["parameters"]["model"] for r in living.runs_of("retrain")] == ["tiny"]
    alias, by_client, champion = living.run("python", "-c", ALIASES).split()
    assert alias == by_client == champion
    assert int(champion) > 1


def test_people_are_told_of_a_promotion_and_of_data_that_were_blocked(living, received):
    champion = living.run(
        "python", "-c", "from tasks.resources import open_resources as o; print(o('tiny').champion().version)"
    )
    wait_until(lambda: any(f"version {champion.split()[-1]}: " in one.get("body", "") for one in received))
    promoted = [one for one in received if "evergreen.model.promoted" in one.get("subject", "")]
    assert promoted[0]["subject"] == "tiny: evergreen.model.promoted"
    assert any(f"version {champion.split()[-1]}: " in one["body"] for one in promoted)
    assert all("/models/tiny/versions/" in one["body"] for one in promoted)

    path = living.folder / "data" / "parcels-2024-03-18.parquet"
    kept = path.read_bytes()
    pd.read_parquet(path).assign(weight=99.0).to_parquet(path, index=False)
    living.failing.add(living.begin("process/tiny", partition="2024-03-18"))
    wait_until(lambda: any("Failed" in one.get("subject", "") for one in received))
    told = {(one["subject"], one["body"]) for one in received if "Failed" in one.get("subject", "")}
    # The same one may come twice: Prefect sends again where it could not note that it had sent.
    assert len(told) == 1, told
    ((subject, body),) = told
    assert subject.startswith("process tiny 2024-03-18: Failed")
    assert "blocked, first 2024-03-18: weight" in body
    assert "/runs/flow-run/" in body
    path.write_bytes(kept)
    assert received[0]["address"] not in (living.folder / ".evergreen" / "logs" / "deploy.log").read_text()


ALIASES = """
from tasks.registry import Registry
from tasks.resources import open_resources
res = open_resources("tiny")
assert res.registry.plain
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


def test_ten_events_of_one_fact_start_one_run_and_none_of_another_model(living):
    """Beside the event that `process` itself sends; the other model's ten start one run of its own, which knows no such fact."""
    living.deployment("backfill/manual", model="tiny", start="2024-03-19", end="2024-03-19")  # a training needs it
    living.deployment("process/tiny", partition="2024-03-20")
    fact = living.run("python", "-c", BURST).split()[-1]
    before = len(living.runs_of("retrain"))
    wait_until(lambda: {r["parameters"]["model"] for r in runs_about(living, fact)} == {"tiny", "flights"})
    time.sleep(20)  # longer than a run of the others would need to be created
    found = runs_about(living, fact)
    assert sorted(r["parameters"]["model"] for r in found) == ["flights", "tiny"]
    assert len(living.runs_of("retrain")) <= before + 2
    wait_until(lambda: all(r["state_type"] in ENDED for r in runs_about(living, fact)))
    living.failing |= {r["id"] for r in runs_about(living, fact) if r["parameters"]["model"] == "flights"}
    said = living.run("python", "-c", DECISIONS)
    assert said.count(fact) == 1, said


DECISIONS = """
from tasks.resources import open_resources
for d in open_resources("tiny").ledger.decisions():
    print(d.fact_id, d.action, d.rule, d.outcome)
"""
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def runs_about(copy: Copy, fact: str) -> list[dict]:
    return [r for r in copy.runs_of("retrain") if r["parameters"].get("fact") == fact]


def wait_until(said, seconds: float = 300) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s"
        time.sleep(1)


FOUND_WHILE_DOWN = """
import os
from tasks.orchestration.events import emit
from tasks.resources import open_resources
from tasks.lifecycle.facts import seen_by_process
from tasks.steps.step import NotDue, advance
from tasks.steps.order import PROCESS
res = open_resources("tiny")
ref = res.ref("2024-03-24")
for step in PROCESS:
    try:
        advance(step, ref, res)
    except NotDue:
        pass
fact = next(seen_by_process(ref, res))
assert res.ledger.record_fact(fact)
emit(fact)
print(fact.id, flush=True)
os._exit(0)  # killed right after
"""
AGE = """
import sqlalchemy as sa
from tasks.ledger.tables import facts
from tasks.resources import open_resources
from datetime import UTC, datetime, timedelta
with open_resources("tiny").ledger.engine.begin() as con:
    con.execute(sa.update(facts).values(recorded_at=datetime.now(UTC) - timedelta(minutes=10)))
"""


@pytest.mark.slow
def test_drift_that_is_found_while_the_server_is_down_is_taken_up_once_it_is_back(living):
    """The event is lost with the server and the process; the fact is not, and `remind` sends it again."""
    living.deployment("backfill/manual", model="tiny", start="2024-03-17", end="2024-03-23")
    living.down()
    fact = living.run("python", "-c", FOUND_WHILE_DOWN).split()[-1]
    living.up()
    assert runs_about(living, fact) == []
    living.run("python", "-c", AGE)  # what waits is sent again after two minutes; they are not waited for here
    living.deployment("remind/all")
    wait_until(lambda: any(r["state_type"] in ENDED for r in runs_about(living, fact)), 600)
    (run,) = runs_about(living, fact)
    assert (run["created_by"]["type"], run["state_type"]) == ("AUTOMATION", "COMPLETED")
    assert living.run("python", "-c", DECISIONS).count(fact) == 1


@pytest.mark.slow
def test_a_lost_event_delays_the_retraining_until_remind_sends_it_again(living):
    """The automation is off while the event passes, as if Prefect had lost it. The schedule of `remind/all` sends it again."""
    before, name = {run["id"] for run in living.runs_of("remind")}, "retrain tiny on facts"
    (automation,) = [a for a in living.ask("automations/filter", {}) if a["name"] == name]
    living.ask(f"automations/{automation['id']}", {"enabled": False}, "PATCH")
    living.deployment("backfill/manual", model="tiny", start="2024-03-17", end="2024-03-24")
    path = living.folder / "data" / "parcels-2024-03-25.parquet"
    rows = pd.read_parquet(path)
    rows.assign(weight=rows["weight"] + 10).to_parquet(path, index=False)  # no champion has seen such weights
    living.deployment("process/tiny", partition="2024-03-25")
    fact = living.run("python", "-c", NEWEST_FACT).split()[-1]
    time.sleep(10)  # longer than the automation needs
    assert runs_about(living, fact) == []
    living.ask(f"automations/{automation['id']}", {"enabled": True}, "PATCH")
    living.run("python", "-c", AGE)
    with scheduled_every(20, "remind/all", living):
        wait_until(lambda: any(r["state_type"] in ENDED for r in runs_about(living, fact)))
    (run,) = runs_about(living, fact)
    assert (run["created_by"]["type"], run["state_type"]) == ("AUTOMATION", "COMPLETED")
    reminders = [r for r in living.runs_of("remind") if r["id"] not in before and r["state_type"] == "COMPLETED"]
    assert {r["created_by"]["type"] for r in reminders} == {"SCHEDULE"}
    assert living.run("python", "-c", DECISIONS).count(fact) == 1


NEWEST_FACT = """
from tasks.resources import open_resources
(fact,) = [f for f in open_resources("tiny").ledger.facts() if f.partition == "2024-03-25" and f.kind == "drift"]
print(fact.id)
"""


@contextmanager
def scheduled_every(seconds: int, deployment: str, copy: Copy) -> Iterator[None]:
    """Give a deployment one more schedule for a while, as a person would from the terminal."""
    copy.run("prefect", "deployment", "schedule", "create", deployment, "--interval", str(seconds))
    flow, _, name = deployment.partition("/")
    (found,) = [d for d in copy.ask("deployments/filter", {"flows": {"name": {"any_": [flow]}}}) if d["name"] == name]
    (added,) = [s for s in found["schedules"] if "interval" in s["schedule"]]
    try:
        yield
    finally:
        copy.run("prefect", "deployment", "schedule", "delete", deployment, added["id"], "--accept-yes")


@pytest.mark.slow
def test_backfills_leave_a_slot_of_the_worker_to_everything_else(living):
    """The worker runs four at once. Of five backfills three are begun, and what comes after them does not wait for the others."""
    for _ in range(5):
        given = ("-p", "model=tiny", "-p", "start=2024-03-01", "-p", "end=2024-03-24", "-p", "mode=all")
        living.run("prefect", "deployment", "run", "backfill/manual", *given)
    living.deployment("process/tiny", partition="2024-03-11")
    began = living.newest("process")["start_time"]
    wait_until(lambda: all(r["state_type"] in ENDED for r in living.runs_of("backfill")), 900)
    five = sorted(living.runs_of("backfill"), key=lambda run: run["start_time"])[-5:]
    assert all(run["work_queue_name"] == "backfills" for run in five)
    assert began < five[-1]["start_time"], "it waited until all of them had begun"
    for run in five:
        beside = [one for one in five if one["start_time"] <= run["start_time"] < one["end_time"]]
        assert len(beside) <= 3, "each of them takes a slot of the three, itself too"


@pytest.mark.slow
def test_cancelling_in_the_ui_stops_between_partitions_and_says_how_far_it_came(living):
    """The button sets the run's state; the worker then signals the run's process, which finishes what it has begun."""
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
    living.run("prefect", "deployment", "run", "backfill/manual", *given)
    run = living.wait_for("backfill", {"RUNNING"}, 120)
    tasks = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    wait_until(lambda: len(living.ask("task_runs/filter", tasks)) >= 2, 120)
    living.failing.add(run["id"])  # Prefect logs the end of a cancelled run as an error
    asked = living.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert asked["status"] == "ACCEPT", asked
    wait_until(lambda: living.newest("backfill")["state_type"] in ENDED, 120)
    ended = living.newest("backfill")
    assert (ended["id"], ended["state_type"]) == (run["id"], "CANCELLED")
    assert "not begun; submit it again with mode=missing to go on" in ended["state"]["message"]
    assert "half done" not in ended["state"]["message"]


@pytest.mark.slow
def test_a_backfill_whose_worker_is_killed_ends_at_once_and_the_next_one_completes_it(living):
    """Prefect ends a run that has lost its worker, and says so; a new worker is there already."""
    asked = {"model": "tiny", "start": "2024-03-11", "end": "2024-03-24", "override": {"monitoring": {"alpha": 0.04}}}
    given = [part for k, v in asked.items() for part in ("-p", f"{k}={json.dumps(v)}")]
    living.run("prefect", "deployment", "run", "backfill/manual", *given, "-p", "concurrency=1")
    run = living.wait_for("backfill", {"RUNNING"}, 120)
    found = marked(living.folder / ".evergreen", "worker")
    workers = [process for process in found if process.ppid() not in {p.pid for p in found}]
    assert workers
    living.failing.add(run["id"])
    living.kill("worker", workers)
    wait_until(lambda: living.newest("backfill")["state_type"] in ENDED, 120)
    ended = living.newest("backfill")
    assert (ended["id"], ended["state_type"]) == (run["id"], "CRASHED"), ended["state"]
    living.deployment("backfill/manual", **asked)
    assert "brought up to date" in living.newest("backfill")["state"]["message"]
    living.deployment("backfill/manual", **asked)
    assert "nothing to do for 14 partitions" in living.newest("backfill")["state"]["message"]


@pytest.mark.slow
def test_a_run_that_died_with_its_worker_is_crashed_by_the_automation(living):
    given = [
        part
        for k, v in (("model", "tiny"), ("start", "2024-03-01"), ("end", "2024-03-24"), ("mode", "all"))
        for part in ("-p", f"{k}={v}")
    ]
    living.run("prefect", "deployment", "run", "backfill/manual", *given)
    lost = living.wait_for("backfill", {"RUNNING"}, 120)
    time.sleep(2)
    victims = marked(living.folder / ".evergreen", "worker")
    assert len(victims) > 1, "the worker and its run"
    living.failing.add(lost["id"])
    living.kill("worker", victims)

    run = living.wait_for("backfill", {"CRASHED", "COMPLETED", "FAILED"}, 600)
    assert run["id"] == lost["id"]
    assert run["state_type"] == "CRASHED"
    assert "no heartbeat" in run["state"]["message"]

    living.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-24")
    assert living.newest("backfill")["state_type"] == "COMPLETED"
