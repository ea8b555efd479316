"""Backfills as people use them: planned, submitted, failed and retried, cancelled, killed and resumed, and two at once."""

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
from tasks.storage.published_contract import FILE
from tests.conftest import day_file, parcels, set_up_tiny, use_folder
from tests.flows.test_pages import latest

FIRST, LAST = "2024-03-01", "2024-03-10"
pytestmark = pytest.mark.usefixtures("prefect_server")


def start(environment: Mapping[str, str] | None = None, **parameters) -> subprocess.Popen[str]:
    """Start a backfill of the tiny model in its own process, with the tests' server and this test's folder."""
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


def final_state(process: subprocess.Popen[str]) -> str:
    """Return the final state and message of a backfill."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip().splitlines()[-1]


def contents(lake: Lake) -> dict[str, object]:
    """Return the bytes of every data file, and every record without its `run` block. Pages are left out.

    The published contract is left out too, since it has the moment and the partition with which it was recorded.
    """
    files: dict[str, object] = {}
    root = Path(str(lake.root))
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".parquet", ".json") and p.name != FILE):
        name = str(path.relative_to(root))
        content = path.read_bytes()
        if path.suffix == ".json":
            record = json.loads(content)
            if isinstance(record, dict):
                record.pop("run", None)
            files[name] = record
        else:
            files[name] = content
    return files


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.05)


# Plans


def test_a_dry_run_lists_what_would_be_done_and_does_nothing(workspace):
    state = backfill(model="tiny", start=FIRST, end="2024-03-03", dry_run=True, return_state=True)
    assert "12 steps of 3 of 3 partitions" in state.message
    page = latest("tiny-backfill-plan")["data"]
    assert "| 2024-03-02 |  | make | make | make | … | … | … | make | … |" in page
    assert "wait score of 2024-03-01, 2024-03-02, 2024-03-03: no champion" in page
    assert not (workspace / "lake").exists()
    digest = page.split("-p plan=")[1].split("`")[0]
    assert backfill(model="tiny", plan=digest, return_state=True).is_completed()
    assert open_resources("tiny").lake.keys(Stage.RAW) == [FIRST, "2024-03-02", "2024-03-03"]


def test_a_plan_that_no_longer_applies_is_refused_before_anything_is_done(workspace):
    state = backfill(model="tiny", start=FIRST, end="2024-03-03", dry_run=True, return_state=True)
    digest = state.message.split("plan ")[1].split(":")[0]
    parcels(9).to_parquet(day_file(workspace, 1), index=False)
    with pytest.raises(PlanChanged, match="2024-03-02 ingest has changed inputs"):
        backfill(model="tiny", plan=digest)
    assert not (workspace / "lake").exists()


def test_a_second_backfill_of_fresh_partitions_reports_that_nothing_is_to_do(workspace):
    backfill(model="tiny", start=FIRST, end="2024-03-02")
    state = backfill(model="tiny", start=FIRST, end="2024-03-02", return_state=True)
    assert state.message == "tiny: nothing to do for 2 partitions with mode=missing."


def test_only_the_chosen_stages_are_made_and_a_later_one_reports_what_it_waits_for(workspace):
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["validate"])
    assert "wait validate of 2024-03-01: no raw data" in latest("tiny-backfill")["data"]
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["ingest", "validate"])
    lake = open_resources("tiny").lake
    assert lake.done(Stage.SKETCHES, FIRST)
    assert lake.record(Stage.LABELS, FIRST) is None


# Failures


def test_a_failed_partition_does_not_stop_the_others_and_mode_failed_runs_only_that_one(workspace):
    """The next day reads the damaged file too."""
    good = day_file(workspace, 4).read_bytes()
    day_file(workspace, 4).write_bytes(b"no parquet")
    state = backfill(model="tiny", start=FIRST, end=LAST, return_state=True)
    assert state.is_failed()
    message = "8 of 10 partitions brought up to date, 0 failed, 2 blocked; mode=failed runs only those again"
    assert message in state.message
    page = latest("tiny-backfill")["data"]
    assert "2024-03-05 blocked: " in page
    assert "parcels-2024-03-05.parquet" in page
    day_file(workspace, 4).write_bytes(good)
    state = backfill(model="tiny", start=FIRST, end=LAST, mode="failed", return_state=True)
    assert state.message == "tiny: 2 of 10 partitions brought up to date, 0 failed, 0 blocked."


def test_a_temporary_error_is_retried_and_a_failed_contract_is_not(workspace, monkeypatch):
    """The source fails twice for one partition, then answers. For another it always fails. A third has bad rows."""
    monkeypatch.setattr(backfilling, "FIRST_WAIT", 0.01)
    calls: dict[str, int] = {}
    real = ingestion.read_source

    def flaky(model, ref, threads):
        calls[ref.key] = calls.get(ref.key, 0) + 1
        if ref.key == "2024-03-05" or (ref.key == "2024-03-04" and calls[ref.key] < 3):
            raise SourceUnavailable("timed out")
        return real(model, ref, threads)

    parcels(5).assign(weight=1000.0).to_parquet(day_file(workspace, 5), index=False)
    backfill(model="tiny", start=FIRST, end=FIRST, stages=["ingest"])  # so that the SQL has been checked for leaks
    monkeypatch.setattr(ingestion, "read_source", flaky)
    state = backfill(model="tiny", start="2024-03-04", end="2024-03-06", return_state=True)
    assert calls == {"2024-03-04": 3, "2024-03-05": backfilling.ATTEMPTS, "2024-03-06": 1}
    assert "1 of 3 partitions brought up to date, 1 failed, 1 blocked" in state.message
    plan = backfill(model="tiny", start="2024-03-04", end="2024-03-06", mode="failed", dry_run=True, return_state=True)
    assert "2 of 3 partitions" in plan.message
    assert "make ingest of 2024-03-05: failed: SourceUnavailable: timed out" in latest("tiny-backfill-plan")["data"]


@pytest.mark.slow
def test_a_full_disk_fails_its_partition_and_leaves_no_incomplete_file(workspace):
    """No file may be larger than 200,000 bytes; the rows of one day need more."""
    days = [
        parcels(day).assign(sent=parcels(1)["sent"], parcel=lambda f, day=day: f["parcel"] + f"-{day}")
        for day in range(300)
    ]
    pd.concat(days).to_parquet(day_file(workspace, 1), index=False)
    result = final_state(start({"FILE_LIMIT": "200000"}, start=FIRST, end="2024-03-03"))
    assert (
        result
        == "FAILED: tiny: 2 of 3 partitions brought up to date, 1 failed, 0 blocked; mode=failed runs only those again."
    )
    raw = Path(open_resources("tiny").lake.root) / "raw"
    assert sorted(p.name for p in raw.iterdir() if "2024-03-02" in p.name) == ["2024-03-02.failure"]
    assert "File too large" in (raw / "2024-03-02.failure").read_text()
    assert final_state(start(start=FIRST, end="2024-03-03", mode="failed")).startswith("COMPLETED: tiny: 1 of 3")


def test_an_unreachable_cluster_is_an_error_before_anything_is_done(workspace, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    with pytest.raises(ClusterUnreachable, match="no Dask scheduler answers at"):
        backfill(model="tiny", start=FIRST, end=FIRST, runner="dask", dask="tcp://127.0.0.1:9")
    assert not (workspace / "lake").exists()


# Which model, which config


@pytest.fixture(scope="module")
def champion(
    tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, prefect_server: None
) -> Path:
    """Ten days and a champion as of the eighth of them. The last two are not scored yet. Tests copy the folder."""
    folder = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        set_up_tiny(tiny_source, folder, mlflow_store, patch)
        backfill(model="tiny", start=FIRST, end=LAST)
        train(model="tiny", as_of=open_resources("tiny").ref("2024-03-08").as_of, reason="first")
    return folder


@pytest.fixture
def promoted(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    """The same with a lake and a ledger of the test."""
    use_copy_of_lake_and_ledger(champion, tmp_path, mlflow_store, monkeypatch)
    return tmp_path


def use_copy_of_lake_and_ledger(champion: Path, folder: Path, mlflow_store: str, patch: pytest.MonkeyPatch) -> None:
    """Copy lake and ledger into a folder, and change all settings to it. The model and its data stay where they are."""
    shutil.copytree(champion / "lake", folder / "lake")
    shutil.copy(champion / "ledger.db", folder / "ledger.db")
    use_folder(folder, champion / "configs", mlflow_store, patch)


@pytest.mark.slow
def test_then_scores_as_production_would_have_and_now_has_its_own_folder(promoted):
    """There was no champion on the first days, so `then` has no predictions for them, and `now` has."""
    res = open_resources("tiny")
    backfill(model="tiny", start=FIRST, end=LAST)
    assert res.lake.keys(Stage.PREDICTIONS) == ["2024-03-09", LAST]
    before = contents(res.lake)
    state = backfill(model="tiny", start=FIRST, end=LAST, champion="now", return_state=True)
    version = res.champion().version
    assert f"tiny (v{version}): 8 of 10 partitions brought up to date" in state.message
    now = open_resources("tiny", variant=Variant(champion=version))
    projects = {lake.done(Stage.MONITORING, LAST).data["project"] for lake in (res.lake,)}
    assert now.lake.done(Stage.MONITORING, FIRST).data["project"] not in projects
    rows = now.lake.read(Stage.PREDICTIONS, FIRST)
    assert set(rows["model_version"]) == {version}
    assert set(rows["variant"]) == {f"v{version}"}
    assert now.lake.done(Stage.PERFORMANCE, FIRST).data["trained_on_it"]
    production = {name: file for name, file in contents(res.lake).items() if not name.startswith("variants/")}
    assert production == {name: file for name, file in before.items() if not name.startswith("variants/")}


@pytest.mark.slow
def test_another_config_has_its_own_folder_and_a_wrong_one_is_refused_with_the_nearest_key(promoted):
    res = open_resources("tiny")
    before = contents(res.lake)
    override = {"monitoring": {"alpha": 0.2}}
    state = backfill(model="tiny", start=FIRST, end=LAST, mode="stale", override=override, return_state=True)
    assert Variant(override).name in state.message
    assert {name for name in contents(res.lake) if not name.startswith("variants/")} == set(before)
    with pytest.raises(Exception, match="did you mean 'alpha'"):
        backfill(model="tiny", start=FIRST, end=LAST, override={"monitoring": {"alfa": 0.2}})


# Two at once


@pytest.mark.slow
def test_two_backfills_at_once_process_each_partition_once(workspace):
    both = [start(start=FIRST, end="2024-03-20"), start(start="2024-03-05", end="2024-03-24")]
    results = [final_state(process) for process in both]
    assert all(line.startswith("COMPLETED") for line in results), results
    lake = open_resources("tiny").lake
    assert len(lake.keys(Stage.VALID)) == 24
    counts = [int(line.split("tiny: ")[1].split(" of ")[0]) for line in results]
    assert sum(counts) == 24, results


@pytest.mark.slow
def test_a_backfill_waits_for_a_partition_that_another_process_has_claimed(workspace):
    claims = open_resources("tiny").claims
    claims.acquire("2024-03-02")
    process = start(start=FIRST, end="2024-03-03")
    lake = open_resources("tiny").lake
    wait_until(lambda: lake.keys(Stage.LABELS) == [FIRST, "2024-03-03"])
    assert process.poll() is None
    claims.release("2024-03-02")
    assert final_state(process).startswith("COMPLETED: tiny: 3 of 3")


# Cancelling and resuming


@pytest.mark.slow
def test_cancelling_leaves_each_partition_done_or_untouched_and_mode_missing_resumes(promoted):
    """With a champion each partition has a second part. It is finished where the first is done."""
    lake = open_resources("tiny").lake
    shutil.rmtree(lake.root)
    backfill(model="tiny", start=FIRST, end=LAST)
    process = start(start="2024-03-11", end="2024-03-26", concurrency=1)
    wait_until(lambda: len(lake.keys(Stage.MONITORING)) >= 4)
    with get_client(sync_client=True) as client:
        name = "backfill tiny 2024-03-11 to 2024-03-26"
        run = next(r for r in client.read_flow_runs(limit=200) if r.name == name and r.state.is_running())
        client.set_flow_run_state(UUID(str(run.id)), Cancelling(), force=True)
    result = final_state(process)
    assert result.startswith("CANCELLED"), result
    assert "not started; run it again with mode=missing to continue" in result
    assert "incomplete" not in result
    later = [
        {k for k in lake.keys(s) if k > LAST} for s in (Stage.RAW, Stage.LABELS, Stage.MONITORING, Stage.PERFORMANCE)
    ]
    assert all(keys == later[0] for keys in later), "a partition is done or untouched"
    assert 0 < len(later[0]) < 16
    assert final_state(start(start="2024-03-11", end="2024-03-26")).startswith("COMPLETED")
    assert len(lake.keys(Stage.PERFORMANCE)) == 18


@pytest.mark.slow
def test_steps_that_read_a_failed_partition_are_not_run(promoted, monkeypatch):
    """Otherwise they would use an incomplete reference, and keep the result after the partition is repaired."""
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
    assert "7 of 10 partitions brought up to date, 3 failed" in state.message
    assert "2024-03-09 failed: MissingPartition: it reads 2024-03-04, which failed" in latest("tiny-backfill")["data"]
    assert lake.keys(Stage.MONITORING) == []
    assert backfill(model="tiny", start=FIRST, end=LAST, mode="failed", return_state=True).is_completed()
    assert contents(lake) == whole


@pytest.mark.slow
def test_a_backfill_that_is_killed_at_any_moment_and_resumed_ends_with_the_same_bytes(promoted):
    """Kill -9 at three random moments of scoring some days, resume, and compare with an uninterrupted backfill."""
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
        assert final_state(start(start=FIRST, end="2024-03-14")).startswith("COMPLETED")
        assert contents(lake) == whole
    assert any(killed)
