"""The pictures of the docs, made from the running stack of `make demo`. Run it after the demo when pages have changed:

EVERGREEN_TEST_PICTURES=docs/pictures .venv/bin/python -m pytest tests/browser/test_pictures.py
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from configs.settings import ROOT, load_settings
from ops.api import post

FOLDER = os.environ.get("EVERGREEN_TEST_PICTURES", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FOLDER, reason="EVERGREEN_TEST_PICTURES names no folder")]
MODEL, DRIFTED = "flights", "2013-07"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    window = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light")
    yield window.new_page()
    window.close()


@pytest.fixture
def pages() -> str:
    return load_settings().pages_url


def save(page: Page, name: str) -> None:
    page.wait_for_timeout(500)  # the last frame of a drawing
    page.screenshot(path=ROOT / Path(FOLDER) / f"{name}.png")


def test_the_index(page: Page, pages: str) -> None:
    page.goto(f"{pages}/index.html", wait_until="networkidle")
    expect(page.get_by_role("link", name=MODEL, exact=True)).to_be_visible()
    save(page, "index")


def test_the_page_of_a_model(page: Page, pages: str) -> None:
    page.goto(f"{pages}/{MODEL}.html", wait_until="networkidle")
    expect(page.locator("section[data-view=performance] canvas")).to_be_visible()
    save(page, "model-page")


def test_the_drift_of_a_column(page: Page, pages: str) -> None:
    page.goto(f"{pages}/{MODEL}-drift.html", wait_until="networkidle")
    page.get_by_role("button", name=re.compile(f", {DRIFTED}: drifted")).first.click()
    expect(page.get_by_text(re.compile(f"{DRIFTED} \\(now\\) against"))).to_be_visible()
    save(page, "drift")


def test_the_comparison_of_two_versions(page: Page, pages: str) -> None:
    page.goto(f"{pages}/{MODEL}-versions.html", wait_until="networkidle")
    comparison = page.locator("section[data-view=compare]")
    expect(comparison.get_by_role("table", name="rules of the gate")).to_be_visible()
    page.get_by_role("heading", name="Compare two versions").scroll_into_view_if_needed()
    page.evaluate("window.scrollBy(0, 560)")
    save(page, "compare")


def test_the_gates_verdicts_in_prefect(page: Page) -> None:
    settings = load_settings()
    newest = post(
        settings,
        "artifacts/filter",
        {"artifacts": {"key": {"any_": [f"{MODEL}-gate"]}}, "sort": "CREATED_DESC", "limit": 1},
    )
    page.goto(f"{settings.prefect_url}/artifacts/artifact/{newest[0]['id']}", wait_until="networkidle")
    expect(page.get_by_role("table")).to_be_visible()
    save(page, "gate")


def test_a_run_in_prefect(page: Page) -> None:
    settings = load_settings()
    query = {"flow_runs": {"tags": {"all_": ["drift", MODEL]}}, "flows": {"name": {"any_": ["process"]}}}
    run = post(settings, "flow_runs/filter", {**query, "sort": "START_TIME_DESC"})[0]
    page.goto(f"{settings.prefect_url}/v2/runs/flow-run/{run['id']}", wait_until="networkidle")
    expect(page.get_by_text(run["name"]).first).to_be_visible()
    save(page, "run")
