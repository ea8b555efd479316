"""Copies of the repository with stacks of their own, as a user would have them: for tests of the whole, and for benchmarks."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from configs.settings import ROOT
from ops.logs import LogError, log_errors
from tests.conftest import MODEL_YAML, free_port

PARTS = ("configs", "tasks", "flows", "ops", "serving", "prefect.yaml", "pyproject.toml")


def check_logs(home: Path, failing: Collection[str] = (), killed: Mapping[str, int] | None = None) -> None:
    """Fail if the logs of a stack have an error since its start, or since the start before.

    Args:
        home: The home of the stack.
        failing: Ids of flow runs that were to fail.
        killed: Programs that a test has killed, each with the line of its log from which on errors may follow from that.
    """
    after = killed or {}

    def planned(error: LogError) -> bool:
        died = error.program == "supervisord" and any(f" exited: {name} (terminated by" in error.text for name in after)
        follows = error.program in after and error.line > after[error.program]
        return error.run in failing or died or follows

    errors = [*log_errors(home), *log_errors(home, folder="logs/previous")]
    unexpected = [error for error in errors if not planned(error)]
    assert not unexpected, "errors in the logs:\n" + "\n".join(f"{e}\n{e.text[-2000:]}" for e in unexpected)


def length(log: Path) -> int:
    """How many lines a log has."""
    return len(log.read_text(errors="replace").splitlines()) if log.exists() else 0


class Copy:
    """A repository of its own with its own stack, driven from the command line as a user would."""

    def __init__(self, folder: Path) -> None:
        """Copy what a clone has, but for data and tests, into a folder that is there."""
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / ".venv").symlink_to(sys.prefix)
        ports = {
            f"EVERGREEN_{name}_PORT": str(free_port())
            for name in ("PREFECT", "MLFLOW", "EVIDENTLY", "PAGES", "SERVING")
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}
        self.prefect = f"http://127.0.0.1:{ports['EVERGREEN_PREFECT_PORT']}"
        self.mlflow = f"http://127.0.0.1:{ports['EVERGREEN_MLFLOW_PORT']}"
        self.pages = f"http://127.0.0.1:{ports['EVERGREEN_PAGES_PORT']}"
        self.serving = f"http://127.0.0.1:{ports['EVERGREEN_SERVING_PORT']}"
        self.env = kept | ports | {"PREFECT_API_URL": f"{self.prefect}/api", "EVERGREEN_START_TIMEOUT": "600"}
        self.failing: set[str] = set()
        """Ids of the flow runs that a test expects to fail."""
        self.killed: dict[str, int] = {}
        """Programs of the stack that a test has killed, each with the length of its log then."""

    def up(self) -> None:
        """Start the stack, as `make up` does."""
        self.run("python", "-m", "ops.stack", "up")

    def down(self) -> None:
        """Stop the stack. Fails if its logs have an error that no test expects."""
        self.run("python", "-m", "ops.stack", "down")
        self.check_logs()

    def kill(self, program: str, processes: Sequence[psutil.Process]) -> None:
        """Kill processes of a program, after a look at the logs up to now. Its log's errors from now on are no failure."""
        self.check_logs()
        self.killed[program] = length(self.folder / ".evergreen" / "logs" / f"{program}.log")
        for process in processes:
            process.kill()

    def check_logs(self) -> None:
        """Fail if a log has an error, other than those of runs that were to fail and of programs that were killed."""
        check_logs(self.folder / ".evergreen", self.failing, self.killed)

    def add_tiny(self, source: Path) -> None:
        """Add the tests' tiny model as a user would add one, with its data."""
        self.run("python", "-m", "ops.new_model", "tiny")
        home = self.folder / "configs" / "tiny"
        for sql in ("source.sql", "labels.sql"):
            shutil.copy(source / "configs" / "tiny" / sql, home / sql)
        (home / "model.yaml").write_text(MODEL_YAML.replace("DATA/", "data/"))
        shutil.copytree(source / "data", self.folder / "data")

    def add_data(self) -> None:
        """Add the demo's data, as a clone has them."""
        shutil.copytree(ROOT / "data", self.folder / "data", ignore=shutil.ignore_patterns("lake", "__pycache__"))

    def run(self, *command: str) -> str:
        """Run a command of the repository's environment to its end; fails with its output."""
        done = subprocess.run(
            [str(self.folder / ".venv" / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def deployment(self, name: str, **parameters: str | int) -> None:
        given = [part for k, v in parameters.items() for part in ("-p", f"{k}={json.dumps(v)}")]
        self.run("prefect", "deployment", "run", name, "--watch", *given)

    def begin(self, name: str, **parameters: str | int) -> str:
        """Start a deployment's run and return its id, without waiting for it."""
        flow, _, deployment = name.partition("/")
        wanted = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        (known,) = self.ask("deployments/filter", wanted)
        return self.ask(f"deployments/{known['id']}/create_flow_run", {"parameters": parameters})["id"]

    def ask(self, path: str, body: dict, method: str = "POST") -> Any:
        """What Prefect's server answers; asked again where it says 503, as it does on SQLite under load."""
        request = urllib.request.Request(
            f"{self.prefect}/api/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        for wait in (1, 3, 10, 0):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503 or not wait:
                    raise
            time.sleep(wait)
        raise AssertionError

    def runs_of(self, flow: str) -> list[dict]:
        """A flow's runs, without those that its schedule has planned."""
        now = datetime.now(UTC).isoformat()
        given = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"expected_start_time": {"before_": now}}}
        return self.ask("flow_runs/filter", given)

    def newest(self, flow: str) -> dict:
        """A flow's newest run, other than those that its schedule has planned; empty when there is none yet."""
        now = datetime.now(UTC).isoformat()
        asked = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"expected_start_time": {"before_": now}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 1,
        }
        return next(iter(self.ask("flow_runs/filter", asked)), {})

    def wait_for(self, flow: str, states: set[str], seconds: float) -> dict:
        """Wait until a flow's newest run is in one of some states."""
        deadline = time.monotonic() + seconds
        while not (run := self.newest(flow)) or run["state_type"] not in states:
            assert time.monotonic() < deadline, f"{flow} is none of {states} after {seconds:.0f} s: {run}"
            time.sleep(0.5)
        return run
