"""Records of Python's loggers in `tasks` reach the log of a run in Prefect, by a variable of the env files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.settings import ROOT, load_env

pytestmark = pytest.mark.long

CODE = """
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import APILogHandler

def emit(handler, record):
    print(record.name, record.getMessage())

APILogHandler.emit = emit
setup_logging()
from tasks.ledger import claims
from tasks.steps import run

run.log.error("a step failed")
claims.log.warning("a claim remains")
"""
VARIABLE = "PREFECT_LOGGING_EXTRA_LOGGERS"
RECORDS = ["tasks.steps.run a step failed", "tasks.ledger.claims a claim remains"]


def records_sent_to_prefect(home: Path, variables: dict[str, str]) -> list[str]:
    """Return the records that Prefect's handler gets in a process with these variables."""
    others = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment = others | variables | {"PREFECT_HOME": str(home)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_records_of_our_loggers_are_sent_to_prefect(name: str, tmp_path: Path) -> None:
    assert records_sent_to_prefect(tmp_path, {VARIABLE: load_env(name)[VARIABLE]}) == RECORDS


def test_without_the_variable_they_are_not(tmp_path: Path) -> None:
    assert records_sent_to_prefect(tmp_path, {}) == []
