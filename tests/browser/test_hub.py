"""The index of a hundred models of one file in a browser: filtered by text and state, ranked by alert, skill and loss, in both themes."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tasks.reports.pages.hub import ORDER, render_hub
from tasks.reports.pages.template import ASSETS, asset
from tests.browser.conftest import TIMEOUT, save_screenshot

pytestmark = pytest.mark.slow
COUNT = 100


def content(number: int) -> dict[str, Any]:
    """Return what the index needs of one model's page. Store 42 has lost most skill, and store 7 has no outcomes yet."""
    state = ORDER[(number * 7) % 4] if number % 3 == 0 else "good"
    severe = {"severity": state, "message": f"drift detected in 2024-03-{number % 28 + 1:02}", "action": "make status"}
    trend = [0.5 + (number * 37 % 100) / 250 - (0.4 if number == 42 and at > 17 else 0) for at in range(20)]
    loss = None if number == 7 else 1.0 + (number * 61 % 100) / 100
    return {
        "model": f"store-{number:03}",
        "state": state,
        "alerts": [] if state == "good" else [severe],
        "champion": {"version": "3", "age": number % 40},
        "trend": [] if number == 7 else trend,
        "loss": "squared error",
        "partitions": [{"key": "2024-03-14", "loss": loss}],
        "last_decision": "2024-03-12: declined, cool-down",
        "last_run": "2024-03-15 06:12 UTC",
        "next_run": "2024-03-16 06:12 UTC",
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a web server with the index and its assets."""
    folder: Path = tmp_path_factory.mktemp("pages")
    (folder / "assets").mkdir()
    for name in ASSETS:
        (folder / "assets" / name).write_text(asset(name))
    (folder / "index.html").write_text(render_hub([content(number) for number in range(COUNT)]))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        server.shutdown()


@pytest.fixture
def hub(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.get_by_text(f"{COUNT} of {COUNT}", exact=True)).to_be_visible()
    return page


def models(page: Page) -> list[str]:
    return page.locator("tbody tr:visible th").all_inner_texts()


def test_the_most_severe_alert_is_first(hub: Page) -> None:
    states = hub.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert states == sorted(states, key=ORDER.index)


def test_filters_by_text_and_state_together(hub: Page) -> None:
    hub.get_by_label("containing").fill("store-01")
    expect(hub.get_by_text(f"10 of {COUNT}", exact=True)).to_be_visible()
    hub.get_by_label("state").select_option("good")
    expected = [
        name for number in range(10, 20) if content(number)["state"] == "good" for name in [f"store-{number:03}"]
    ]
    assert models(hub) == expected
    assert 0 < len(expected) < 10
    hub.get_by_label("containing").fill("")
    hub.get_by_label("state").select_option("error")
    assert models(hub)
    assert set(hub.locator("tbody tr:visible td:nth-child(2)").all_inner_texts()) == {"error"}


def test_ranks_by_skill_loss_and_name(hub: Page) -> None:
    rank = hub.get_by_label("ranked by")
    rank.select_option("largest fall below its median skill")
    assert models(hub)[0] == "store-042"
    rank.select_option("highest loss")
    losses = [float(text.split()[0]) for text in hub.locator("tbody tr td:nth-child(7)").all_inner_texts() if text]
    assert losses == sorted(losses, reverse=True)
    assert models(hub)[-1] == "store-007", "no outcome yet"
    rank.select_option("lowest skill")
    skills = [
        float(s.strip().rstrip("%")) for s in hub.locator("tbody tr td:nth-child(8)").all_inner_texts() if s.strip()
    ]
    assert skills == sorted(skills)
    assert models(hub)[-1] == "store-007"
    rank.select_option("name")
    assert models(hub) == sorted(models(hub))


def test_a_heading_sorts_and_says_how(hub: Page) -> None:
    hub.get_by_role("button", name="age").click()
    heading = hub.get_by_role("columnheader", name="age")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert hub.locator("tbody tr td:nth-child(5)").first.inner_text() == "39 days"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible_in_both_themes(browser: Browser, address: str, scheme: Any) -> None:
    window = browser.new_context(color_scheme=scheme, viewport={"width": 1300, "height": 900})
    page = window.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    expect(page.get_by_text(f"{COUNT} of {COUNT}", exact=True)).to_be_visible()
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:100] for n in v["nodes"]]) for v in violations] == []
    save_screenshot(page, f"hundred-stores-{scheme}")
    window.close()
