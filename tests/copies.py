"""Copies of the repository with stacks of their own, as a user would have them: for tests of the whole, and for benchmarks."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from configs.settings import ROOT
from tests.conftest import MODEL_YAML, free_port

PARTS = ("configs", "tasks", "flows", "ops", "serving", "prefect.yaml", "pyproject.toml")


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
        return self.ask("flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})

    def newest(self, flow: str) -> dict:
        """A flow's newest run; empty when there is none yet."""
        asked = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        return next(iter(self.ask("flow_runs/filter", asked)), {})

    def wait_for(self, flow: str, states: set[str], seconds: float) -> dict:
        """Wait until a flow's newest run is in one of some states."""
        deadline = time.monotonic() + seconds
        while not (run := self.newest(flow)) or run["state_type"] not in states:
            assert time.monotonic() < deadline, f"{flow} is none of {states} after {seconds:.0f} s: {run}"
            time.sleep(0.5)
        return run
