"""The Dockerfile, tested without Docker: copied files exist, and the build steps work in a folder."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from configs.settings import ROOT
from ops.check import read_deployments

INSTRUCTION = re.compile(r"^(FROM|WORKDIR|COPY|RUN|ARG|ENV|USER|CMD)\s+(.*)$")


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    matches = [INSTRUCTION.match(line) for line in lines]
    assert all(matches), "an instruction that this test does not support"
    return [(match[1], match[2]) for match in matches if match]


def copied() -> list[str]:
    """Return the paths that are copied from the repository."""
    sources = [shlex.split(rest) for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for words in sources for source in words[:-1]]


def test_copied_paths_exist_and_are_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied())
    assert set(copied()) == allowed


def test_all_packages_that_a_run_imports_are_copied() -> None:
    assert {"configs", "tasks", "flows", "serving"} <= set(copied())


def test_the_container_does_not_run_as_root() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert users[-1] != "root"


def test_runs_start_with_the_python_of_the_image() -> None:
    command = read_deployments()[0]["work_pool"]["job_variables"]["command"]
    assert command.split()[0] == ".venv/bin/python"
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and rest.startswith("--from")]
    assert copies == [["--from=build", "/app/.venv", ".venv"]]
    assert {rest for name, rest in instructions() if name == "WORKDIR"} == {"/app"}, (
        "a virtual environment cannot be moved to another path"
    )


@pytest.mark.long
@pytest.mark.slow
def test_the_build_steps_create_an_environment_with_the_packages_of_a_worker(tmp_path: Path) -> None:
    """Only the first build stage. The second one copies files and creates a user."""
    stages = [i for i, (name, _) in enumerate(instructions()) if name == "FROM"]
    build = instructions()[stages[0] : stages[1]]
    for name, rest in build:
        if name == "COPY":
            for source in shlex.split(rest)[:-1]:
                shutil.copy(ROOT / source, tmp_path)
        if name == "RUN":
            # The image has no cache. Here the cache saves the download.
            subprocess.run(rest.replace("--no-cache ", ""), shell=True, cwd=tmp_path, check=True, env=_variables())
    code = "import prefect, mlflow, evidently, great_expectations, xgboost, sklearn, duckdb; print('ok')"
    done = subprocess.run(
        [".venv/bin/python", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=_variables()
    )
    assert done.stdout.strip() == "ok", done.stderr
    assert not (tmp_path / ".venv" / "bin" / "pytest").exists(), "packages for development are not installed"


def _variables() -> dict[str, str]:
    """Return the environment variables without those of this virtual environment."""
    return {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
