"""Each figure is the same wherever it is shown: pages, their data, artifacts in Prefect, MLflow and the terminal."""

import io
import json
import re

import pytest
from rich.console import Console

from ops.status import Overview, model_cells
from ops.status_servers import Deployments
from tasks.contracts import Stage
from tasks.contracts.words import bounds_text, number, percent
from tasks.reports.pages.hub import render_hub
from tasks.reports.pages.publish import refresh_pages
from tasks.resources import open_resources
from tests.flows.conftest import SHIFTED
from tests.flows.test_pages import latest


@pytest.fixture(scope="module")
def res(processed):
    resources = open_resources("tiny")
    refresh_pages(resources)
    return resources


def page(res):
    return json.loads((res.settings.pages / "tiny.json").read_text())["page"]


def data(res, name):
    return json.loads((res.settings.pages / "tiny" / f"{name}.json").read_text())


def table(key: str) -> list[dict]:
    return json.loads(latest(key)["data"])


def of(rows: list[dict], partition: str) -> dict:
    return next(row for row in rows if row["partition"] == partition)


def test_loss_and_skill_of_the_newest_outcomes(res):
    record = res.lake.done(Stage.PERFORMANCE, SHIFTED)
    loss, skill = record.data["metrics"]["log_loss"], record.data["skill"]
    shown = page(res)
    assert f"log loss {number(loss)}, skill {percent(skill)}." in shown["headline"]
    cells = model_cells(res)
    assert cells[2:5] == (SHIFTED, number(loss), percent(skill))
    (point,) = (p for p in data(res, "performance")["partitions"] if p["key"] == SHIFTED)
    assert (number(point["metrics"]["log_loss"]), percent(point["skill"])) == (number(loss), percent(skill))
    assert percent(shown["trend"][-1]) == percent(skill)
    assert f"newest {percent(skill)}" in render_hub([shown])
    run = res.registry.client.get_run(res.registry.cached_version(record.data["version"]).run_id)
    assert number(run.data.metrics["partition/log_loss"]) == number(loss)
    assert percent(run.data.metrics["partition/skill"]) == percent(skill)
    row = of(table("tiny-performance"), SHIFTED)
    assert number(float(row["log_loss"])) == number(loss), row
    assert row["skill"] == percent(skill)
    html = (res.settings.pages / "tiny.html").read_text()
    assert re.search(f"{SHIFTED}</th>.*{number(loss)}</td>.*{bounds_text(record.data['intervals']['log_loss'])}", html)


def test_rows_drift_and_quarantine_of_a_partition(res):
    valid = res.lake.done(Stage.VALID, SHIFTED)
    (shown,) = (p for p in page(res)["partitions"] if p["key"] == SHIFTED)
    artifact = of(table("tiny-partitions"), SHIFTED)
    assert int(str(artifact["rows"]).replace(",", "")) == shown["rows"] == valid.rows
    assert int(artifact["quarantined"]) == shown["quarantined"] == valid.data["quarantined"]
    cells = data(res, "drift")
    drifted = sum(cell is not None and cell[1] == 1 for cell in cells["cells"][cells["partitions"].index(SHIFTED)])
    assert f"{drifted} of {len(cells['columns'])} columns" in latest("tiny-process")["description"]
    assert artifact["drift share"] == percent(shown["drift"])


def test_the_number_of_checks(res):
    count = len(res.lake.done(Stage.VALID, SHIFTED).data["findings"])
    shown = page(res)["contract"]["rules"]
    catalogue = (res.settings.pages / "tiny-data.html").read_text()
    assert shown == len(data(res, "checks")["rules"]) == count
    assert f"{count} checks passed" in catalogue


def test_alerts_and_the_last_decision(res):
    shown = page(res)
    output = io.StringIO()
    overview = Overview()
    overview.add("tiny", Deployments())
    overview.print(Console(file=output, width=200))
    home = render_hub([shown])
    assert shown["last_decision"] == model_cells(res)[-1] or shown["last_decision"]["text"] == model_cells(res)[-1]
    assert shown["state"] in home
    assert shown["state"] in output.getvalue()
    assert f"v{shown['champion']['version']}" in output.getvalue()
