"""A flow run ends at its limit, whatever it waits for, frees what it has claimed, and the next run continues its work."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import AwaitingRetry, Failed, Running
from prefect.utilities.timeout import CancelledError as LimitReached

from configs.load import load_model
from configs.settings import ROOT, load_settings
from flows.process import process
from tasks.errors import SourceUnavailable
from tasks.orchestration.api import open_api
from tasks.orchestration.prefect_tasks import RETRY_SECONDS, as_task, interruptible
from tasks.orchestration.timeouts import HOURS, MARGIN, cancel_hung
from tasks.resources import open_resources
from tasks.source.session import connect
from tests.conftest import day_file

pytestmark = pytest.mark.long

DAY = "2024-03-01"
FLOWS = sorted(path.stem for path in (ROOT / "flows").glob("*.py") if path.stem != "__init__")


def test_every_flow_has_a_limit() -> None:
    code = (
        "import importlib; print(*[getattr(importlib.import_module(f'flows.{n}'), n).timeout_seconds for n in NAMES])"
    )
    for seconds in (None, 7.5):
        variables = {} if seconds is None else {"EVERGREEN_FLOW_TIMEOUT": str(seconds)}
        done = subprocess.run(
            [sys.executable, "-c", code.replace("NAMES", str(FLOWS))], cwd=ROOT, env={**os.environ, **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert [float(x) for x in done.stdout.split()] == [seconds or HOURS[name] * 3600 for name in FLOWS]


def test_a_run_that_waits_too_long_ends_and_the_next_one_does_its_work(tiny, prefect_server):
    res, held, done = open_resources("tiny"), Event(), Event()

    def hold() -> None:
        """Another thread has the partition, as a hung process would."""
        with open_resources("tiny").claims.hold(DAY):
            held.set()
            done.wait(60)

    other = Thread(target=hold, daemon=True)
    other.start()
    assert held.wait(30)
    began = time.monotonic()
    state = process.with_options(timeout_seconds=3)(model="tiny", partition=DAY, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "TimedOut")
    assert time.monotonic() - began < 45, "it did not wait for the other"
    assert "3" in state.message
    done.set()
    other.join(30)
    assert res.claims.active() == {}
    assert process(model="tiny", partition=DAY, return_state=True).is_completed()


def test_an_interrupted_query_ends_the_run_and_is_no_error_of_the_source(tiny):
    """DuckDB answers a signal with its own exception, where it answers at all. A query that hangs is what `cancel_hung` is for."""

    @interruptible
    def read() -> None:
        with connect(load_model("tiny"), {"parcels": [day_file(tiny, 0)]}):
            raise RuntimeError("Query interrupted")

    with pytest.raises(LimitReached):
        read()


@pytest.fixture
def started(prefect_server):
    """Start a run of a deployment. Returns its id."""
    made: list[Any] = []
    pool = load_settings().pool
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))

        def start(entrypoint: str = "flows/process.py:process", **variables: str) -> str:
            flow = client.create_flow(process)
            deployment = client.create_deployment(
                flow,
                name=f"hung-{len(made)}",
                entrypoint=entrypoint,
                job_variables={"env": variables},
                work_pool_name=pool,
            )
            made.append(deployment)
            run = client.create_flow_run_from_deployment(deployment)
            client.set_flow_run_state(run.id, Running(), force=True)
            return str(run.id)

        yield start
        for deployment in made:
            client.delete_deployment(deployment)


def state_of(run: str) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        assert state
        return state.type.value


def test_a_run_that_does_not_stop_at_its_limit_is_cancelled_and_others_are_not(started):
    runs = [
        started(), started(EVERGREEN_FLOW_TIMEOUT="86400"), started(EVERGREEN_FLOW_TIMEOUT="600"), started(EVERGREEN_FLOW_TIMEOUT="0"),
        started(EVERGREEN_FLOW_TIMEOUT="1h"), started("theirs/pipeline.py:process"),
    ]  # fmt: skip
    limit, cancelled = timedelta(hours=HOURS["process"]) + MARGIN, []
    with open_api() as post:
        for after in (
            timedelta(minutes=19),
            timedelta(minutes=21),
            limit - timedelta(minutes=1),
            limit + timedelta(minutes=1),
        ):
            cancel_hung(post, datetime.now(UTC) + after)
            cancelled.append([state_of(run) != "RUNNING" for run in runs])
    none, one = [False] * 6, [False, False, True, False, False, False]
    assert cancelled == [none, one, one, [True, False, True, True, True, False]]


def test_the_limit_of_the_workers_environment_counts_too(started, monkeypatch):
    monkeypatch.setenv("EVERGREEN_FLOW_TIMEOUT", "172800")
    run = started()
    with open_api() as post:
        cancel_hung(post, datetime.now(UTC) + timedelta(hours=40))
        assert state_of(run) == "RUNNING"
        cancel_hung(post, datetime.now(UTC) + timedelta(hours=49))
        assert state_of(run) == "CANCELLING"


def test_a_run_that_is_retried_a_day_later_begins_anew(started):
    run = started()
    with get_client(sync_client=True) as client, open_api() as post:
        first = client.read_flow_run(run).start_time
        time.sleep(1.1)
        for state in (Failed(), AwaitingRetry(), Running()):
            client.set_flow_run_state(run, state, force=True)
        assert client.read_flow_run(run).start_time == first
        assert client.read_flow_run(run).state.timestamp > first + timedelta(seconds=1)
        limit = timedelta(hours=HOURS["process"]) + MARGIN
        cancel_hung(post, first + limit + timedelta(seconds=1))
    assert state_of(run) == "RUNNING"


def test_a_cancelled_run_that_nobody_stops_is_crashed(started):
    run = started(EVERGREEN_FLOW_TIMEOUT="60")
    with open_api() as post:
        states = []
        for minutes in (12, 15, 23):
            cancel_hung(post, datetime.now(UTC) + timedelta(minutes=minutes))
            states.append(state_of(run))
    assert states == ["CANCELLING", "CRASHED", "CRASHED"]


@pytest.mark.parametrize(
    ("error", "retries", "calls"), [(ConnectionError, "1", 2), (ConnectionError, "0", 1), (KeyError, "2", 1)]
)
def test_a_step_is_repeated_after_a_transient_error_as_often_as_declared(
    prefect_server, monkeypatch, error, retries, calls
):
    from prefect import flow

    monkeypatch.setenv("EVERGREEN_RETRIES", retries)
    times: list[float] = []

    @as_task("fail", retried=True)
    def fail() -> None:
        times.append(time.monotonic())
        raise error("no answer")

    @flow
    def run() -> None:
        fail()

    with pytest.raises(error):
        run()
    assert len(times) == calls
    assert all(later - earlier >= RETRY_SECONDS[0] for earlier, later in pairwise(times))


@pytest.mark.parametrize(("failures", "completed"), [(1, True), (2, False)])
def test_a_source_that_does_not_answer_is_asked_again(tiny, prefect_server, monkeypatch, failures, completed):
    """The first look at a source is not in a task."""
    from tasks.steps import run_tasks

    monkeypatch.setenv("EVERGREEN_RETRIES", "1")
    monkeypatch.setattr("tasks.orchestration.prefect_tasks.RETRY_SECONDS", [0.1])
    answers, real = iter([SourceUnavailable("no answer")] * failures), run_tasks.available_partitions

    def read(model):
        for error in answers:
            raise error
        return real(model)[:1]

    monkeypatch.setattr(run_tasks, "available_partitions", read)
    state = process(model="tiny", return_state=True)
    assert state.is_completed() == completed
    assert completed or "no answer" in state.message
