"""Runs every command of the docs, page by page, on a stack with flights. It takes half an hour on two cores.

Each command must succeed, and so must every flow run that it starts. BEFORE prepares what a command needs. tests/commands.py
lists the commands that are skipped or changed, with the reason.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from configs.settings import ROOT
from tests.commands import BLOCKS, NOT_RUN, ONLY_IN_PROSE, REPLACEMENTS, Block, Command
from tests.conftest import free_port
from tests.copies import Copy

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
LONG_RUNNING = {
    "dask_scheduler": "Scheduler at:",
    "dask_worker": "Registered to:",
    "make serve": "Application startup complete",
    "evidently ui": "Application startup complete",
    "prefect events stream": "",
}
"""Parts of commands that run until they are stopped, and the output that shows that they are ready."""


class CommandRunner:
    """Runs commands in a copy of the repository, and keeps values from their output for later commands."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.values = {
            "serving": copy.env["EVERGREEN_SERVING_PORT"],
            "metrics": copy.env["EVERGREEN_METRICS_PORT"],
            "dask": str(free_port()),
            "plan": "none yet",
        }
        self.running: list[tuple[Command, subprocess.Popen[str]]] = []

    def run(self, command: Command) -> str:
        """Run a command in a shell and wait for all flow runs that it starts; returns its output.

        Fails if the command or a flow run fails. A long-running command is started in the background.
        """
        text = command.text
        for other in REPLACEMENTS:
            if other.text in text:
                text = text.replace(other.text, other.run.format(**self.values, port=free_port()))
        for part, prepare in BEFORE.items():
            if re.search(part, text):
                prepare(self)
        for part, ready in LONG_RUNNING.items():
            if part in text:
                self.start(command, text, ready)
                return ""
        print(f"{time.strftime('%H:%M:%S')} {command}", flush=True)
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.copy.folder,
            env=self.copy.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{command}\nrun as: {text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if up(self.copy):
            self.wait_for_runs(command, done.stdout)
        for part, check in AFTER.items():
            if re.search(part, text):
                check(self, done.stdout)
        return done.stdout

    def start(self, command: Command, text: str, ready: str) -> None:
        """Start a long-running command in the background, and wait until its output contains `ready`."""
        log = self.copy.folder / f"running-{len(self.running)}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.copy.folder,
                env=self.copy.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        self.running.append((command, process))
        deadline = time.monotonic() + 120
        while ready not in log.read_text():
            assert process.poll() is None, f"{command}\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{command}\n{log.read_text()[-3000:]}"
            time.sleep(0.5)

    def stop_running(self) -> None:
        """Stop all long-running commands. Fails if one has ended by itself."""
        ended = [str(command) for command, process in self.running if process.poll() is not None]
        while self.running:
            _, process = self.running.pop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
        assert ended == []

    def wait_for_runs(self, command: Command, output: str, seconds: float = 1800) -> None:
        """Wait until every flow run has ended. Fails if one failed, or if the command's own run did not complete."""
        deadline = time.monotonic() + seconds
        while running := [run for run in self.runs("SCHEDULED", "PENDING", "RUNNING") if not run["auto_scheduled"]]:
            assert time.monotonic() < deadline, f"{command}\n{[run['name'] for run in running]}"
            time.sleep(1)
        failed = [(run["name"], run["state"]["message"]) for run in self.runs("FAILED", "CRASHED", "CANCELLED")]
        assert not failed, f"{command}\n{failed}"
        if "prefect deployment run" in command.text:
            started = re.search(r"UUID: ([0-9a-f-]{36})", output)
            assert started, f"{command}\n{output}"
            (run,) = self.copy.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [started[1]]}}})
            assert run["state_type"] == "COMPLETED", f"{command}\n{run['state']}"
            if plan := re.search(r": plan ([0-9a-f]{8,}): ", str(run["state"]["message"])):
                self.values["plan"] = plan[1]

    def runs(self, *states: str) -> list[dict]:
        return self.copy.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": list(states)}}}})

    def evaluate(self, expression: str) -> str:
        """Return the printed value of an expression about `res`, the resources of flights."""
        script = (
            f"from tasks.resources import open_resources; res = open_resources('flights'); print('is', {expression})"
        )
        return self.copy.run("python", "-c", script).splitlines()[-1].removeprefix("is").strip()


def up(copy: Copy) -> bool:
    try:
        copy.ask("flow_runs/filter", {"limit": 1})
    except OSError:
        return False
    return True


ROLLED_BACK_FROM = (
    "[p.previous for p in res.ledger.champions()][-1] if res.ledger.champions()[-1].action == 'rollback' else ''"
)


def undo_rollback(runner: CommandRunner) -> None:
    """After a rollback, promote the replaced version again, so that no version is excluded from automatic promotion."""
    if version := runner.evaluate(ROLLED_BACK_FROM):
        runner.copy.deployment("promote/manual", model="flights", by="ann", reason="it is good", version=int(version))


def train_challenger(runner: CommandRunner) -> None:
    if runner.evaluate("res.ledger.challenger()") == "None":
        undo_rollback(runner)
        runner.copy.deployment("train/flights", reason="another one")


def move_alias(runner: CommandRunner) -> None:
    """Move the alias in MLflow to an earlier champion."""
    other = runner.evaluate("[p.version for p in res.ledger.champions() if p.version != res.champion().version][-1]")
    move = "from mlflow import MlflowClient as c; c({!r}).set_registered_model_alias('flights', 'champion', {!r})"
    runner.copy.run("python", "-c", move.format(runner.copy.mlflow, other))


def delete_last_month(runner: CommandRunner) -> None:
    """Delete the outputs of the last month, so that a backfill has something to do."""
    outputs = list((runner.copy.folder / "data" / "lake" / "flights").glob("*/2013-12.*"))
    for path in outputs:
        path.unlink()
    assert outputs


def remove_electricity(runner: CommandRunner) -> None:
    """Remove the model electricity. The page explains how to add it, but a clone already has it."""
    shutil.rmtree(runner.copy.folder / "configs" / "electricity")
    deployments = runner.copy.folder / "prefect.yaml"
    before, block = deployments.read_text().split("  # electricity\n")
    _, *others = re.split(r"(?m)^(?=  # )", block)
    deployments.write_text(before + "".join(others))


def complete_electricity(runner: CommandRunner, _: str) -> None:
    """Change the three files as the page describes."""
    home = runner.copy.folder / "configs" / "electricity"
    for unneeded in ("source.sql", "labels.sql"):
        (home / unneeded).unlink()
    shutil.copy(ROOT / "configs" / "electricity" / "model.yaml", home)


def check_predictions(_: CommandRunner, output: str) -> None:
    (row,) = json.loads(output)["predictions"]
    assert sum(row) == pytest.approx(1)


def check_audit(_: CommandRunner, output: str) -> None:
    assert "Checked: " in output


BEFORE: dict[str, Callable[[CommandRunner], None]] = {
    r"promote/manual(?!.*action)|action=refuse": train_challenger,
    r"rollback/manual": undo_rollback,
    r"action=(adopt|restore)": move_alias,
    r"runner=dask": delete_last_month,
    r"make model NAME=electricity": remove_electricity,
}
"""Preparations, by a pattern of the command."""
AFTER: dict[str, Callable[[CommandRunner, str], None]] = {
    r"make model NAME=electricity": complete_electricity,
    r"curl .*/invocations": check_predictions,
    r"make audit": check_audit,
}
"""Further actions and checks after a command has succeeded, by a pattern of the command."""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRunner]:
    """A copy of the repository with half a year of flights and two champions, the second by manual approval.

    The gate is lenient and the policy declines all facts, so that the champion depends only on the commands, not on the data.
    """
    folder = tmp_path_factory.mktemp("commands")
    copy = Copy(folder)
    for name in ("Makefile", "uv.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)  # keeps their times, so that `make setup` has nothing to do
    copy.add_data()
    copy.env["PATH"] = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    path = folder / "configs" / "flights" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["gate"] = {"floor": {"log_loss": 0.9}, "gain": {"test": "non_inferiority", "margin": 0.5}}
    config["training"] |= {
        "baseline": "prior",
        "refit": "none",
    }  # the champion is not trained on the holdout, so it can be compared on it
    config["training"]["candidates"]["xgboost"]["params"] |= {"n_estimators": 20, "learning_rate": 0.3}
    config["promotion"]["approval"] = True
    config["retraining"] |= {"enabled": False, "hindsight": {"partitions": 0}}
    path.write_text(yaml.safe_dump(config))
    runner = CommandRunner(copy)
    try:
        copy.up()
        for start, end in (("2013-01", "2013-03"), ("2013-04", "2013-06")):
            copy.deployment("backfill/manual", model="flights", start=start, end=end)
            copy.deployment("train/flights", reason=f"data up to {end}")
            copy.deployment("promote/manual", model="flights", by="ann", reason="checked")
        yield runner
    finally:
        copy.down()


def run_all(runner: CommandRunner, commands: list[Command]) -> None:
    """Run commands in order. Starts the stack first if it is down."""
    if not up(runner.copy):
        runner.copy.up()
    for command in commands:
        runner.run(command)


def to_run(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not any(command.begins(skipped) for skipped in NOT_RUN)]


def pages() -> list[str]:
    """List the pages with commands or programs, the README first."""
    return list(dict.fromkeys(block.page for block in BLOCKS if to_run(block.commands()) or block.kind == "python"))


@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_succeeds(runner: CommandRunner, page: str) -> None:
    try:
        for block in (block for block in BLOCKS if block.page == page):
            run_all(runner, to_run(block.commands()))
            if block.kind == "python":
                run_program(runner, block)
    finally:
        runner.stop_running()
    run_all(runner, [Command(page, 0, "make up"), Command(page, 0, "make audit MODEL=flights")])


def run_program(runner: CommandRunner, block: Block) -> None:
    done = subprocess.run(
        [runner.copy.folder / ".venv" / "bin" / "python", "-c", "\n".join(block.lines)],
        cwd=runner.copy.folder,
        env=runner.copy.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stderr[-3000:]}"


def test_every_command_in_prose_succeeds(runner: CommandRunner) -> None:
    """Commands that are in no block. `make clean` is last, since it deletes the results of the others."""
    runner.copy.check_logs()
    try:
        run_all(runner, sorted(to_run(ONLY_IN_PROSE), key=lambda command: command.begins("make clean")))
    finally:
        runner.stop_running()
    assert not (runner.copy.folder / ".evergreen").exists()
