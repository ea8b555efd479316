"""Backfills on a Dask cluster, and with a lake in an object store. The results are the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from configs.settings import ROOT
from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.errors import ClusterMismatch
from tasks.resources import open_resources
from tasks.storage.lake import Lake
from tests.buckets import key_variables, new_bucket
from tests.conftest import free_port
from tests.flows.test_backfill import contents, final_state, start, wait_until

FIRST, LAST = "2024-03-01", "2024-03-12"
pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


@contextmanager
def cluster(**environment: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and two workers, each in its own process; yields the address and the workers."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    common = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True), **environment}
    scheduler = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    worker = ("worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny")
    processes = []
    for program, *options in (scheduler, worker, worker):
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", *options]
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=common, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    try:
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=120)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.fixture
def whole(workspace) -> tuple[Lake, dict[str, object]]:
    """The files that threads write for twelve days, of which the last few are scored and checked; and the lake, emptied again."""
    backfill(model="tiny", start=FIRST, end="2024-03-08")
    train(model="tiny", reason="first")
    lake = open_resources("tiny").lake
    shutil.rmtree(str(lake.root))
    backfill(model="tiny", start=FIRST, end=LAST)
    assert lake.keys(Stage.MONITORING)
    expected = contents(lake)
    shutil.rmtree(str(lake.root))
    return lake, expected


@pytest.mark.slow
def test_a_cluster_writes_the_same_bytes(whole):
    lake, expected = whole
    with cluster() as (address, _):
        result = final_state(start(start=FIRST, end=LAST, runner="dask", dask=address))
    assert result.startswith("COMPLETED: tiny: 12 of 12"), result
    assert contents(lake) == expected


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(whole):
    lake, expected = whole
    with cluster() as (address, workers):
        running = start(start=FIRST, end=LAST, runner="dask", dask=address)
        wait_until(lambda: lake.keys(Stage.RAW))
        os.kill(workers[0].pid, signal.SIGKILL)
        final_state(running)  # the other worker may have done everything, or some partitions have failed
        assert final_state(start(start=FIRST, end=LAST, runner="dask", dask=address)).startswith("COMPLETED")
    assert contents(lake) == expected


def test_a_worker_with_another_lake_is_refused(workspace):
    with (
        cluster(EVERGREEN_LAKE=str(workspace / "elsewhere")) as (address, _),
        pytest.raises(ClusterMismatch, match=r"has EVERGREEN_LAKE .*elsewhere"),
    ):
        backfill(model="tiny", start=FIRST, end=FIRST, runner="dask", dask=address)
    assert not (workspace / "lake").exists()


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    """An S3 server with an empty bucket, configured by address and key in the environment."""
    with new_bucket("lake-of-tests") as endpoint:
        for name, value in key_variables(endpoint).items():
            monkeypatch.setenv(name, value)
        yield "s3://lake-of-tests/lake"


@pytest.mark.slow
def test_a_lake_in_an_object_store_has_the_same_data_as_one_in_a_folder(workspace, bucket, monkeypatch):
    """Backfill, training, scoring and drift check, by another process too; the same champion wrote the folder."""
    backfill(model="tiny", start=FIRST, end="2024-03-10")
    train(model="tiny", reason="first")
    process(model="tiny", partition="2024-03-11")
    folder = contents(open_resources("tiny").lake)
    monkeypatch.setenv("EVERGREEN_LAKE", bucket)
    assert final_state(start(start=FIRST, end="2024-03-10")).startswith("COMPLETED: tiny: 10 of 10")
    process(model="tiny", partition="2024-03-11")
    lake = open_resources("tiny").lake
    assert str(lake.root) == f"{bucket}/tiny"
    for stage in (Stage.VALID, Stage.LABELS, Stage.PREDICTIONS, Stage.SKETCHES):
        for key in lake.keys(stage):
            assert lake.file(stage, key).read_bytes() == folder[f"{stage}/{key}.parquet"], (stage, key)
    watched = lake.done(Stage.MONITORING, "2024-03-11").data
    assert watched == folder["monitoring/2024-03-11.json"]["data"]
    assert lake.path(Stage.MONITORING, "2024-03-11", "html").read_text().count("<html") >= 1
    assert not (workspace / "lake" / "tiny").with_name("s3:").exists()
    assert not list(Path(ROOT).glob("s3:*"))


@pytest.mark.slow
def test_killing_and_restarting_the_server_in_the_middle_loses_nothing(workspace, tmp_path):
    """The run continues without the server. Whatever its final state is, the next run with mode=missing completes the rest."""
    port = free_port()
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]

    def serve() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 300)
        return server

    backfill(model="tiny", start=FIRST, end=LAST)
    lake = open_resources("tiny").lake
    whole = contents(lake)
    shutil.rmtree(lake.root)
    server = serve()
    try:
        running = start(env, start=FIRST, end=LAST, concurrency=1)
        wait_until(lambda: lake.keys(Stage.VALID))
        server.kill()
        server.wait()
        time.sleep(3)
        server = serve()
        running.communicate(timeout=600)
        assert final_state(start(env, start=FIRST, end=LAST)).startswith("COMPLETED")
        assert contents(lake) == whole
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
