"""A real browser, and a copy of the repository whose tiny model has lived a little: champion, drift, retraining, a plan, a bad day."""

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
BROKEN = "2024-03-18"
"""The day after the shifted one, whose data no contract lets pass."""
PATIENCE = 30_000
"""Milliseconds that a page may take on a busy machine."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that EVERGREEN_TEST_CHROMIUM names. Its event loop runs until it is closed, in other tests' way."""
    if not shutil.which(CHROMIUM):
        why = f"no Chromium at EVERGREEN_TEST_CHROMIUM={CHROMIUM}; on Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's window, who sees this machine and nothing else."""
    made = browser.new_context(viewport={"width": 1400, "height": 1000})
    made.set_default_timeout(PATIENCE)
    made.route(
        lambda url: "127.0.0.1" not in url and not url.startswith(("data:", "file:")), lambda route: route.abort()
    )
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def keep(page: Page, name: str) -> None:
    """Keep what is seen as a picture, for people to look at after the tests."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def lived(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The copy, its stack up; stopped afterwards."""
    folder = tmp_path_factory.mktemp("lived")
    made = Copy(folder)
    made.add_tiny(tiny_source)
    try:
        shown(made, "up", "-m", "ops.stack", "up")
        live(made)
        yield made
    finally:
        made.down()


PLAYED = f"""
import os
from configs.settings import load_settings
from ops import demo, stack
from ops.terminal import terminal
from tasks.resources import open_resources

demo.MODEL = "tiny"
os.environ.update(stack.environment(load_settings()))
played = demo.Demo(open_resources("tiny"), terminal())
demo.play_months(played, ["{STEADY}"])
played.run("backfill", "backfill/manual", model="tiny", start="2024-03-12", end="2024-03-16")
"""
"""A day and a backfill as the demo plays them."""


def shown(copy: Copy, name: str, *command: str) -> None:
    """Run it on a terminal, and keep what that showed in a file of the copy."""
    said = on_terminal(*command, folder=copy.folder, env=copy.env)
    assert said.code == 0, said.out[-4000:]
    (copy.folder / f"{name}.txt").write_text(said.out)


def live(copy: Copy) -> None:
    """Ten days, a champion, more steady days, one that drifts and retrains by itself, a plan, and last night a day that is blocked."""
    copy.deployment("backfill/manual", model="tiny", start="2024-03-01", end="2024-03-10")
    copy.deployment("train/tiny", reason="first champion")
    shown(copy, "played", "-c", PLAYED)
    copy.deployment("process/tiny", partition=SHIFTED)
    run = copy.wait_for("retrain", {"COMPLETED", "FAILED", "CRASHED"}, 300)
    assert run["state_type"] == "COMPLETED", run["state"]
    copy.deployment("assess/tiny", partition=SHIFTED)
    copy.run(
        "prefect", "deployment", "run", "backfill/manual", "--watch",
        "-p", "model=tiny", "-p", "start=2024-03-12", "-p", "end=2024-03-20", "-p", "dry_run=true",
    )  # fmt: skip
    path = copy.folder / "data" / f"parcels-{BROKEN}.parquet"
    pd.read_parquet(path).assign(weight=99.0).to_parquet(path, index=False)
    copy.failing.add(copy.begin("process/tiny", partition=BROKEN))
    copy.wait_for("process", {"FAILED"}, 300)
