"""JSON logs of a flow run as a process of the worker writes them: each line is an object, with what it is about."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.settings import ROOT, load_env
from tasks.orchestration.run_logs import VARIABLES
from tests.flows.conftest import STEADY

pytestmark = [pytest.mark.long, pytest.mark.slow]

CODE = f"""
import logging, sys
from flows.process import process
logging.getLogger("tasks").warning("before the run")
process(model="tiny", partition={STEADY!r})
"""


def run_process(variables: dict[str, str]) -> list[str]:
    """Run the flow in a process of its own, and return the lines of its console."""
    from prefect.settings import PREFECT_API_URL

    environment = os.environ | load_env("dev") | {"PREFECT_API_URL": str(PREFECT_API_URL.value())} | variables
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line]


def test_lines_of_a_run_are_objects_with_model_partition_run_and_version(champion: Path) -> None:
    lines = [json.loads(line) for line in run_process(VARIABLES)]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert next(line for line in lines if line["message"] == "before the run").keys() == {
        "time",
        "level",
        "logger",
        "message",
    }
    of_run = [line for line in lines if line.get("run_name", "").startswith(f"process tiny {STEADY}")]
    assert len({line["run"] for line in of_run}) == 1
    assert {line["model"] for line in of_run} == {"tiny"}
    assert {line["partition"] for line in of_run} == {STEADY}
    assert of_run[-1]["message"].startswith("Finished in state Completed"), "the line after the run is about it too"
    assert "task" not in of_run[-1]
    rows = {line["task"]: line for line in of_run if " rows in " in line["message"]}
    assert list(rows) == [f"{verb} {STEADY}" for verb in ("ingest", "validate", "sketch", "score", "estimate", "watch")]
    assert rows[f"score {STEADY}"]["version"] == rows[f"watch {STEADY}"]["version"] == "2"
    assert "version" not in rows[f"ingest {STEADY}"]


def test_text_stays_the_default(champion: Path) -> None:
    lines = run_process({})
    assert not any(line.startswith("{") for line in lines)
    assert any(f"score tiny {STEADY}: 150 rows" in line for line in lines)
