"""A flow run ends at its limit, whatever it waits for, frees what it has claimed, and the next run continues its work."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Running

from configs.settings import ROOT
from flows.process import process
from tasks.orchestration.api import open_api
from tasks.orchestration.prefect_tasks import RETRY_SECONDS, as_task
from tasks.orchestration.timeouts import HOURS, MARGIN, cancel_hung
from tasks.resources import open_resources

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


@pytest.fixture
def started(prefect_server):
    """Start a run of a deployment of `process`. Returns its id."""
    made: list[Any] = []
    with get_client(sync_client=True) as client:

        def start(**variables: str) -> str:
            flow = client.create_flow(process)
            deployment = client.create_deployment(
                flow, name=f"hung-{len(made)}", entrypoint="flows/process.py:process", job_variables={"env": variables}
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
    usual, longer, shorter = started(), started(EVERGREEN_FLOW_TIMEOUT="86400"), started(EVERGREEN_FLOW_TIMEOUT="600")
    limit, states = timedelta(hours=HOURS["process"]) + MARGIN, []
    with open_api() as post:
        for after in (
            timedelta(minutes=19),
            timedelta(minutes=30),
            limit - timedelta(minutes=1),
            limit + timedelta(minutes=1),
        ):
            cancel_hung(post, datetime.now(UTC) + after)
            states.append([state_of(run) == "CANCELLING" for run in (usual, longer, shorter)])
    none, one = [False, False, False], [False, False, True]
    assert states == [none, one, one, [True, False, True]]


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
