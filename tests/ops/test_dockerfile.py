"""The Dockerfile, without Docker: what it copies exists, and its build steps work in a folder."""

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
    """The Dockerfile's instructions with their arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [INSTRUCTION.match(line) for line in lines]
    assert all(found), "an instruction that this test does not know"
    return [(match[1], match[2]) for match in found if match]


def copied() -> list[str]:
    """What is copied from the repository."""
    sources = [shlex.split(rest) for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for words in sources for source in words[:-1]]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied())
    assert set(copied()) == allowed


def test_everything_that_a_run_imports_is_copied() -> None:
    assert {"configs", "tasks", "flows", "serving"} <= set(copied())


def test_it_runs_as_somebody_without_rights() -> None:
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users
    assert users[-1] != "root"


def test_runs_start_with_the_python_that_was_built() -> None:
    command = read_deployments()[0]["work_pool"]["job_variables"]["command"]
    assert command.split()[0] == ".venv/bin/python"
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and rest.startswith("--from")]
    assert copies == [["--from=build", "/app/.venv", ".venv"]]
    assert {rest for name, rest in instructions() if name == "WORKDIR"} == {"/app"}, "a virtual environment cannot move"


@pytest.mark.slow
def test_its_build_steps_make_an_environment_that_has_what_a_worker_needs(tmp_path: Path) -> None:
    """Only the first stage: the second one copies, and makes a user."""
    stages = [i for i, (name, _) in enumerate(instructions()) if name == "FROM"]
    build = instructions()[stages[0] : stages[1]]
    for name, rest in build:
        if name == "COPY":
            for source in shlex.split(rest)[:-1]:
                shutil.copy(ROOT / source, tmp_path)
        if name == "RUN":
            # The image has no cache to share with; here one saves the download.
            subprocess.run(rest.replace("--no-cache ", ""), shell=True, cwd=tmp_path, check=True, env=_bare())
    code = "import prefect, mlflow, evidently, great_expectations, xgboost, sklearn, duckdb; print('ok')"
    done = subprocess.run([".venv/bin/python", "-c", code], cwd=tmp_path, capture_output=True, text=True, env=_bare())
    assert done.stdout.strip() == "ok", done.stderr
    assert not (tmp_path / ".venv" / "bin" / "pytest").exists(), "what only developers need"


def _bare() -> dict[str, str]:
    """An environment without this one's virtual environment."""
    return {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
