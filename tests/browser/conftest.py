"""A real browser, and a running stack whose tiny model has a champion, drift, a retraining, a backfill plan and a blocked day."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from configs.settings import ROOT
from tests.copies import Copy
from tests.flows.conftest import SHIFTED, STEADY
from tests.terminals import on_terminal

CHROMIUM = os.environ.get("EVERGREEN_TEST_CHROMIUM") or shutil.which("chromium") or "chromium"
SCREENSHOTS = Path(os.environ.get("EVERGREEN_TEST_SCREENSHOTS", ROOT / ".evergreen" / "screenshots"))
BLOCKED_DAY = "2024-03-18"
"""The day after the shifted one. Its data violate the data contract."""
TIMEOUT = 30_000
"""Milliseconds that a page may take on a busy machine."""
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one at EVERGREEN_TEST_CHROMIUM. Closed after the module, since its event loop disturbs other tests."""
    if not shutil.which(CHROMIUM):
        reason = f"no Chromium at EVERGREEN_TEST_CHROMIUM={CHROMIUM}; on Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser window that can reach this machine only."""
    window = browser.new_context(viewport={"width": 1400, "height": 1000})
    window.set_default_timeout(TIMEOUT)
    window.route(
        lambda url: "127.0.0.1" not in url and not url.startswith(("data:", "file:")), lambda route: route.abort()
    )
    yield window
    window.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def save_screenshot(page: Page, name: str) -> None:
    """Save a screenshot for people to look at after the tests."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def stack(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the repository with a running stack, stopped after the module."""
    copy = Copy(tmp_path_factory.mktemp("stack"))
    copy.add_tiny(tiny_source)
    try:
        run_on_terminal(copy, "up", "-m", "ops.stack", "up")
        create_history(copy)
        yield copy
    finally:
        copy.down()


DEMO = f"""
import os
from configs.settings import load_settings
from ops import play, stack
from ops.terminal import terminal
from tasks.resources import open_resources

os.environ.update(stack.environment(load_settings()))
run = play.Play(open_resources("tiny"), terminal())
play.run_partitions(run, ["{STEADY}"])
run.run("backfill", "backfill/manual", model="tiny", start="2024-03-12", end="2024-03-16")
"""
"""A day and a backfill, run as in `make demo`."""


def run_on_terminal(copy: Copy, name: str, *command: str) -> None:
    """Run a command on a terminal, and save its output in `<name>.txt` of the copy."""
    result = on_terminal(*command, folder=copy.folder, env=copy.env)
    assert result.code == 0, result.out[-4000:]
    (copy.folder / f"{name}.txt").write_text(result.out)


def create_history(copy: Copy) -> None:
    """Run ten days, a first champion, steady days, a day whose drift starts a retraining, a backfill plan, and a blocked day."""
    copy.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-10")
    copy.deployment("train/tiny", reason="first champion")
    run_on_terminal(copy, "demo", "-c", DEMO)
    copy.deployment("process/tiny", partition=SHIFTED)
    run = copy.wait_for("retrain", {"COMPLETED", "FAILED", "CRASHED"}, 300)
    assert run["state_type"] == "COMPLETED", run["state"]
    copy.deployment("assess/tiny", partition=SHIFTED)
    copy.run(
        "prefect", "deployment", "run", "backfill/manual", "--watch",
        "-p", "model=tiny", "-p", "start=2024-03-12", "-p", "end=2024-03-20", "-p", "dry_run=true",
    )  # fmt: skip
    path = copy.folder / "data" / f"parcels-{BLOCKED_DAY}.parquet"
    pd.read_parquet(path).assign(weight=99.0).to_parquet(path, index=False)
    copy.failing.add(copy.begin("process/tiny", partition=BLOCKED_DAY))
    copy.wait_for("process", {"FAILED"}, 300)
