"""Copies of the repository with their own stacks, as a user has them, for end-to-end tests and benchmarks."""

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
    """Fail if the logs of a stack have an error since its start, or since the previous start.

    Args:
        home: The home of the stack.
        failing: Ids of flow runs that are expected to fail.
        killed: Programs that a test has killed, each with the line of its log after which errors are expected.
    """
    killed_at = killed or {}

    def is_expected(error: LogError) -> bool:
        died = error.program == "supervisord" and any(
            f" exited: {name} (terminated by" in error.text for name in killed_at
        )
        follows = error.program in killed_at and error.line > killed_at[error.program]
        return error.run in failing or died or follows

    errors = [*log_errors(home), *log_errors(home, folder="logs/previous")]
    unexpected = [error for error in errors if not is_expected(error)]
    assert not unexpected, "errors in the logs:\n" + "\n".join(f"{e}\n{e.text[-2000:]}" for e in unexpected)


def length(log: Path) -> int:
    """Return the number of lines of a log, 0 if it does not exist."""
    return len(log.read_text(errors="replace").splitlines()) if log.exists() else 0


class Copy:
    """A copy of the repository with its own stack, used from the command line as a user does."""

    def __init__(self, folder: Path) -> None:
        """Copy the files of a clone, except data and tests, into an existing folder."""
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / ".venv").symlink_to(sys.prefix)
        ports = {
            f"EVERGREEN_{name}_PORT": str(free_port())
            for name in ("PREFECT", "MLFLOW", "EVIDENTLY", "PAGES", "SERVING", "METRICS")
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))}
        self.prefect = f"http://127.0.0.1:{ports['EVERGREEN_PREFECT_PORT']}"
        self.mlflow = f"http://127.0.0.1:{ports['EVERGREEN_MLFLOW_PORT']}"
        self.pages = f"http://127.0.0.1:{ports['EVERGREEN_PAGES_PORT']}"
        self.serving = f"http://127.0.0.1:{ports['EVERGREEN_SERVING_PORT']}"
        self.env = inherited | ports | {"PREFECT_API_URL": f"{self.prefect}/api", "EVERGREEN_START_TIMEOUT": "600"}
        self.failing: set[str] = set()
        """Ids of the flow runs that a test expects to fail."""
        self.killed: dict[str, int] = {}
        """Programs of the stack that a test has killed, each with the length of its log at that moment."""

    def up(self) -> None:
        """Start the stack, as `make up` does."""
        self.run("python", "-m", "ops.stack", "up")

    def down(self) -> None:
        """Stop the stack, and fail if its logs have an error that no test expects."""
        self.run("python", "-m", "ops.stack", "down")
        self.check_logs()

    def kill(self, program: str, processes: Sequence[psutil.Process]) -> None:
        """Check the logs, then kill processes of a program. Later errors in its log are expected."""
        self.check_logs()
        self.killed[program] = length(self.folder / ".evergreen" / "logs" / f"{program}.log")
        for process in processes:
            process.kill()

    def check_logs(self) -> None:
        """Fail if a log has an error, except those of runs that are expected to fail and of programs that were killed."""
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
        """Add the demo's data, as in a clone."""
        shutil.copytree(ROOT / "data", self.folder / "data", ignore=shutil.ignore_patterns("lake", "__pycache__"))

    def run(self, *command: str) -> str:
        """Run a command of the repository's environment to its end, and return its output. Fails with the output."""
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
        options = [part for k, v in parameters.items() for part in ("-p", f"{k}={json.dumps(v)}")]
        self.run("prefect", "deployment", "run", name, "--watch", *options)

    def begin(self, name: str, **parameters: str | int) -> str:
        """Start a deployment's run and return its id, without waiting for it."""
        flow, _, deployment = name.partition("/")
        query = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        (record,) = self.ask("deployments/filter", query)
        return self.ask(f"deployments/{record['id']}/create_flow_run", {"parameters": parameters})["id"]

    def ask(self, path: str, body: dict | list, method: str = "POST") -> Any:
        """Send a request to Prefect's server and return the answer. A 503 is retried: SQLite under load causes them."""
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
        """Return a flow's runs, without those that are only planned by its schedule."""
        now = datetime.now(UTC).isoformat()
        query = {"flows": {"name": {"any_": [flow]}}, "flow_runs": {"expected_start_time": {"before_": now}}}
        return self.ask("flow_runs/filter", query)

    def newest(self, flow: str) -> dict:
        """Return a flow's newest run, without those that are only planned by its schedule; empty if there is none."""
        now = datetime.now(UTC).isoformat()
        query = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"expected_start_time": {"before_": now}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 1,
        }
        return next(iter(self.ask("flow_runs/filter", query)), {})

    def wait_for(self, flow: str, states: set[str], seconds: float) -> dict:
        """Wait until a flow's newest run is in one of the states, and return it."""
        deadline = time.monotonic() + seconds
        while not (run := self.newest(flow)) or run["state_type"] not in states:
            assert time.monotonic() < deadline, f"{flow} is none of {states} after {seconds:.0f} s: {run}"
            time.sleep(0.5)
        return run
