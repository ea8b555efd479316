"""What a person sees in the Prefect UI, in a real browser on real servers: each of the four questions of docs/tour.md is asked here."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import keep
from tests.copies import Copy
from tests.flows.conftest import SHIFTED

pytestmark = [pytest.mark.e2e, pytest.mark.servers]


def artifact(copy: Copy, key: str) -> dict:
    """The newest artifact of a key."""
    (found,) = copy.ask("artifacts/latest/filter", {"artifacts": {"key": {"any_": [key]}}})
    return found


def open_artifact(page: Page, copy: Copy, key: str) -> None:
    page.goto(f"{copy.prefect}/artifacts/artifact/{artifact(copy, key)['latest_id']}")


def run_page(page: Page, copy: Copy, flow: str) -> None:
    page.goto(f"{copy.prefect}/runs/flow-run/{copy.newest(flow)['id']}")


def test_the_deployments_say_what_they_do_and_when(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.prefect}/deployments")
    page.get_by_placeholder("Search deployments").fill("tiny")
    expect(page.get_by_role("link", name="tiny", exact=True)).to_have_count(4)
    keep(page, "deployments")
    found = lived.ask("deployments/filter", {"deployments": {"name": {"any_": ["tiny"]}}})
    process = next(d for d in found if d["entrypoint"].startswith("flows/process.py"))
    page.goto(f"{lived.prefect}/deployments/deployment/{process['id']}")
    expect(page.get_by_text("Ingests, validates, scores and watches one partition").first).to_be_visible()
    expect(page.get_by_text(re.compile("At 06:00")).first).to_be_visible()
    keep(page, "deployment")


def test_the_form_of_a_backfill_has_choices_and_help(page: Page, lived: Copy) -> None:
    found = lived.ask("deployments/filter", {"deployments": {"name": {"any_": ["manual"]}}})
    backfill = next(d for d in found if d["entrypoint"].startswith("flows/backfill.py"))
    page.goto(f"{lived.prefect}/deployments/deployment/{backfill['id']}/run")
    for text in ("First partition, such as 2013-01.", "Make the plan, and do nothing.", "missing", "oldest first"):
        expect(page.get_by_text(text).first).to_be_visible()
    keep(page, "backfill-form")


def test_the_timeline_of_a_process_run_reads_like_a_story(page: Page, lived: Copy) -> None:
    run_page(page, lived, "process")
    for told in (
        f"ingest {SHIFTED}",
        f"validate {SHIFTED}",
        f"score {SHIFTED}",
        f"watch {SHIFTED}",
        f"tell of drift in {SHIFTED}",
    ):
        expect(page.get_by_text(told).first).to_be_visible()
    keep(page, "process-run")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("tiny-process", f"tiny: {SHIFTED} processed"),
        ("tiny-drift", "weight"),
        ("tiny-gate", "better than the prior"),
        ("tiny-train", "version"),
        ("tiny-retrain", "drift"),
        ("tiny-model", "tiny is "),
        ("tiny-backfill-plan", "2024-03-12"),
    ],
)
def test_an_artifact_begins_with_what_happened(page: Page, lived: Copy, key: str, told: str) -> None:
    open_artifact(page, lived, key)
    expect(page.get_by_text(told).first).to_be_visible()
    keep(page, f"artifact-{key}")


def test_the_plan_of_a_backfill_is_a_picture_too(page: Page, lived: Copy) -> None:
    open_artifact(page, lived, "tiny-backfill-plan")
    picture = page.locator("img[src^='data:image/png']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300


def test_the_automations_are_there_with_their_names(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.prefect}/automations")
    for name in ("retrain tiny on facts", "crash-lost-runs"):
        expect(page.get_by_text(name).first).to_be_visible()
    keep(page, "automations")


def follow(page: Page, link: re.Pattern[str]) -> None:
    """Go where a link leads, which opens a window of its own."""
    where = page.get_by_role("link", name=link).first.get_attribute("href")
    assert where
    page.goto(where)


def test_links_lead_from_prefect_into_mlflow_evidently_and_the_models_page(page: Page, lived: Copy) -> None:
    open_artifact(page, lived, "tiny-process")
    follow(page, re.compile("drift report in Evidently"))
    expect(page).to_have_url(re.compile("/projects/.+/reports/"))
    expect(page.get_by_text(re.compile("weight")).first).to_be_visible()
    keep(page, "evidently")

    open_artifact(page, lived, "tiny-process")
    follow(page, re.compile("in MLflow"))
    expect(page).to_have_url(re.compile("/models/tiny/versions/"))
    expect(page.get_by_text("evergreen.stage").first).to_be_visible()
    keep(page, "mlflow")

    open_artifact(page, lived, "tiny-model")
    follow(page, re.compile("its page"))
    expect(page).to_have_url(f"{lived.pages}/tiny.html")
    expect(page.get_by_role("heading", level=1)).to_have_text("tiny")


def test_why_a_retraining_was_decided_and_refused_is_two_clicks_from_its_run(page: Page, lived: Copy) -> None:
    """The run's own list of artifacts, and the one that tells of the decision."""
    run_page(page, lived, "retrain")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("tiny-retrain").first.click()
    expect(page.get_by_text(re.compile(f"tiny {SHIFTED}: retrained")).first).to_be_visible()
    keep(page, "retrain-decision")
