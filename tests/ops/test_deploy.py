"""Deploying: what is tried again, what is not, and when it is skipped."""

from pathlib import Path

import pytest

from configs.settings import Settings
from ops import deploy
from ops.errors import DeployFailed


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What Prefect's command will answer, call by call; nothing is sent anywhere."""
    answers: list[tuple[int, str]] = []

    async def prepared(settings: Settings) -> None:
        return None

    monkeypatch.setattr(deploy, "prepare", prepared)
    monkeypatch.setattr(deploy, "deploy_all", lambda: answers.pop(0))
    return answers


def test_a_busy_server_is_asked_again(tries: list[tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    tries += [
        (1, "... '503 Service Unavailable' ..."),
        (0, "Deployment 'process/flights' successfully created with id 'x'."),
    ]
    deploy.deploy(Settings())
    assert tries == []
    assert capsys.readouterr().out == "deployed process/flights\n"


def test_a_server_that_stays_busy_is_given_up(tries: list[tuple[int, str]]) -> None:
    tries += [(1, "httpx.ReadTimeout")] * (deploy.ATTEMPTS + 1)
    with pytest.raises(DeployFailed, match="ReadTimeout"):
        deploy.deploy(Settings())
    assert len(tries) == 1


def test_a_mistake_in_a_flow_is_told_at_once(tries: list[tuple[int, str]]) -> None:
    tries += [(1, "SyntaxError: invalid syntax"), (0, "")]
    with pytest.raises(DeployFailed, match="SyntaxError"):
        deploy.deploy(Settings())
    assert len(tries) == 1


def test_only_a_change_of_what_is_deployed_changes_the_fingerprint(
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


def test_lost_runs_are_crashed_after_several_missing_heartbeats() -> None:
    automation = deploy.lost_runs()
    assert automation.trigger.within == deploy.SILENCE
    assert "prefect.flow-run.heartbeat" in automation.trigger.after & automation.trigger.expect
    (action,) = automation.actions
    assert (action.type, action.state.value) == ("change-flow-run-state", "CRASHED")
