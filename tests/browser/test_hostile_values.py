"""Values of the data and texts of people that contain scripts: shown in a real browser, and never run.

The page of a drift report, the same report as Evidently's server shows it and offers it as a file, and the pages of models.
"""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from configs.load import parse_config
from tasks.contracts import ColumnDrift, Drift
from tasks.drift.evidently_run import run_evidently
from tasks.drift.report import as_html, build_page
from tasks.drift.workspace import add_scores, publish
from tests.conftest import MODEL_YAML, free_port
from tests.hostile import HOSTILE, SCRIPT
from tests.tasks.drift.test_report import ABOUT, REF

pytestmark = pytest.mark.slow

ROWS, PATIENCE = 400, 180
COLUMN = f"city {SCRIPT}"


def rows(seed: int) -> pd.DataFrame:
    return pd.DataFrame({COLUMN: np.random.default_rng(seed).choice(HOSTILE, ROWS).astype(object)})


@dataclass(frozen=True)
class Report:
    """A drift report of hostile values: its HTML file, its workspace, and the ids of its project and run."""

    html: Path
    workspace: Path
    project: str
    run: str


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    (folder / "model.yaml").write_text(MODEL_YAML)
    shown = {COLUMN: ColumnDrift(COLUMN, "jensenshannon", 0.5, 0.2, True, 0.1, reference=SCRIPT)}
    drift = Drift(tuple(shown.values()), 1.0, 0.0, True, rows=ROWS, alpha=0.05, differs=(COLUMN,), note=SCRIPT)
    ref = replace(REF, model=SCRIPT)
    snapshot = run_evidently(rows(1), rows(2), shown, [COLUMN], SCRIPT, ABOUT | {"model": SCRIPT}, ref)
    page = build_page(snapshot, drift, SCRIPT, ["a note"])
    add_scores(page, shown)
    (folder / "report.html").write_text(as_html(page), encoding="utf-8")
    config = parse_config(folder / "model.yaml")
    return Report(folder / "report.html", folder / "w", *publish(page, folder / "w", config, SCRIPT, REF.key))


@pytest.fixture(scope="module")
def evidently(report: Report) -> Iterator[str]:
    """Evidently's server on the workspace of the report."""
    port = free_port()
    command = [
        str(Path(sys.prefix) / "bin" / "evidently"),
        "ui",
        "--workspace",
        str(report.workspace),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not responds(f"http://127.0.0.1:{port}/api/projects"):
            assert server.poll() is None, "Evidently's server has ended"
            assert time.monotonic() < deadline, "Evidently's server does not respond"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        for child in psutil.Process(server.pid).children(recursive=True):
            child.terminate()
        server.terminate()
        server.wait()


def responds(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def attackers_addresses(context: BrowserContext) -> set[str]:
    """Return the set to which each address of the attacker's host is added that a page of this window asks for."""
    addresses: set[str] = set()
    context.on("request", lambda request: addresses.add(request.url) if "attacker.example" in request.url else None)
    return addresses


def assert_harmless(page: Page) -> None:
    assert page.evaluate("window.hacked") is None, "a script of the data has run"


def assert_shows_the_report(page: Page) -> None:
    """The name of the column and a category are shown, and nothing of them has run."""
    assert_harmless(page)
    expect(page.get_by_text("window.hacked").first).to_be_visible()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert_harmless(page)


def test_a_script_in_a_category_does_not_run_in_the_page_of_a_drift_report(
    page: Page, context: BrowserContext, report: Report
) -> None:
    addresses = attackers_addresses(context)
    page.goto(report.html.as_uri())
    assert_shows_the_report(page)
    assert addresses == set()


@pytest.mark.servers
def test_a_script_in_a_category_does_not_run_in_evidentlys_server(
    page: Page, context: BrowserContext, report: Report, evidently: str
) -> None:
    addresses = attackers_addresses(context)
    page.goto(f"{evidently}/projects/{report.project}/reports/{report.run}")
    assert_shows_the_report(page)
    page.goto(f"{evidently}/projects/{report.project}")
    expect(page.get_by_text("Share of drifted columns").first).to_be_visible()
    assert_harmless(page)
    assert addresses == set()


@pytest.mark.servers
def test_a_script_in_a_category_does_not_run_in_the_file_that_evidentlys_server_offers(
    page: Page, report: Report, evidently: str, tmp_path: Path
) -> None:
    url = f"{evidently}/api/projects/{report.project}/{report.run}/download?report_format=html"
    (tmp_path / "download.html").write_bytes(urllib.request.urlopen(url).read())
    page.goto((tmp_path / "download.html").as_uri())
    assert_shows_the_report(page)
