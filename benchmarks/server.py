"""Prefect's server under load, on SQLite and on PostgreSQL: flow runs side by side, while events start runs by an automation.

Each flow run has some tasks and writes some log lines, as a small partition does. Meanwhile one event per second, each about
another fact, matches an automation like ours, which creates a run of a deployment without a worker. Events without a run were
lost in the server. Our automation that crashes lost runs is there too; it reacts to every heartbeat. A request that meets a
locked database is answered with 503, and Prefect's client sends it again.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from configs.settings import ROOT, Settings
from ops.api import post
from ops.health import responds
from ops.logs import log_errors
from ops.programs import child_environment
from tasks.orchestration.schedules import all_items
from tests.conftest import free_port

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
SIDE_BY_SIDE = (4, 16)
"""Flow runs at once."""
SECONDS = 40
"""Duration of each load."""
TIMEOUT = 30
"""Seconds after the last event within which its run must have been created."""


def report(console: Console) -> None:
    """Print a row for each database and load."""
    shown = Table(
        "database",
        "side by side",
        "runs",
        "failed runs",
        "events",
        "lost events",
        "errors in the server's log",
        box=None,
    )
    for name, url in (("SQLite", ""), ("PostgreSQL", POSTGRES)):
        for number in SIDE_BY_SIDE:
            with console.status(f"{name}, {number} side by side"), server(url) as (settings, variables):
                row, failures = measure(number, settings, variables)
            shown.add_row(name, str(number), *map(str, row))
            for failure in failures:
                console.print(f"{name}, {number} side by side, a run failed: {failure}", markup=False)
    console.print(shown, width=160)


def measure(number: int, settings: Settings, variables: dict[str, str]) -> tuple[list[object], list[str]]:
    """Return the row of one load, and the reasons of failed runs."""
    command = [sys.executable, "-m", "benchmarks.server_load", str(number), str(SECONDS)]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    result = json.loads(done.stdout.splitlines()[-1])
    deadline = time.monotonic() + TIMEOUT
    while not (received := facts_of_runs(settings)) >= set(result["facts"]) and time.monotonic() < deadline:
        time.sleep(1)
    kinds = Counter(kind_of(error.text) for error in log_errors(settings.home, exempt=()))
    errors = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common()) or "none"
    lost = len(set(result["facts"]) - received)
    return [result["runs"], len(result["failed"]), len(result["facts"]), lost, errors], sorted(set(result["failed"]))


def kind_of(text: str) -> str:
    """Return an error's first line without ids and numbers."""
    first = text.partition("\n")[0].rpartition(" | ")[2]
    locked = " (database is locked)" if "database is locked" in text else ""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "…", first)[:70] + locked


def facts_of_runs(settings: Settings) -> set[str]:
    """Return the facts for which the automation has created a run."""
    query = {"flows": {"name": {"any_": ["asked"]}}}
    return {
        run["parameters"]["fact"] for run in all_items(lambda p, b: post(settings, p, b, 60), "flow_runs/filter", query)
    }


@contextmanager
def server(url: str) -> Iterator[tuple[Settings, dict[str, str]]]:
    """Run Prefect's server alone, on its own database, with our settings."""
    with tempfile.TemporaryDirectory() as folder, database(url) as own:
        settings = Settings(home=Path(folder), prefect_port=free_port())
        variables = child_environment(settings)
        if own:
            variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = own
        (settings.home / "logs").mkdir()
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(settings.prefect_port)]
        with (settings.home / "logs" / "prefect.log").open("w") as log:
            process = subprocess.Popen(command, cwd=settings.home, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 120
            while not responds(f"{settings.prefect_url}/api/health") and time.monotonic() < deadline:
                time.sleep(0.5)
            yield settings, variables
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def database(url: str) -> Iterator[str]:
    """Create a database on the server of an address, and drop it afterwards. Without an address yield an empty string."""
    if not url:
        yield ""
        return
    name = f"benchmark_{uuid4().hex[:8]}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as con:
        con.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield engine.url.set(drivername="postgresql+asyncpg", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as con:
            con.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
