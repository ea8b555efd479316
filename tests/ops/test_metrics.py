"""The metrics program: what a scrape returns for a model with history, and that a damaged model does not stop the others."""

import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from configs.settings import ROOT, load_settings
from ops.metrics import PROGRAM, Exporter
from ops.queues import queue_lengths
from ops.status import model_cells
from tasks.contracts import Fact, Stage
from tasks.contracts.words import number, percent
from tasks.reports.metrics import METRICS
from tasks.reports.summary import summarise
from tasks.resources import open_resources
from tasks.steps.order import steps_of
from tasks.steps.step import advance
from tests.conftest import free_port, use_folder
from tests.states.test_v01 import STATES, replace_paths

SKILL = 0.1234
Series = dict[tuple[str, ...], float]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model with a champion, drift, decisions and a refused retraining."""
    with tarfile.open(STATES / "v0.1.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    replace_paths(tmp_path)
    newest = max((tmp_path / "lake" / "tiny" / "performance").glob("*.json"))
    content = json.loads(newest.read_text())
    content["data"]["skill"] = SKILL  # v0.1 did not have it
    newest.write_text(json.dumps(content))
    use_folder(tmp_path, tmp_path / "configs", f"sqlite:///{tmp_path}/mlflow.db", monkeypatch)
    monkeypatch.setenv("EVERGREEN_PREFECT_PORT", str(free_port()))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


def second_model(folder: Path) -> None:
    """Add a model `second` with the same files and no ledger rows."""
    shutil.copytree(folder / "configs" / "tiny", folder / "configs" / "second")
    shutil.copytree(folder / "lake" / "tiny", folder / "lake" / "second")
    path = folder / "configs" / "second" / "model.yaml"
    path.write_text(path.read_text().replace("name: tiny", "name: second", 1))


def parse(text: str) -> dict[str, Series]:
    """Return each metric's values by the values of its labels, in the order of `METRICS`."""
    values: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {**METRICS, **PROGRAM}[sample.name].labels
            values.setdefault(sample.name, {})[tuple(sample.labels[label] for label in labels)] = sample.value
    return values


def scrape(exporter: Exporter) -> dict[str, Series]:
    registry = CollectorRegistry()
    registry.register(exporter)
    return parse(generate_latest(registry).decode())


def read(exporter: Exporter) -> dict[str, Series]:
    exporter.read()
    return scrape(exporter)


@pytest.fixture
def program(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The real program. Yields its address."""
    port = free_port()
    monkeypatch.setenv("EVERGREEN_METRICS_PORT", str(port))
    process = subprocess.Popen([sys.executable, "-m", "ops.metrics"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.communicate()


def wait_for(url: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the program does not respond")


def test_a_scrape_has_the_numbers_of_the_status_and_of_the_pages(program: str) -> None:
    values, res = parse(wait_for(program)), open_resources("tiny")
    champion, newest, assessed, loss, skill, _ = model_cells(res)
    assert champion == f"v{values['evergreen_ledger_champion_version'][('tiny',)]:.0f}"
    assert loss == number(values["evergreen_loss"][("tiny", "log_loss")])
    assert values["evergreen_skill_ratio"] == {("tiny",): SKILL}
    assert skill == percent(values["evergreen_skill_ratio"][("tiny",)])
    (summary,) = summarise(res, [assessed])
    assert values["evergreen_drift_share_ratio"] == {("tiny",): summary.drift_share}
    assert values["evergreen_drift_detected"] == {("tiny",): summary.drifted}
    assert values["evergreen_partition_rows"][("tiny", "validate")] == summary.rows
    age = (datetime.now(UTC) - res.ref(newest).end).total_seconds()
    assert values["evergreen_partition_age_seconds"][("tiny", "ingest")] == pytest.approx(age, abs=60)
    assert values["evergreen_undecided_facts"] == {("tiny",): len(res.ledger.undecided())}
    decisions = res.ledger.decisions()
    assert sum(values["evergreen_decisions_total"].values()) == len(decisions) > 0
    assert (
        values["evergreen_retrainings_total"][("tiny", "refused")] == sum(d.outcome == "refused" for d in decisions) > 0
    )
    assert values["evergreen_retraining_seconds_total"][("tiny",)] == sum(d.seconds for d in decisions) > 0
    assert values["evergreen_prefect_up"] == {(): 0}
    assert "evergreen_queue_runs" not in values


def test_a_step_has_one_series_with_the_values_of_its_newest_record(state: Path) -> None:
    values, res = read(Exporter(load_settings())), open_resources("tiny")
    for step in steps_of(res.config):
        keys = res.lake.keys(step.stage)
        record = res.lake.record(step.stage, keys[-1]) if keys else None
        expected = record.run.seconds if record and record.run else None
        assert values["evergreen_step_seconds"].get(("tiny", step.verb)) == expected, step.verb
    by_step = [series for name, series in values.items() if name in METRICS and "step" in METRICS[name].labels]
    assert by_step
    assert max(len(series) for series in by_step) == len(steps_of(res.config))


def test_the_lag_begins_when_the_next_partition_is_complete_or_has_matured(state: Path) -> None:
    values, res = read(Exporter(load_settings())), open_resources("tiny")
    ref = res.ref(res.lake.keys(Stage.RAW)[-1])
    following = res.ref(f"{ref.end:%Y-%m-%d}")
    now = datetime.now(UTC)
    lag = values["evergreen_partition_lag_seconds"]
    assert lag["tiny", "ingest"] == pytest.approx((now - following.complete).total_seconds(), abs=60)
    assert lag["tiny", "assess"] == pytest.approx((now - following.matured).total_seconds(), abs=60)
    assert following.complete != following.matured


def test_a_damaged_model_does_not_stop_the_others_and_comes_back(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    second_model(state)
    exporter = Exporter(load_settings())
    before = read(exporter)
    assert before["evergreen_model_readable"] == {("second",): 1, ("tiny",): 1}
    record = sorted((state / "lake" / "second" / "valid").glob("*.json"))[-1]
    content = record.read_bytes()
    record.write_bytes(content[:100])
    values = read(exporter)
    assert values["evergreen_model_readable"] == {("second",): 0, ("tiny",): 1}
    assert set(values["evergreen_step_seconds"]) == {
        key for key in before["evergreen_step_seconds"] if key[0] == "tiny"
    }
    read(exporter)
    assert caplog.text.count(f"{record} is not a record") == 1, "a problem is logged once"
    record.write_bytes(content)
    config = state / "configs" / "tiny" / "model.yaml"
    config.write_text("name: [")
    assert read(exporter)["evergreen_model_readable"] == {("second",): 1, ("tiny",): 0}


def test_only_models_that_have_changed_are_read_again(state: Path) -> None:
    second_model(state)
    exporter = Exporter(load_settings())
    read(exporter)
    statements: list[str] = []

    @sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
    def _note(_con: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    try:
        scrape(exporter)
        assert statements == []
        read(exporter)
        assert len(statements) == 1
        fact = Fact("f" * 36, "tiny", "drift", "2024-03-19", datetime(2024, 3, 20, tzinfo=UTC), {})
        open_resources("tiny").ledger.record_fact(fact)
        statements.clear()
        assert read(exporter)["evergreen_undecided_facts"] == {("second",): 0, ("tiny",): 1}
        assert len(statements) <= 4
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", _note)
    assert scrape(exporter)["evergreen_undecided_fact_age_seconds"][("tiny",)] < 60


def test_models_cannot_be_read_without_the_ledger(state: Path) -> None:
    settings = load_settings()
    broken = settings.model_copy(update={"database_url": f"sqlite:///{state}/broken.db"})
    with closing(sqlite3.connect(state / "broken.db")) as con, con:
        con.execute("CREATE TABLE alembic_version (version_num TEXT)")
        con.execute("INSERT INTO alembic_version VALUES ('9999')")
    assert read(Exporter(broken))["evergreen_model_readable"] == {("tiny",): 0}


def test_a_step_that_ran_has_its_peak_memory_and_a_failed_one_is_counted(tiny: Path) -> None:
    res = open_resources("tiny")
    ingest, validate, *_ = steps_of(res.config)
    advance(ingest, res.ref("2024-03-01"), res)
    res.lake.write_failure(res.ref("2024-03-01"), validate.stage, ValueError("a reason"))
    values = read(Exporter(load_settings()))
    assert 10e6 < values["evergreen_step_peak_memory_bytes"][("tiny", "ingest")] < 100e9
    assert values["evergreen_partitions_failed"][("tiny", "validate")] == 1
    assert values["evergreen_partition_rows"] == {("tiny", "ingest"): 150}


def test_the_length_of_a_queue_counts_runs_whose_time_has_come(prefect_server: None) -> None:
    from tasks.orchestration.api import open_api

    pool = f"pool-{free_port()}"
    with open_api() as post:
        post("work_pools/", {"name": pool, "type": "process"})
        flow = post("flows/", {"name": "waits"})["id"]
        body = {"name": pool, "flow_id": flow, "work_pool_name": pool, "entrypoint": "x.py:x"}
        deployment = post("deployments/", body)["id"]
        for moment in ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2199-01-01T00:00:00Z"):
            scheduled = {"type": "SCHEDULED", "state_details": {"scheduled_time": moment}}
            post(f"deployments/{deployment}/create_flow_run", {"state": scheduled})
        post(f"deployments/{deployment}/create_flow_run", {"state": {"type": "PENDING"}})
        lengths = [length for length in queue_lengths(post) if length.pool == pool]
    assert [(q.queue, q.waiting, q.pending) for q in lengths] == [("default", 2, 1)]
