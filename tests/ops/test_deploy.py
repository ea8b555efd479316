"""Deploying: which errors are retried, and when deploying is skipped."""

from pathlib import Path

import pytest
from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger

from configs.settings import Settings
from ops import deploy
from ops.errors import DeployFailed


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Exit code and output of each call of Prefect's command. No command is run."""
    results: list[tuple[int, str]] = []

    async def do_nothing(*arguments: object) -> None:
        return None

    monkeypatch.setattr(deploy, "prepare", do_nothing)
    monkeypatch.setattr(deploy, "deploy_selected", do_nothing)
    monkeypatch.setattr(deploy, "run_prefect_deploy", lambda *arguments: results.pop(0))
    return results


def test_deploying_to_a_busy_server_is_retried(
    results: list[tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    results += [
        (1, "... '503 Service Unavailable' ..."),
        (0, "Deployment 'process/flights' successfully created with id 'x'."),
    ]
    deploy.deploy(Settings())
    assert results == []
    assert capsys.readouterr().out == "deployed process/flights\n"


def test_retrying_ends_if_the_server_stays_busy(results: list[tuple[int, str]]) -> None:
    results += [(1, "httpx.ReadTimeout")] * (deploy.ATTEMPTS + 1)
    with pytest.raises(DeployFailed, match="ReadTimeout"):
        deploy.deploy(Settings())
    assert len(results) == 1


def test_an_error_in_a_flow_is_reported_without_a_retry(results: list[tuple[int, str]]) -> None:
    results += [(1, "SyntaxError: invalid syntax"), (0, "")]
    with pytest.raises(DeployFailed, match="SyntaxError"):
        deploy.deploy(Settings())
    assert len(results) == 1


def test_only_a_change_of_deployed_files_changes_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "ROOT", tmp_path)
    for folder in ("flows", "configs/flights", "tasks", "flows/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "flows" / "train.py").write_text("a = 1")
    first = deploy.fingerprint()
    (tmp_path / "tasks" / "gate.py").write_text("b = 1")
    (tmp_path / "flows" / "__pycache__" / "train.py").write_text("b = 1")
    assert deploy.fingerprint() == first
    (tmp_path / "configs" / "flights" / "model.yaml").write_text("name: flights")
    second = deploy.fingerprint()
    assert second != first
    (tmp_path / "flows" / "train.py").write_text("a = 2")
    assert deploy.fingerprint() not in (first, second)


def test_lost_runs_are_marked_as_crashed_after_several_missing_heartbeats() -> None:
    automation = deploy.lost_runs()
    assert automation.trigger.within == deploy.HEARTBEAT_TIMEOUT
    assert automation.trigger.after == {"prefect.flow-run.heartbeat"}
    server_side = ServerTrigger.model_validate(automation.trigger.model_dump(mode="json"))
    for state in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", "TimedOut", "a name of its own"):
        assert server_side.expects(f"prefect.flow-run.{state}"), f"a run that is {state} is not lost"
    (action,) = automation.actions
    assert (action.type, action.state.value) == ("change-flow-run-state", "CRASHED")
