"""What people see, in a real browser on real servers: the Prefect UI, and the pages of our own, which must work offline, light and dark,
on a phone, and by a screen reader. The four questions of docs/tour.md are asked here. At the end: the same stack at a terminal.
"""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tasks.reports.pages.hub import ORDER, render_hub
from tests.browser.conftest import BROKEN, PATIENCE, keep
from tests.copies import Copy
from tests.flows.conftest import SHIFTED, STEADY
from tests.terminals import WIDTH, Said, on_terminal, piped

pytestmark = [pytest.mark.e2e, pytest.mark.servers]
PAGES = ("tiny.html", "tiny-data.html", "index.html")
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_no_server_and_no_other_file(browser: Browser, lived: Copy, name: str) -> None:
    context = browser.new_context(offline=True)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto((lived.folder / ".evergreen" / "pages" / name).as_uri())
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    assert said == []
    assert all(
        page.locator("img").nth(i).evaluate("image => image.naturalWidth") > 100
        for i in range(page.locator("img").count())
    )
    context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_can_be_read_by_everybody(browser: Browser, lived: Copy, name: str, theme: str) -> None:
    """By axe-core's rules: contrast, headings, names of tables and pictures, and what a keyboard reaches."""
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto(f"{lived.pages}/{name}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    keep(page, f"{name.removesuffix('.html')}-{theme}")
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(browser: Browser, lived: Copy, name: str) -> None:
    context = browser.new_context(viewport=PHONE, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(f"{lived.pages}/{name}")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    keep(page, f"{name.removesuffix('.html')}-phone")
    context.close()


def test_the_models_page_says_who_decides_and_what_came_before(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    told = json.loads((lived.folder / ".evergreen" / "pages" / "tiny.json").read_text())["page"]
    expect(page.get_by_text(told["headline"])).to_be_visible()
    expect(page.get_by_role("region", name=re.compile("newest first")).first).to_be_visible()
    champion = told["champion"]["version"]
    asked = lived.run(
        "python", "-c", "from tasks.resources import open_resources as o; print(o('tiny').champion().version)"
    )
    assert champion == asked.split()[-1]
    page.get_by_role("link", name="data of tiny").click()
    expect(page.get_by_text('load("tiny", "valid",')).to_be_visible()


def test_why_a_version_was_refused_is_two_clicks_from_the_index(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    expect(page.get_by_text(re.compile("floor: log_loss: REFUSED")).first).to_be_visible()
    page.get_by_role("link", name="retrained: refused").first.click()
    expect(page.get_by_text("Refused by the gate:")).to_be_visible()
    expect(page.get_by_role("heading", name="What the gate said")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    keep(page, "card")


def test_a_model_card_has_the_version_its_champion_and_the_prior_side_by_side(page: Page, lived: Copy) -> None:
    """The scorecard: every metric with its interval, on the same rows."""
    page.goto(f"{lived.pages}/tiny.html")
    page.get_by_role("link", name="retrained: refused").first.click()
    card = page.get_by_role("heading", name="How good it is").locator("xpath=following::table[1]")
    assert cells(card, "thead th") == ["metric", "this version", "champion", "prior"]
    (loss,) = (row for row in rows(card) if row[0] == "log loss")
    assert all(re.fullmatch(r"\d\.\d{4} \[-?\d\.\d{4}, \d\.\d{4}\]", said) for said in loss[1:3]), loss


def test_what_the_catalogue_says_to_run_gives_the_rows(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.pages}/tiny-data.html")
    code = page.locator("pre code").inner_text()
    said = lived.run("python", "-c", f"{code}\nprint(len(frame), sorted(frame.columns))")
    assert said.split()[-1] == "'weight']"
    assert int(said.split()[0]) > 1000


def test_a_hundred_models_are_sorted_by_who_needs_a_person(browser: Browser, lived: Copy, tmp_path) -> None:
    told = json.loads((lived.folder / ".evergreen" / "pages" / "tiny.json").read_text())["page"]
    needs = {"broken": 3, "asks for you": 2, "worth a look": 1}
    pages = []
    for number in range(100):
        state = ORDER[(number * 7) % 4]
        found = (
            [{"weight": needs[state], "told": f"something of weight {needs[state]}", "do": ""}]
            if state in needs
            else []
        )
        pages.append({**told, "model": f"model_{number:02d}", "state": state, "needs": found})
    (tmp_path / "index.html").write_text(render_hub(pages))
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((tmp_path / "index.html").as_uri())
    states = page.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert len(states) == 100
    assert states == sorted(states, key=ORDER.index)
    expect(page.get_by_text("25 broken, 25 ask for you, 25 worth a look, 25 good")).to_be_visible()
    keep(page, "hundred-models")
    context.close()


def cells(table: Locator, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in table.locator(selector).all_inner_texts()]


def rows(table: Locator) -> list[list[str]]:
    """The cells of a table's body."""
    return [cells(row, "th, td") for row in table.locator("tbody tr").all()]


def run_of(copy: Copy, flow: str, name: str) -> dict:
    """A flow's newest run of a name."""
    return next(run for run in reversed(copy.runs_of(flow)) if run["name"] == name)


def open_artifact(page: Page, copy: Copy, key: str, run: dict | None = None) -> None:
    """The newest artifact of a key, or of a run."""
    asked = {"key": {"any_": [key]}} | ({"flow_run_id": {"any_": [run["id"]]}} if run else {})
    found = copy.ask("artifacts/filter", {"artifacts": asked, "sort": "CREATED_DESC", "limit": 1})
    page.goto(f"{copy.prefect}/artifacts/artifact/{found[0]['id']}")


def open_process(page: Page, copy: Copy) -> None:
    """The page that the run of the shifted day left."""
    open_artifact(page, copy, "tiny-process", run_of(copy, "process", f"tiny {SHIFTED}"))


def run_page(page: Page, copy: Copy, flow: str, name: str) -> None:
    page.goto(f"{copy.prefect}/runs/flow-run/{run_of(copy, flow, name)['id']}")


def test_the_deployments_say_what_they_do_and_when(page: Page, lived: Copy) -> None:
    page.goto(f"{lived.prefect}/deployments")
    page.get_by_placeholder("Search deployments").fill("tiny")
    expect(page.get_by_role("link", name="tiny", exact=True)).to_have_count(4)
    keep(page, "deployments")
    found = lived.ask("deployments/filter", {"deployments": {"name": {"any_": ["tiny"]}}})
    process = next(d for d in found if d["entrypoint"].startswith("flows/process.py"))
    page.goto(f"{lived.prefect}/deployments/deployment/{process['id']}")
    expect(page.get_by_text("regular", exact=True).first).to_be_visible()  # the schedule's name
    page.get_by_text("Description", exact=True).first.click()
    expect(page.get_by_text("Ingests, validates, scores and watches one partition").first).to_be_visible()
    keep(page, "deployment")


def test_the_form_of_a_backfill_has_choices_and_help(page: Page, lived: Copy) -> None:
    found = lived.ask("deployments/filter", {"deployments": {"name": {"any_": ["manual"]}}})
    backfill = next(d for d in found if d["entrypoint"].startswith("flows/backfill.py"))
    page.goto(f"{lived.prefect}/deployments/deployment/{backfill['id']}/run")
    for text in ("First partition, such as 2013-01.", "Make the plan, and do nothing.", "missing", "oldest first"):
        expect(page.get_by_text(text).first).to_be_visible()
    keep(page, "backfill-form")


STORY = (
    f"ingest {SHIFTED}",
    f"validate {SHIFTED}",
    f"score {SHIFTED}",
    f"watch {SHIFTED}",
    f"tell of drift in {SHIFTED}",
)


def test_the_timeline_of_a_process_run_reads_like_a_story(page: Page, lived: Copy) -> None:
    run_page(page, lived, "process", f"tiny {SHIFTED}")
    for told in STORY:
        expect(page.get_by_text(told).first).to_be_visible()
    keep(page, "process-run")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("tiny-process", f"tiny: 1 of 1 partitions blocked, first {BROKEN}: weight"),
        ("tiny-drift", "weight"),
        ("tiny-gate", "better than the prior"),
        ("tiny-train", "version"),
        ("tiny-retrain", "drift"),
        ("tiny-model", "tiny is broken. Version "),
        ("tiny-assess", f"tiny: {SHIFTED} assessed. Newest {SHIFTED}: log_loss"),
        ("tiny-performance", "tiny: performance of the newest"),
        ("tiny-decisions", "tiny: every decision, newest first"),
        ("tiny-backfill-plan", "2024-03-12"),
        ("tiny-backfill", "tiny: 5 of 5 partitions brought up to date, 0 failed, 0 blocked."),
        ("tiny-backfill-progress", "tiny: 5 of 5 partitions done, 0 failed"),
        ("tiny-grid", "tiny: 5 of 5 partitions are up to date in every stage."),
    ],
)
def test_an_artifact_begins_with_what_happened(page: Page, lived: Copy, key: str, told: str) -> None:
    open_artifact(page, lived, key)
    expect(page.get_by_text(told).first).to_be_visible()
    keep(page, f"artifact-{key}")


def test_a_backfill_that_is_through_is_at_a_hundred_percent(page: Page, lived: Copy) -> None:
    open_artifact(page, lived, "tiny-backfill-progress")
    expect(page.get_by_text("Progress: 100%")).to_be_visible()
    expect(page.get_by_role("link", name="tiny 2024-03-12 to 2024-03-16")).to_be_visible()


def test_the_grid_is_a_table_of_partition_by_stage(page: Page, lived: Copy) -> None:
    open_artifact(page, lived, "tiny-grid")
    grid = page.get_by_role("table")
    expect(grid.get_by_text("2024-03-16")).to_be_visible()
    assert cells(grid, "th")[:5] == ["partition", "ingest", "validate", "sketch", "score"]
    found = rows(grid)
    assert [row[0] for row in found] == [f"2024-03-{day}" for day in range(12, 17)]
    assert all(row[1:5] == ["fresh"] * 4 for row in found)


def test_the_gates_table_has_each_rule_with_its_number(page: Page, lived: Copy) -> None:
    """What was measured, what would have been enough, and what came of it."""
    open_artifact(page, lived, "tiny-gate")
    expect(page.get_by_text("the gate refused version 3: floor: log_loss; ").first).to_be_visible()
    gate = page.get_by_role("table")
    expect(gate.get_by_text("floor: log_loss")).to_be_visible()
    assert cells(gate, "th") == ["rule", "verdict", "value", "threshold", "note"]
    (floor,) = (row for row in rows(gate) if row[0] == "floor: log_loss")
    assert (floor[1], floor[3]) == ("REFUSED", "0.69")
    assert float(floor[2]) > 0.69


@pytest.mark.parametrize("key", ["tiny-backfill-plan", "tiny-backfill"])
def test_plan_and_outcome_of_a_backfill_are_pictures_too(page: Page, lived: Copy, key: str) -> None:
    open_artifact(page, lived, key)
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
    open_process(page, lived)
    follow(page, re.compile("drift report in Evidently"))
    expect(page).to_have_url(re.compile("/projects/.+/reports/"))
    expect(page.get_by_text(re.compile("weight")).first).to_be_visible()
    keep(page, "evidently")

    open_process(page, lived)
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
    run_page(page, lived, "retrain", f"tiny after {SHIFTED}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("tiny-retrain").first.click()
    expect(page.get_by_text(re.compile(f"tiny {SHIFTED}: retrained")).first).to_be_visible()
    keep(page, "retrain-decision")


# The walks of docs/tour.md that begin at a front door. Prefect's is its newer interface.


def test_what_a_clone_does_is_seen_in_a_few_clicks(page: Page, lived: Copy) -> None:
    page.goto(lived.pages)
    page.get_by_role("link", name="tiny", exact=True).click()
    for name in ("Champion", "Partitions", "What was seen, and what the policy made of it", "Costs"):
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()

    page.goto(lived.prefect)
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.get_by_placeholder("Search deployments").fill("tiny")  # the list shows ten, and this stack has other models
    listed = page.get_by_role("row")
    for name in ("tiny", "process"):
        listed = listed.filter(has=page.get_by_role("link", name=name, exact=True))
    expect(listed).to_contain_text("At 06:00 AM")
    listed.get_by_role("link", name="tiny", exact=True).click()
    page.get_by_role("link", name=f"tiny {SHIFTED}").first.click()
    expect(page.locator("canvas")).to_be_visible()  # the timeline, whose words only a person can read
    page.get_by_role("tab", name="Task Runs").click()
    for told in STORY:
        expect(page.get_by_text(told).first).to_be_visible()
    keep(page, "tour-process-run")


def test_what_broke_last_night_stands_first_with_the_reason_and_what_tries_again(page: Page, lived: Copy) -> None:
    page.goto(lived.pages)
    expect(page.get_by_text("1 broken, 0 ask for you")).to_be_visible()
    first = page.locator("tbody tr").first
    for told in ("tiny", "broken", f"{BROKEN} is blocked at valid: weight", "the next run tries again"):
        expect(first).to_contain_text(told)
    keep(page, "tour-broken-index")


def test_a_run_that_failed_is_found_by_its_state_and_says_why(page: Page, lived: Copy) -> None:
    why = f"tiny: 1 of 1 partitions blocked, first {BROKEN}: weight"
    page.goto(lived.prefect)
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("button", name="All run states").click()
    page.get_by_role("menuitem", name="Failed", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 Flow run", exact=True)).to_be_visible()
    keep(page, "tour-failed-runs")
    page.get_by_role("link", name=f"tiny {BROKEN}").click()
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text(why).first).to_be_visible()
    keep(page, "tour-failed-run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="tiny-process").click()
    expect(page.get_by_text(why).first).to_be_visible()
    open_artifact(page, lived, "tiny-process")
    expect(page.get_by_text("validate blocked").first).to_be_visible()
    keep(page, "tour-failed-page")


# At a terminal, whose bars are looked at without a stack in tests/ops/test_terminal.py.


def on_screen(copy: Copy, name: str) -> Said:
    """What a terminal showed while the copy was made."""
    return Said(0, (copy.folder / f"{name}.txt").read_text())


def test_up_counts_down_until_everything_answers(lived: Copy) -> None:
    said = on_screen(lived, "up")
    assert any("waiting for prefect" in line and "left" in line for line in said.lines)
    assert any(line.split() == ["deployments", "ready"] for line in said.lines)
    assert any(line.startswith("Everything answers, after ") for line in said.lines)
    assert said.widest <= WIDTH


def test_the_demo_shows_months_run_and_backfill_as_they_go_on(lived: Copy) -> None:
    said = on_screen(lived, "played")
    for told in (
        "0 of 1 months done .*━.* 0:00:0",
        f"process/tiny {STEADY}: .*━",
        r"tiny: \d of 5 partitions done, .*━.* 0:\d\d:\d\d",
        f"  assess/tiny +{STEADY} +\\d+ s",
        r"  backfill/manual +2024-03-12 2024-03-16 +\d+ s",
    ):
        assert any(re.search(told, line) for line in said.lines), told
    assert said.widest <= WIDTH


def test_the_status_is_plain_in_a_pipe_and_whole_lines(lived: Copy) -> None:
    said = piped("-m", "ops.status", folder=lived.folder, env=lived.env)
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out
    assert f"  broken: {BROKEN} is blocked at valid: weight: column_values_to_be_between failed (99 (" in said.out
    assert re.search(r"  process/tiny +0 6 \* \* \*, next run \d{4}-\d\d-\d\d 06:00 UTC\n", said.out)
    told = next(line for line in said.lines if "version 3: refuse by evergreen" in line)
    assert "mean gain" in told, "a line is not broken, however long"
    assert len(told) > WIDTH


def test_the_status_on_a_terminal_has_colours_and_fits_80_columns(lived: Copy) -> None:
    said = on_terminal("-m", "ops.status", folder=lived.folder, env=lived.env)
    assert said.code == 0
    for coloured in (
        "\x1b[32mup\x1b[0m",
        "\x1b[1;31mbroken\x1b[0m",
        "\x1b[1;31mBLOCKED\x1b[0m",
        "\x1b[32mfresh\x1b[0m",
    ):
        assert coloured in said.out
    (blocked,) = (line.split() for line in said.lines if line.split()[:1] == [BROKEN] and "BLOCKED" in line)
    assert len(blocked) == 10
    assert said.widest <= WIDTH


def test_an_audit_is_a_page_on_a_terminal_and_markdown_in_a_pipe(lived: Copy) -> None:
    page = on_terminal("-m", "ops.audit", "tiny", folder=lived.folder, env=lived.env)
    plain = piped("-m", "ops.audit", "tiny", folder=lived.folder, env=lived.env)
    assert (page.code, plain.code, plain.err) == (0, 0, "")
    assert page.out.startswith("\x1b[1mtiny: today version 2 was champion; ")
    assert page.widest <= WIDTH
    assert plain.out.startswith("tiny: today version 2 was champion; ledger, MLflow and events agree.\n")
    assert "\n| floor: log_loss | passed | " in plain.out
    assert "\x1b" not in plain.out
