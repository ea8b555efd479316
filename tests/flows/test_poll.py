"""`poll` starts one run of work for what has arrived, however often it is asked, and events from outside do so at once."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Completed, Crashed, Failed

from configs.settings import ROOT
from flows.assess import assess
from flows.poll import poll
from flows.process import process
from ops.rendering import render
from tasks.orchestration.api import open_api
from tasks.orchestration.on_arrival import TAG, start_arrived
from tests.conftest import day_file

NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)


@pytest.fixture
def deployed(workspace, request):
    """Deployments of the tiny model with the tag. Nothing runs them: no worker polls their pool."""
    with get_client(sync_client=True) as client:
        made = []
        for flow in (process, assess):
            flow_id = client.create_flow(flow)
            made.append(
                client.create_deployment(
                    flow_id,
                    name=f"tiny-{request.node.name[:40]}",
                    entrypoint=f"flows/{flow.name}.py:{flow.name}",
                    parameters={"model": "tiny"},
                    tags=["tiny", TAG],
                )
            )
        yield dict(zip(("process", "assess"), made, strict=True))
        for deployment in made:
            client.delete_deployment(deployment)


def look(now: datetime = NOW) -> list[str]:
    """What a poll starts, by flow."""
    with open_api() as post:
        started, _, errors = start_arrived(post, now)
    assert errors == []
    return [name.partition("/")[0] for name in started]


def runs(deployment: Any) -> list[dict[str, Any]]:
    with open_api() as post:
        return post("flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [str(deployment)]}}})


def end(deployment: Any, state: Any) -> None:
    """The newest run of a deployment ends."""
    newest = max(runs(deployment), key=lambda run: run["created"])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(newest["id"], state, force=True)


def test_ten_polls_start_one_run_and_assess_follows_when_it_has_ended(deployed):
    assert [look() for _ in range(10)] == [["process"], *([] for _ in range(9))]
    assert len(runs(deployed["process"])) == 1
    end(deployed["process"], Completed())
    assert [look(), look()] == [["assess"], []]
    assert [len(runs(deployed[flow])) for flow in ("process", "assess")] == [1, 1]


def test_a_file_that_comes_and_one_that_is_corrected_start_another_run(deployed, workspace):
    late = day_file(workspace, 3)
    content = late.read_bytes()
    late.unlink()
    assert look() == ["process"]
    late.write_bytes(content)
    assert [look(), look()] == [["process"], []]
    day_file(workspace, 4).write_bytes(content)
    assert [look(), look()] == [["process"], []]


@pytest.mark.parametrize("state", [Crashed(message="killed"), Failed(message="no answer"), Failed(name="TimedOut")])
def test_a_run_that_died_or_failed_is_started_again_but_not_forever_and_then_assess_follows(deployed, state):
    for _ in range(3):
        assert [look(), look()] == [["process"], []]
        end(deployed["process"], state)
    assert [look(), look()] == [["assess"], []]
    assert len(runs(deployed["process"])) == 3


def test_a_run_that_somebody_cancelled_is_not_started_again(deployed):
    look()
    end(deployed["process"], Cancelled())
    assert look() == ["assess"]
    assert len(runs(deployed["process"])) == 1


def test_a_paused_deployment_and_one_without_the_tag_are_left_alone(deployed):
    with get_client(sync_client=True) as client:
        client.pause_deployment(deployed["process"])
        assert look() == ["assess"], "nothing comes before it"
        end(deployed["assess"], Completed())
        assert look() == []
        client.resume_deployment(deployed["process"])
    assert look() == ["process"]


def test_a_model_that_cannot_be_read_is_named_and_stops_no_other(deployed, workspace, monkeypatch):
    path = workspace / "configs" / "tiny" / "model.yaml"
    content = path.read_text()
    path.write_text(content.replace("every: D, timezone", "every: Y, timezone"))
    state = poll(return_state=True)
    assert (state.is_completed(), state.name) == (True, "Completed"), "a message every five minutes would help nobody"
    assert "tiny: " in state.message
    assert "partition.every" in state.message
    path.write_text(content)
    state = poll(return_state=True)
    assert state.is_completed()
    assert state.message.startswith("Started process/tiny-")
    assert poll(return_state=True).message.startswith("Nothing has arrived for 2 deployments")


def test_a_new_model_reacts_to_the_documented_events() -> None:
    text = render("deployments.yaml", "trains")
    shared = (ROOT / "prefect.yaml").read_text().partition("\ndeployments:")[0]
    made = {d["entrypoint"]: d for d in yaml.safe_load(f"{shared}\ndeployments:\n{text}")["deployments"]}
    for flow, event in (("process", "evergreen.source.updated"), ("assess", "evergreen.labels.updated")):
        deployment = made[f"flows/{flow}.py:{flow}"]
        (trigger,) = deployment["triggers"]
        assert trigger["expect"] == [event]
        assert trigger["match"] == {"prefect.resource.id": "evergreen.model.trains"}
        assert trigger["for_each"] == ["prefect.resource.id", "evergreen.partition"]
