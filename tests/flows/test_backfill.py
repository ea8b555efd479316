"""Backfills as people use them: planned, submitted, failed and taken up, stopped, killed and resumed, meeting others."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from configs.settings import ROOT
from flows.backfill import backfill
from flows.train import train
from tasks.backfill import execute as backfilling
from tasks.backfill import workers
from tasks.contracts import Stage
from tasks.errors import ClusterUnreachable, PlanChanged, SourceUnavailable
from tasks.resources import Variant, open_resources
from tasks.steps import ingest as ingestion
from tasks.storage.lake import Lake
from tests.conftest import day_file, parcels, point_to, settle
from tests.flows.test_pages import latest

FIRST, LAST = "2024-03-01", "2024-03-10"
pytestmark = pytest.mark.usefixtures("prefect_server")


def start(environment: Mapping[str, str] | None = None, **parameters) -> subprocess.Popen[str]:
    """A backfill of the tiny model in a process of its own, against the tests' server and this world."""
    command = [sys.executable, "-m", "tests.flows.backfiller", json.dumps({"model": "tiny", **parameters})]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            **get_current_settings().to_environment_variables(exclude_unset=True),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> str:
    """The state and message that a backfill ended with."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip().splitlines()[-1]


def contents(lake: Lake) -> dict[str, object]:
    """Every data file's bytes, and every record without its `run` block. Pages for people are left out."""
    found: dict[str, object] = {}
    for path in sorted(p for p in Path(lake.root).rglob("*") if p.suffix in (".parquet", ".json")):
        name = str(path.relative_to(lake.root))
        content = path.read_bytes()
        found[name] = json.loads(content) if path.suffix == ".json" else content
        if isinstance(found[name], dict):
            found[name].pop("run", None)
    return found


def wait_until(what, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


# Plans


def test_a_dry_run_tells_what_it_would_do_and_does_nothing(world):
    state = backfill(model="tiny", start=FIRST, end="2024-03-03", dry_run=True, return_state=True)
    assert "12 steps of 3 of 3 partitions" in state.message
    page = latest("tiny-backfill-plan")["data"]
    assert "| 2024-03-02 |  | make | make | make | … | … | … | make | … |" in page
    assert "wait score of 2024-03-01, 2024-03-02, 2024-03-03: no champion" in page
    assert not (world / "lake").exists()
    digest = page.split("-p plan=")[1].split("`")[0]
    assert backfill(model="tiny", plan=digest, return_state=True).is_completed()
    assert open_resources("tiny").lake.keys(Stage.RAW) == [FIRST, "2024-03-02", "2024-03-03"]


def test_a_plan_that_holds_no_longer_is_refused_before_anything_is_done(world):
    state = backfill(model="tiny", start=FIRST, end="2024-03-03", dry_run=True, return_state=True)
    digest = state.message.split("plan ")[1].split(":")[0]
    parcels(9).to_parquet(day_file(world, 1), index=False)
    with pytest.raises(PlanChanged, match="2024-03-02 ingest would be made from other data"):
        backfill(model="tiny", plan=digest)
    assert not (world / "lake").exists()


def test_a_second_backfill_of_fresh_partitions_says_so(world):
    backfill(model="tiny", start=FIRST, end="2024-03-02")
    state = backfill(model="tiny", start=FIRST, end="2024-03-02", return_state=True)
    assert state.message == "tiny: nothing to do for 2 partitions with mode=missing."


def test_only_the_chosen_stages_are_made_and_a_later_one_says_what_it_waits_for(world):
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["validate"])
    assert "wait validate of 2024-03-01: no raw data" in latest("tiny-backfill")["data"]
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["ingest", "validate"])
    lake = open_resources("tiny").lake
    assert lake.done(Stage.SKETCHES, FIRST)
    assert lake.record(Stage.LABELS, FIRST) is None


# Failures


def test_one_partitions_failure_does_not_stop_the_others_and_failed_takes_up_just_that(world):
    """A damaged file also is what the next day looks back on."""
    good = day_file(world, 4).read_bytes()
    day_file(world, 4).write_bytes(b"no parquet")
    state = backfill(model="tiny", start=FIRST, end=LAST, return_state=True)
    assert state.is_failed()
    told = "8 of 10 partitions brought up to date, 0 failed, 2 blocked; mode=failed takes up just those"
    assert told in state.message
    page = latest("tiny-backfill")["data"]
    assert "2024-03-05 blocked: " in page
    assert "parcels-2024-03-05.parquet" in page
    day_file(world, 4).write_bytes(good)
    state = backfill(model="tiny", start=FIRST, end=LAST, mode="failed", return_state=True)
    assert state.message == "tiny: 2 of 10 partitions brought up to date, 0 failed, 0 blocked."


def test_what_may_be_gone_in_a_moment_is_tried_again_and_a_failed_contract_is_not(world, monkeypatch):
    """The source fails twice for one partition, then answers; for another it goes on failing; a third has bad rows."""
    monkeypatch.setattr(backfilling, "FIRST_WAIT", 0.01)
    calls: dict[str, int] = {}
    real = ingestion.read_source

    def flaky(model, ref, threads):
        calls[ref.key] = calls.get(ref.key, 0) + 1
        if ref.key == "2024-03-05" or (ref.key == "2024-03-04" and calls[ref.key] < 3):
            raise SourceUnavailable("timed out")
        return real(model, ref, threads)

    parcels(5).assign(weight=1000.0).to_parquet(day_file(world, 5), index=False)
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["ingest"])  # so that the SQL is checked for leaks already
    monkeypatch.setattr(ingestion, "read_source", flaky)
    state = backfill(model="tiny", start="2024-03-04", end="2024-03-06", return_state=True)
    assert calls == {"2024-03-04": 3, "2024-03-05": backfilling.ATTEMPTS, "2024-03-06": 1}
    assert "1 of 3 partitions brought up to date, 1 failed, 1 blocked" in state.message
    plan = backfill(model="tiny", start="2024-03-04", end="2024-03-06", mode="failed", dry_run=True, return_state=True)
    assert "2 of 3 partitions" in plan.message
    assert "make ingest of 2024-03-05: failed: SourceUnavailable: timed out" in latest("tiny-backfill-plan")["data"]


@pytest.mark.slow
def test_a_full_disk_fails_its_partition_and_leaves_no_half_file(world):
    """No file may be larger than 200,000 bytes; the rows of one day need more."""
    days = [
        parcels(day).assign(sent=parcels(1)["sent"], parcel=lambda f, day=day: f["parcel"] + f"-{day}")
        for day in range(300)
    ]
    pd.concat(days).to_parquet(day_file(world, 1), index=False)
    said = told(start({"FILE_LIMIT": "200000"}, start=FIRST, end="2024-03-03"))
    assert (
        said
        == "FAILED: tiny: 2 of 3 partitions brought up to date, 1 failed, 0 blocked; mode=failed takes up just those."
    )
    raw = Path(open_resources("tiny").lake.root) / "raw"
    assert sorted(p.name for p in raw.iterdir() if "2024-03-02" in p.name) == ["2024-03-02.failure"]
    assert "File too large" in (raw / "2024-03-02.failure").read_text()
    assert told(start(start=FIRST, end="2024-03-03", mode="failed")).startswith("COMPLETED: tiny: 1 of 3")


def test_an_unreachable_cluster_is_told_before_anything_is_done(world, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT", 1)
    with pytest.raises(ClusterUnreachable, match="no Dask scheduler answers at"):
        backfill(model="tiny", start=FIRST, end=FIRST, runner="dask", dask="tcp://127.0.0.1:9")
    assert not (world / "lake").exists()


# Which model, which config


@pytest.fixture(scope="module")
def champion(
    tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, prefect_server: None
) -> Path:
    """Ten days and a champion as of the seventh of them, with the last three not yet scored; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        settle(tiny_source, folder, mlflow_store, patch)
        backfill(model="tiny", start=FIRST, end=LAST)
        train(model="tiny", as_of=open_resources("tiny").ref("2024-03-07").as_of, reason="first")
    return folder


@pytest.fixture
def promoted(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    """The same in a lake and a ledger of its own."""
    settle_beside(champion, tmp_path, mlflow_store, monkeypatch)
    return tmp_path


def settle_beside(champion: Path, folder: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Copy lake and ledger of a world, and point every setting there; the model and its data are the world's."""
    shutil.copytree(champion / "lake", folder / "lake")
    shutil.copy(champion / "ledger.db", folder / "ledger.db")
    point_to(folder, champion / "configs", mlflow_store, patch)


def test_then_scores_as_production_would_have_and_now_lies_apart(promoted):
    """Before its promotion the champion was none, so `then` has nothing for the first days, and `now` has."""
    res = open_resources("tiny")
    backfill(model="tiny", start=FIRST, end=LAST)
    assert res.lake.keys(Stage.PREDICTIONS) == ["2024-03-08", "2024-03-09", LAST]
    before = contents(res.lake)
    state = backfill(model="tiny", start=FIRST, end=LAST, champion="now", return_state=True)
    version = res.champion().version
    assert f"tiny (v{version}): 7 of 10 partitions brought up to date" in state.message
    now = open_resources("tiny", variant=Variant(champion=version))
    projects = {lake.done(Stage.MONITORING, LAST).data["project"] for lake in (res.lake,)}
    assert now.lake.done(Stage.MONITORING, FIRST).data["project"] not in projects
    rows = now.lake.read(Stage.PREDICTIONS, FIRST)
    assert set(rows["model_version"]) == {version}
    assert set(rows["variant"]) == {f"v{version}"}
    assert now.lake.done(Stage.PERFORMANCE, FIRST).data["trained_on_it"]
    production = {name: found for name, found in contents(res.lake).items() if not name.startswith("variants/")}
    assert production == {name: found for name, found in before.items() if not name.startswith("variants/")}


def test_another_config_lies_apart_and_a_wrong_one_is_refused_with_the_nearest_key(promoted):
    res = open_resources("tiny")
    before = contents(res.lake)
    override = {"monitoring": {"alpha": 0.2}}
    state = backfill(model="tiny", start=FIRST, end=LAST, mode="stale", override=override, return_state=True)
    assert Variant(override).name in state.message
    assert {name for name in contents(res.lake) if not name.startswith("variants/")} == set(before)
    with pytest.raises(Exception, match="did you mean 'alpha'"):
        backfill(model="tiny", start=FIRST, end=LAST, override={"monitoring": {"alfa": 0.2}})


# Meeting others


def test_of_two_backfills_at_once_each_partition_is_done_by_one(world):
    both = [start(start=FIRST, end="2024-03-20"), start(start="2024-03-05", end="2024-03-24")]
    said = [told(process) for process in both]
    assert all(line.startswith("COMPLETED") for line in said), said
    lake = open_resources("tiny").lake
    assert len(lake.keys(Stage.VALID)) == 24
    made = [int(line.split("tiny: ")[1].split(" of ")[0]) for line in said]
    assert sum(made) == 24, said


def test_a_partition_that_somebody_is_at_work_on_is_waited_for(world):
    claims = open_resources("tiny").claims
    claims.take("2024-03-02")
    process = start(start=FIRST, end="2024-03-03")
    lake = open_resources("tiny").lake
    wait_until(lambda: lake.keys(Stage.LABELS) == [FIRST, "2024-03-03"])
    assert process.poll() is None
    claims.leave("2024-03-02")
    assert told(process).startswith("COMPLETED: tiny: 3 of 3")


# Stopping and resuming


@pytest.mark.slow
def test_cancelling_leaves_each_partition_done_or_untouched_and_missing_goes_on(promoted):
    """With a champion each partition has a second part, which is finished where the first is done."""
    lake = open_resources("tiny").lake
    shutil.rmtree(lake.root)
    backfill(model="tiny", start=FIRST, end=LAST)
    process = start(start="2024-03-11", end="2024-03-26", concurrency=1)
    wait_until(lambda: len(lake.keys(Stage.MONITORING)) >= 4)
    with get_client(sync_client=True) as client:
        name = "tiny 2024-03-11 to 2024-03-26"
        run = next(r for r in client.read_flow_runs(limit=200) if r.name == name and r.state.is_running())
        client.set_flow_run_state(UUID(str(run.id)), Cancelling(), force=True)
    said = told(process)
    assert said.startswith("CANCELLED"), said
    assert "not begun; submit it again with mode=missing to go on" in said
    assert "half done" not in said
    later = [
        {k for k in lake.keys(s) if k > LAST} for s in (Stage.RAW, Stage.LABELS, Stage.MONITORING, Stage.PERFORMANCE)
    ]
    assert all(keys == later[0] for keys in later), "a partition is done or untouched"
    assert 0 < len(later[0]) < 16
    assert told(start(start="2024-03-11", end="2024-03-26")).startswith("COMPLETED")
    assert len(lake.keys(Stage.PERFORMANCE)) == 19


@pytest.mark.slow
def test_what_looks_at_a_partition_that_failed_waits_for_it(promoted, monkeypatch):
    """Else it would be held against a reference with a hole, and stay so when the hole is mended."""
    monkeypatch.setattr(backfilling, "ATTEMPTS", 1)
    lake = open_resources("tiny").lake
    shutil.rmtree(lake.root)
    backfill(model="tiny", start=FIRST, end=LAST)
    whole = contents(lake)
    shutil.rmtree(lake.root)
    real = ingestion.read_source

    def broken(model, ref, threads):
        if ref.key == "2024-03-04":  # of the champion's window
            raise MemoryError("no room")
        return real(model, ref, threads)

    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "read_source", broken)
        patch.setattr(ingestion, "guard_against_leaks", lambda *_: None)
        state = backfill(model="tiny", start=FIRST, end=LAST, return_state=True)
    assert "6 of 10 partitions brought up to date, 4 failed" in state.message
    assert (
        "2024-03-08 failed: MissingPartition: it looks at 2024-03-04, which failed" in latest("tiny-backfill")["data"]
    )
    assert lake.keys(Stage.MONITORING) == []
    assert backfill(model="tiny", start=FIRST, end=LAST, mode="failed", return_state=True).is_completed()
    assert contents(lake) == whole


@pytest.mark.slow
def test_a_backfill_that_is_killed_at_any_moment_is_resumed_to_the_same_bytes(promoted):
    """Kill -9 at three random moments of scoring some days, resume, and compare with a backfill that nothing disturbed."""
    lake = open_resources("tiny").lake
    shutil.rmtree(lake.root)
    backfill(model="tiny", start=FIRST, end="2024-03-14")
    whole = contents(lake)
    killed: list[bool] = []
    for seed in range(3):
        shutil.rmtree(lake.root)
        process = start(start=FIRST, end="2024-03-14")
        wait_until(lambda: lake.keys(Stage.RAW))
        time.sleep(4 * random.Random(seed).random())
        killed.append(process.poll() is None)
        process.kill()
        process.wait()
        assert told(start(start=FIRST, end="2024-03-14")).startswith("COMPLETED")
        assert contents(lake) == whole
    assert any(killed)
