"""Names and tags of flow runs, on a real Prefect server."""

from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow, runtime, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.orchestration.prefect_tasks import simulation
from tasks.orchestration.run_names import name_by_partition, numbered
from tasks.orchestration.run_tags import end_run, partition_tags, tag_failed_run, tag_run

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(name="process", flow_run_name=name_by_partition, on_failure=[tag_failed_run])
def named(model: str, partition: str | None = None, fails: bool = False) -> object:
    RUNS.append(str(runtime.flow_run.id))
    if fails:
        raise ValueError("the disk is full")
    return end_run(f"{partition} processed, drift in 7 of 30 columns", ["drift"], data={"rows": 3})


RUNS: list[str] = []
"""The runs of these tests, oldest first."""


def newest() -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(RUNS[-1]))


def test_a_run_has_its_model_its_partition_its_origin_and_its_outcome_as_tags() -> None:
    with tags("mine"):
        named(model="boats", partition="2013-05")
    assert newest().tags == ["2013-05", "boats", "by-hand", "drift", "mine"]
    assert newest().state.name == "Completed"
    assert newest().state.message == "2013-05 processed, drift in 7 of 30 columns"


def test_a_run_that_raises_has_the_tags_of_what_it_is_about() -> None:
    named(model="boats", partition="2013-05", fails=True, return_state=True)
    assert newest().tags == ["2013-05", "boats", "by-hand"]


def test_a_second_run_of_a_name_has_a_number() -> None:
    for _ in range(3):
        named(model="ships", partition="2013-05")
    named(model="ships", partition="2013-06")
    with get_client(sync_client=True) as client:
        names = [client.read_flow_run(UUID(run)).name for run in RUNS[-4:]]
    assert names == [
        "process ships 2013-05",
        "process ships 2013-05 (2)",
        "process ships 2013-05 (3)",
        "process ships 2013-06",
    ]


def test_a_subflow_returns_its_data_and_has_the_tags_around_it() -> None:
    @flow
    def outer() -> dict[str, int]:
        with tags("expected gain"):
            return named(model="boats", partition="2013-07")

    assert outer() == {"rows": 3}
    assert newest().tags == ["2013-07", "boats", "by-flow", "drift", "expected gain"]


@pytest.mark.parametrize("fails", [False, True])
def test_tags_cost_one_request(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    sent: list[str] = []
    real = httpx.Client.send

    def recorded(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method == "PATCH" and b'"tags"' in request.content:
            sent.append(request.url.path)
        return real(self, request, **options)

    monkeypatch.setattr(httpx.Client, "send", recorded)
    named(model="boats", partition="2013-08", fails=fails, return_state=True)
    assert sent == [f"/api/flow_runs/{RUNS[-1]}"]


def test_a_server_that_does_not_answer_fails_no_run() -> None:
    @flow
    def alone() -> str:
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), SyncClientContext():
            tag_run(["drift"])
            assert numbered("process boats 2013-09") == "process boats 2013-09"
        return "done"

    assert alone() == "done"


def test_nothing_is_sent_in_simulation_mode_and_outside_of_a_run() -> None:
    assert FlowRunContext.get() is None
    tag_run(["drift"])

    @flow
    def replayed() -> str:
        RUNS.append(str(runtime.flow_run.id))
        with simulation():
            tag_run(["drift"])
        return "done"

    assert replayed() == "done"
    assert newest().tags == []


def test_a_run_of_many_partitions_has_no_tag_for_each() -> None:
    days = [f"2013-05-{day:02}" for day in range(1, 32)]
    assert partition_tags(days[:3]) == days[:3]
    assert partition_tags(days) == []
