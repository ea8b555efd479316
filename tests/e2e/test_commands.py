"""Every command of the docs as a reader would type it, page by page, on a stack with flights. Half an hour on two cores.

Each must end well, and so must every run that it starts. What it needs to act upon is made before it (BEFORE); what is
left out or run otherwise, and why, stands in tests/commands.py.
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
from tests.commands import BLOCKS, NOT_RUN, ONLY_IN_PROSE, OTHERWISE, Block, Command
from tests.conftest import free_port
from tests.copies import Copy

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
LASTING = {
    "dask_scheduler": "Scheduler at:",
    "dask_worker": "Registered to:",
    "make serve": "Application startup complete",
    "evidently ui": "Application startup complete",
    "prefect events stream": "",
}
"""Parts of commands that go on until they are stopped, and what they say when they are ready."""


class Duty:
    """A copy of the repository whose stack is up, and what has been learned from the commands so far."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.known = {
            "serving": copy.env["EVERGREEN_SERVING_PORT"],
            "dask": str(free_port()),
            "plan": "none so far",
        }
        self.lasting: list[tuple[Command, subprocess.Popen[str]]] = []

    def type(self, command: Command) -> str:
        """Run a command as a shell does, and everything that it starts, to a good end; returns what it said."""
        text = command.text
        for other in OTHERWISE:
            if other.said in text:
                text = text.replace(other.said, other.run.format(**self.known, port=free_port()))
        for part, prepare in BEFORE.items():
            if re.search(part, text):
                prepare(self)
        for part, ready in LASTING.items():
            if part in text:
                self.begin(command, text, ready)
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
            self.settle(command, done.stdout)
        for part, check in AFTER.items():
            if re.search(part, text):
                check(self, done.stdout)
        return done.stdout

    def begin(self, command: Command, text: str, ready: str) -> None:
        """Start what goes on until it is stopped, and wait until it says that it is ready."""
        log = self.copy.folder / f"lasting-{len(self.lasting)}.log"
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
        self.lasting.append((command, process))
        deadline = time.monotonic() + 120
        while ready not in log.read_text():
            assert process.poll() is None, f"{command}\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{command}\n{log.read_text()[-3000:]}"
            time.sleep(0.5)

    def stop_lasting(self) -> None:
        """Stop what goes on until then; it must not have ended by itself."""
        ended = [str(command) for command, process in self.lasting if process.poll() is not None]
        while self.lasting:
            _, process = self.lasting.pop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
        assert ended == []

    def settle(self, command: Command, said: str, seconds: float = 1800) -> None:
        """Wait until every run has ended; the one that the command started must have completed, and none may have failed."""
        deadline = time.monotonic() + seconds
        while running := [run for run in self.runs("SCHEDULED", "PENDING", "RUNNING") if not run["auto_scheduled"]]:
            assert time.monotonic() < deadline, f"{command}\n{[run['name'] for run in running]}"
            time.sleep(1)
        failed = [(run["name"], run["state"]["message"]) for run in self.runs("FAILED", "CRASHED", "CANCELLED")]
        assert not failed, f"{command}\n{failed}"
        if "prefect deployment run" in command.text:
            started = re.search(r"UUID: ([0-9a-f-]{36})", said)
            assert started, f"{command}\n{said}"
            (run,) = self.copy.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [started[1]]}}})
            assert run["state_type"] == "COMPLETED", f"{command}\n{run['state']}"
            if told := re.search(r": plan ([0-9a-f]{8,}): ", str(run["state"]["message"])):
                self.known["plan"] = told[1]

    def runs(self, *states: str) -> list[dict]:
        return self.copy.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": list(states)}}}})

    def asked(self, expression: str) -> str:
        """What an expression about the resources of flights, `res`, is."""
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


LEFT = "[p.previous for p in res.ledger.champions()][-1] if res.ledger.champions()[-1].action == 'rollback' else ''"


def promote_what_was_left(duty: Duty) -> None:
    """After a rollback, make the version that was left champion again: nothing is rolled back from, and nothing barred."""
    if left := duty.asked(LEFT):
        duty.copy.deployment("promote/manual", model="flights", by="ann", reason="it is good", version=int(left))


def let_a_challenger_wait(duty: Duty) -> None:
    if duty.asked("res.ledger.challenger()") == "None":
        promote_what_was_left(duty)
        duty.copy.deployment("train/flights", reason="another one")


def move_the_alias(duty: Duty) -> None:
    """As somebody would in MLflow, to an earlier champion."""
    other = duty.asked("[p.version for p in res.ledger.champions() if p.version != res.champion().version][-1]")
    move = "from mlflow import MlflowClient as c; c({!r}).set_registered_model_alias('flights', 'champion', {!r})"
    duty.copy.run("python", "-c", move.format(duty.copy.mlflow, other))


def lose_the_last_month(duty: Duty) -> None:
    """Else a cluster would find a year that other pages have made, and nothing to do."""
    lost = list((duty.copy.folder / "data" / "lake" / "flights").glob("*/2013-12.*"))
    for path in lost:
        path.unlink()
    assert lost


def take_electricity_away(duty: Duty) -> None:
    """The page tells how it was added; a clone has it already."""
    shutil.rmtree(duty.copy.folder / "configs" / "electricity")
    deployments = duty.copy.folder / "prefect.yaml"
    before, block = deployments.read_text().split("  # electricity\n")
    _, *others = re.split(r"(?m)^(?=  # )", block)
    deployments.write_text(before + "".join(others))


def fill_in_electricity(duty: Duty, _: str) -> None:
    """What the page says to do with the three files."""
    home = duty.copy.folder / "configs" / "electricity"
    for unneeded in ("source.sql", "labels.sql"):
        (home / unneeded).unlink()
    shutil.copy(ROOT / "configs" / "electricity" / "model.yaml", home)


def predictions_came(_: Duty, said: str) -> None:
    (row,) = json.loads(said)["predictions"]
    assert sum(row) == pytest.approx(1)


def the_record_holds(_: Duty, said: str) -> None:
    assert "Checked: " in said


BEFORE: dict[str, Callable[[Duty], None]] = {
    r"promote/manual(?!.*action)|action=refuse": let_a_challenger_wait,
    r"rollback/manual": promote_what_was_left,
    r"action=(adopt|restore)": move_the_alias,
    r"runner=dask": lose_the_last_month,
    r"make model NAME=electricity": take_electricity_away,
}
"""What a command needs to act upon, by what is found in it."""
AFTER: dict[str, Callable[[Duty, str], None]] = {
    r"make model NAME=electricity": fill_in_electricity,
    r"curl .*/invocations": predictions_came,
    r"make audit": the_record_holds,
}
"""What is done, or looked at, when a command has ended well."""


@pytest.fixture(scope="module")
def duty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duty]:
    """The repository with its Makefile and flights: half a year, and two champions, the second by a person's approval.

    The gate lets everything through that is not much worse, and facts are declined: what is champion is then what the
    commands have made of it, whatever the data say.
    """
    folder = tmp_path_factory.mktemp("duty")
    copy = Copy(folder)
    for name in ("Makefile", "uv.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)  # with their times, so that `make setup` finds nothing to do
    copy.add_data()
    copy.env["PATH"] = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    path = folder / "configs" / "flights" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["gate"] = {"floor": {"log_loss": 0.9}, "gain": {"test": "non_inferiority", "margin": 0.5}}
    config["training"] |= {
        "baseline": "prior",
        "refit": "none",
    }  # a champion knows no holdout, and can be compared on it
    config["training"]["candidates"]["xgboost"]["params"] |= {"n_estimators": 20, "learning_rate": 0.3}
    config["promotion"]["approval"] = True
    config["retraining"] |= {"enabled": False, "hindsight": {"partitions": 0}}
    path.write_text(yaml.safe_dump(config))
    made = Duty(copy)
    try:
        copy.up()
        for start, end in (("2013-01", "2013-03"), ("2013-04", "2013-06")):
            copy.deployment("backfill/manual", model="flights", start=start, end=end)
            copy.deployment("train/flights", reason=f"it has come to {end}")
            copy.deployment("promote/manual", model="flights", by="ann", reason="looked at")
        yield made
    finally:
        copy.down()


def type_all(duty: Duty, commands: list[Command]) -> None:
    """Commands in their order, on a stack that is up."""
    if not up(duty.copy):
        duty.copy.up()
    for command in commands:
        duty.type(command)


def to_run(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not any(command.begins(left) for left in NOT_RUN)]


def pages() -> list[str]:
    """The pages that have something to run, the README first."""
    return list(dict.fromkeys(block.page for block in BLOCKS if to_run(block.commands()) or block.kind == "python"))


@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_does_what_it_says(duty: Duty, page: str) -> None:
    try:
        for block in (block for block in BLOCKS if block.page == page):
            type_all(duty, to_run(block.commands()))
            if block.kind == "python":
                run_program(duty, block)
    finally:
        duty.stop_lasting()
    type_all(duty, [Command(page, 0, "make up"), Command(page, 0, "make audit MODEL=flights")])


def run_program(duty: Duty, block: Block) -> None:
    done = subprocess.run(
        [duty.copy.folder / ".venv" / "bin" / "python", "-c", "\n".join(block.lines)],
        cwd=duty.copy.folder,
        env=duty.copy.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stderr[-3000:]}"


def test_every_command_in_prose_does_what_it_says(duty: Duty) -> None:
    """Those that no block has; at last the one that deletes what the others have made."""
    duty.copy.check_logs()
    try:
        type_all(duty, sorted(to_run(ONLY_IN_PROSE), key=lambda command: command.begins("make clean")))
    finally:
        duty.stop_lasting()
    assert not (duty.copy.folder / ".evergreen").exists()
