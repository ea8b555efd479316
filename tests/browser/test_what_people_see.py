"""Pages and terminal output as people see them, in a real browser with real servers.

- The pages must work offline, in light and dark, on a phone, and with a screen reader.
- The Prefect UI must show names, descriptions, forms and artifacts.
- The click paths of docs/tour.md must work.
- The output on a terminal must fit 80 columns.
"""

import json
import re
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tasks.reports.pages.hub import ORDER, render_hub
from tests.browser.conftest import BLOCKED_DAY, TIMEOUT, save_screenshot
from tests.copies import Copy
from tests.flows.conftest import SHIFTED, STEADY
from tests.terminals import WIDTH, Output, on_terminal, piped

pytestmark = [pytest.mark.e2e, pytest.mark.servers, pytest.mark.slow]
SUBJECTS = ("partitions", "drift", "decisions", "versions", "ledger", "data")
PAGES = ("index.html", "tiny.html", *(f"tiny-{subject}.html" for subject in SUBJECTS))
WIDTHS = (1400, 800, 400)
REFUSED, RULE = "4", "refit: mean move of predictions"
"""The refit of the retraining, and the rule of the gate that refused it: the shifted day moves its predictions too far."""


def open_page(page: Page, url: str) -> list[str]:
    """Open a page and wait until its charts are drawn. Return what went wrong: messages, errors, and requests to other hosts."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.on("response", lambda response: None if response.ok else problems.append(f"{response.status} {response.url}"))
    page.goto(url, wait_until="networkidle")
    return problems


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opened_from_a_folder_has_its_tables_and_asks_for_nothing_else(
    browser: Browser, stack: Copy, name: str
) -> None:
    context = browser.new_context(offline=True)
    page, requests = context.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    folder = (stack.folder / ".evergreen" / "pages").as_uri()
    problems = open_page(page, f"{folder}/{name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert [url for url in requests if not url.startswith((folder, "data:"))] == []
    assert problems == []
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits_each_screen(
    browser: Browser, stack: Copy, name: str, theme: Literal["light", "dark"]
) -> None:
    """By the rules of axe-core: contrast, headings, names of tables and images, keyboard access."""
    for width in WIDTHS:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        page = context.new_page()
        assert open_page(page, f"{stack.pages}/{name}") == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        save_screenshot(page, f"{name.removesuffix('.html')}-{theme}-{width}")
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        context.close()


# The questions of four people, each answered within three clicks from the index.


def test_did_last_night_go_well_and_what_must_i_do(page: Page, stack: Copy) -> None:
    assert open_page(page, f"{stack.pages}/index.html") == []
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="tiny", exact=True))
    expect(row).to_contain_text("error")
    expect(row).to_contain_text(f"{BLOCKED_DAY} is blocked at valid")
    expect(row.locator("code")).to_contain_text("Fix the source")
    page.get_by_role("link", name="tiny", exact=True).click()
    page.get_by_role("link", name="partitions", exact=True).click()
    page.get_by_role("button", name=re.compile(f"^validate, {BLOCKED_DAY}: blocked")).click()
    expect(page.get_by_text("column_values_to_be_between failed").first).to_be_visible()
    expect(page.get_by_role("link", name="its run in Prefect")).to_have_attribute("href", re.compile("/runs/flow-run/"))


def test_is_the_model_still_good_and_for_whom_not(page: Page, stack: Copy) -> None:
    open_page(page, f"{stack.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    chart = page.locator("section[data-view=performance]")
    expect(chart.locator("canvas")).to_be_visible()
    content = json.loads((stack.folder / ".evergreen" / "pages" / "tiny" / "performance.json").read_text())
    newest = [part for part in content["partitions"] if part["skill"] is not None][-1]
    chart.get_by_label("metric").select_option("log_loss")
    legend = chart.locator(".u-legend")
    expect(legend).to_contain_text("log loss, realised")
    expect(legend).to_contain_text("best constant prediction")
    expect(legend).to_contain_text(content["partitions"][-1]["key"])
    chart.get_by_label("metric").select_option("skill")
    expect(legend).to_contain_text(f"{100 * newest['skill']:.1f}%")
    expect(chart.get_by_role("table", name="champion periods")).to_contain_text("passed ")
    page.get_by_role("link", name="drift", exact=True).click()
    page.get_by_role("button", name=re.compile(f"^weight, {SHIFTED}: drifted")).click()
    expect(page.get_by_role("heading", name=f"weight in {SHIFTED}")).to_be_visible()
    expect(page.get_by_text(re.compile(f"{SHIFTED} \\(now\\) against training window"))).to_be_visible()
    save_screenshot(page, "distribution")


def test_who_approved_a_version_on_what_evidence(page: Page, stack: Copy) -> None:
    open_page(page, f"{stack.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    page.get_by_role("link", name="versions", exact=True).click()
    timeline = page.get_by_role("region", name="champions and refused versions, newest first")
    expect(timeline).to_contain_text("automation")
    expect(timeline).to_contain_text(f"{RULE}: the value is")
    page.get_by_role("link", name="ledger", exact=True).click()
    listed = page.locator("section[data-view=listing]")
    listed.get_by_label("kind").select_option("stage change")
    rows = json.loads((stack.folder / ".evergreen" / "pages" / "tiny" / "ledger.json").read_text())["rows"]
    changes = [row for row in rows if row[3] == "stage change"]
    expect(listed.get_by_role("status")).to_have_text(f"{len(changes)} of {len(rows)}")
    with page.expect_download() as download:
        listed.get_by_role("button", name="save as CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == len(changes) + 1
    assert changes[0][-1] in lines[1]


def test_what_would_change_if_another_version_were_promoted(page: Page, stack: Copy) -> None:
    open_page(page, f"{stack.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    page.get_by_role("link", name="versions", exact=True).click()
    comparison = page.locator("section[data-view=compare]")
    comparison.get_by_label("with").select_option(REFUSED)
    expect(comparison.get_by_role("table", name="rules of the gate")).to_contain_text("refused: ")
    expect(comparison.get_by_role("table", name="importance of the features")).to_contain_text("weight")
    expect(comparison.get_by_role("heading", name="Differences of model.yaml and SQL")).to_be_visible()
    expect(page.locator("section[data-view=lineage]")).to_contain_text("rows that it learned from")
    save_screenshot(page, "compare")


def test_a_model_page_shows_the_champion_and_its_history(page: Page, stack: Copy) -> None:
    page.goto(f"{stack.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    content = json.loads((stack.folder / ".evergreen" / "pages" / "tiny.json").read_text())["page"]
    expect(page.get_by_text(content["headline"])).to_be_visible()
    expect(page.get_by_role("region", name=re.compile("newest first")).first).to_be_visible()
    champion = content["champion"]["version"]
    output = stack.run(
        "python", "-c", "from tasks.resources import open_resources as o; print(o('tiny').champion().version)"
    )
    assert champion == output.split()[-1]
    page.get_by_role("link", name="data of tiny").first.click()
    expect(page.get_by_text('load("tiny", "valid",')).to_be_visible()


def test_the_reason_of_a_refusal_is_two_clicks_from_the_index(page: Page, stack: Copy) -> None:
    page.goto(f"{stack.pages}/index.html")
    page.get_by_role("link", name="tiny", exact=True).click()
    expect(page.get_by_text(re.compile(f"{RULE}: REFUSED")).first).to_be_visible()
    page.get_by_role("link", name="retrained: refused").first.click()
    expect(page.get_by_text("Refused by the gate:")).to_be_visible()
    expect(page.get_by_role("heading", name="Verdicts of the gate")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    save_screenshot(page, "card")


def test_a_model_card_compares_the_version_with_champion_and_prior(page: Page, stack: Copy) -> None:
    """Every metric has its interval, on the same rows."""
    page.goto(f"{stack.pages}/tiny.html")
    page.get_by_role("link", name="retrained: refused").first.click()
    card = page.get_by_role("heading", name="How good it is").locator("xpath=following::table[1]")
    assert cells(card, "thead th") == ["metric", "version 3", "champion", "prior"]  # of which version 4 is the refit
    (loss,) = (row for row in rows(card) if row[0] == "log loss")
    assert all(re.fullmatch(r"\d\.\d{4} \[-?\d\.\d{4}, \d\.\d{4}\]", cell) for cell in loss[1:3]), loss


def test_the_code_on_the_data_page_loads_the_rows(page: Page, stack: Copy) -> None:
    page.goto(f"{stack.pages}/tiny-data.html")
    code = page.locator("pre code").inner_text()
    output = stack.run("python", "-c", f"{code}\nprint(len(frame), sorted(frame.columns))")
    assert output.split()[-1] == "'weight']"
    assert int(output.split()[0]) > 1000


def test_the_index_of_a_hundred_models_is_sorted_by_severity(browser: Browser, stack: Copy, tmp_path) -> None:
    content = json.loads((stack.folder / ".evergreen" / "pages" / "tiny.json").read_text())["page"]
    pages = []
    for number in range(100):
        state = ORDER[(number * 7) % 4]
        alerts = (
            [] if state == "good" else [{"severity": state, "message": f"an alert of severity {state}", "action": ""}]
        )
        pages.append({**content, "model": f"model_{number:02d}", "state": state, "alerts": alerts})
    (tmp_path / "index.html").write_text(render_hub(pages))
    context = browser.new_context(offline=True, viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto((tmp_path / "index.html").as_uri())
    states = page.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert len(states) == 100
    assert states == sorted(states, key=ORDER.index)
    expect(page.get_by_text("25 error, 25 action required, 25 warning, 25 good")).to_be_visible()
    save_screenshot(page, "hundred-models")
    context.close()


def cells(table: Locator, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in table.locator(selector).all_inner_texts()]


def rows(table: Locator) -> list[list[str]]:
    """Return the cells of a table's body, row by row."""
    return [cells(row, "th, td") for row in table.locator("tbody tr").all()]


def run_of(copy: Copy, flow: str, name: str) -> dict:
    """Return the newest run of a flow with this name."""
    return next(run for run in reversed(copy.runs_of(flow)) if run["name"] == name)


def open_artifact(page: Page, copy: Copy, key: str, run: dict | None = None) -> None:
    """Open the newest artifact of a key, or that of a run."""
    wanted = {"key": {"any_": [key]}} | ({"flow_run_id": {"any_": [run["id"]]}} if run else {})
    artifacts = copy.ask("artifacts/filter", {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1})
    page.goto(f"{copy.prefect}/artifacts/artifact/{artifacts[0]['id']}")


def open_process(page: Page, copy: Copy) -> None:
    """Open the artifact of the run that processed the shifted day."""
    open_artifact(page, copy, "tiny-process", run_of(copy, "process", f"process tiny {SHIFTED}"))


def run_page(page: Page, copy: Copy, flow: str, name: str) -> None:
    page.goto(f"{copy.prefect}/runs/flow-run/{run_of(copy, flow, name)['id']}")


def test_a_deployment_shows_its_description_and_schedule(page: Page, stack: Copy) -> None:
    page.goto(f"{stack.prefect}/deployments")
    page.get_by_placeholder("Search deployments").fill("tiny")
    expect(page.get_by_role("link", name="tiny", exact=True)).to_have_count(
        5
    )  # process, assess, train, retrain, and the monthly backfill
    save_screenshot(page, "deployments")
    deployments = stack.ask("deployments/filter", {"deployments": {"name": {"any_": ["tiny"]}}})
    process = next(d for d in deployments if d["entrypoint"].startswith("flows/process.py"))
    page.goto(f"{stack.prefect}/deployments/deployment/{process['id']}")
    expect(page.get_by_text("regular", exact=True).first).to_be_visible()  # the schedule's name
    page.get_by_text("Description", exact=True).first.click()
    expect(page.get_by_text("Every day at 06:00 UTC: ingests, validates and scores").first).to_be_visible()
    save_screenshot(page, "deployment")


def test_the_form_of_a_backfill_has_choices_and_help(page: Page, stack: Copy) -> None:
    deployments = stack.ask("deployments/filter", {"deployments": {"name": {"any_": ["manual"]}}})
    backfill = next(d for d in deployments if d["entrypoint"].startswith("flows/backfill.py"))
    page.goto(f"{stack.prefect}/deployments/deployment/{backfill['id']}/run")
    for text in ("First partition, such as 2013-01.", "Make the plan and run nothing.", "missing", "oldest first"):
        expect(page.get_by_text(text).first).to_be_visible()
    save_screenshot(page, "backfill-form")


TASK_NAMES = (
    f"ingest {SHIFTED}",
    f"validate {SHIFTED}",
    f"score {SHIFTED}",
    f"watch {SHIFTED}",
    f"emit drift event of {SHIFTED}",
)


def test_the_timeline_of_a_process_run_names_its_steps(page: Page, stack: Copy) -> None:
    run_page(page, stack, "process", f"process tiny {SHIFTED}")
    for name in TASK_NAMES:
        expect(page.get_by_text(name).first).to_be_visible()
    save_screenshot(page, "process-run")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tiny-process", f"tiny: 1 of 1 partition blocked, first {BLOCKED_DAY}: weight"),
        ("tiny-drift", "weight"),
        ("tiny-gate", "better than the prior"),
        ("tiny-train", "version"),
        ("tiny-retrain", "drift"),
        ("tiny-model", "tiny: error. Version "),
        ("tiny-assess", f"tiny: {SHIFTED} assessed. Newest {SHIFTED}: log_loss"),
        ("tiny-performance", "tiny: performance of the newest"),
        ("tiny-decisions", "tiny: every decision, newest first"),
        ("tiny-backfill-plan", "2024-03-12"),
        ("tiny-backfill", "tiny: 5 of 5 partitions brought up to date, 0 failed, 0 blocked."),
        ("tiny-backfill-progress", "tiny: 5 of 5 partitions done, 0 failed"),
        ("tiny-grid", "tiny: 5 of 5 partitions up to date in every stage."),
    ],
)
def test_the_headline_of_an_artifact_states_the_result(page: Page, stack: Copy, key: str, text: str) -> None:
    open_artifact(page, stack, key)
    expect(page.get_by_text(text).first).to_be_visible()
    save_screenshot(page, f"artifact-{key}")


def test_a_completed_backfill_has_a_progress_of_100_percent(page: Page, stack: Copy) -> None:
    open_artifact(page, stack, "tiny-backfill-progress")
    expect(page.get_by_text("Progress: 100%")).to_be_visible()
    expect(page.get_by_role("link", name="tiny 2024-03-12 to 2024-03-16")).to_be_visible()


def test_the_grid_is_a_table_of_partitions_and_steps(page: Page, stack: Copy) -> None:
    open_artifact(page, stack, "tiny-grid")
    grid = page.get_by_role("table")
    expect(grid.get_by_text("2024-03-16")).to_be_visible()
    assert cells(grid, "th")[:5] == ["partition", "ingest", "validate", "sketch", "score"]
    body = rows(grid)
    assert [row[0] for row in body] == [f"2024-03-{day}" for day in range(12, 17)]
    assert all(row[1:5] == ["fresh"] * 4 for row in body)


def test_the_gates_table_has_each_rule_with_its_number(page: Page, stack: Copy) -> None:
    """Value, threshold and verdict."""
    open_artifact(page, stack, "tiny-gate")
    expect(page.get_by_text(f"the gate refused version {REFUSED}. It did not pass: {RULE}.").first).to_be_visible()
    gate = page.get_by_role("table")
    expect(gate.get_by_text("floor: log_loss")).to_be_visible()
    assert cells(gate, "th") == ["rule", "verdict", "value", "threshold", "note"]
    (floor,) = (row for row in rows(gate) if row[0] == "floor: log_loss")
    assert (floor[1], floor[3]) == ("passed", "0.69")  # the champion breaks this limit as much
    (refused,) = (row for row in rows(gate) if row[0] == RULE)
    assert (refused[1], refused[3]) == ("REFUSED", "0.1")
    assert float(refused[2]) > 0.1


@pytest.mark.parametrize("key", ["tiny-backfill-plan", "tiny-backfill"])
def test_plan_and_result_of_a_backfill_have_an_image(page: Page, stack: Copy, key: str) -> None:
    open_artifact(page, stack, key)
    image = page.locator("img[src^='data:image/png']").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") > 300


def test_the_automations_are_listed_by_name(page: Page, stack: Copy) -> None:
    page.goto(f"{stack.prefect}/automations")
    for name in ("retrain tiny on facts", "crash-lost-runs"):
        expect(page.get_by_text(name).first).to_be_visible()
    save_screenshot(page, "automations")


def follow(page: Page, link: re.Pattern[str]) -> None:
    """Open the address of a link in this window, since the link itself opens a new one."""
    address = page.get_by_role("link", name=link).first.get_attribute("href")
    assert address
    page.goto(address)


def test_artifacts_link_to_mlflow_evidently_and_the_model_page(page: Page, stack: Copy) -> None:
    open_process(page, stack)
    follow(page, re.compile("drift report in Evidently"))
    expect(page).to_have_url(re.compile("/projects/.+/reports/"))
    expect(page.get_by_text(re.compile("weight")).first).to_be_visible()
    save_screenshot(page, "evidently")

    open_process(page, stack)
    follow(page, re.compile("in MLflow"))
    expect(page).to_have_url(re.compile("/models/tiny/versions/"))
    expect(page.get_by_text("evergreen.stage").first).to_be_visible()
    save_screenshot(page, "mlflow")

    open_artifact(page, stack, "tiny-model")
    follow(page, re.compile("its page"))
    expect(page).to_have_url(f"{stack.pages}/tiny.html")
    expect(page.get_by_role("heading", level=1)).to_have_text("tiny")


def test_the_reason_of_a_retraining_is_two_clicks_from_its_run(page: Page, stack: Copy) -> None:
    """The list of the run's artifacts, then the artifact of the decision."""
    run_page(page, stack, "retrain", f"retrain tiny after {SHIFTED}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("tiny-retrain").first.click()
    expect(page.get_by_text(re.compile(f"tiny {SHIFTED}: retrained")).first).to_be_visible()
    save_screenshot(page, "retrain-decision")


# The click paths of docs/tour.md. Those in Prefect use its newer interface.


def test_the_first_tour_path_shows_a_model_and_a_process_run(page: Page, stack: Copy) -> None:
    page.goto(stack.pages)
    page.get_by_role("link", name="tiny", exact=True).click()
    for name in ("Champion", "Partitions", "Signals and decisions", "Costs"):
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()

    page.goto(stack.prefect)
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.get_by_placeholder("Search deployments").fill(
        "tiny"
    )  # the list shows ten deployments, and this stack has more
    row = page.get_by_role("row")
    for name in ("tiny", "process"):
        row = row.filter(has=page.get_by_role("link", name=name, exact=True))
    expect(row).to_contain_text("At 06:00 AM")
    row.get_by_role("link", name="tiny", exact=True).click()
    page.get_by_role("link", name=f"process tiny {SHIFTED}").first.click()
    expect(page.locator("canvas")).to_be_visible()  # the timeline, whose text is not in the DOM
    page.get_by_role("tab", name="Task Runs").click()
    for name in TASK_NAMES:
        expect(page.get_by_text(name).first).to_be_visible()
    save_screenshot(page, "tour-process-run")


def test_the_index_shows_a_blocked_partition_first_with_reason_and_action(page: Page, stack: Copy) -> None:
    page.goto(stack.pages)
    expect(
        page.get_by_text(re.compile("^1 error"))
    ).to_be_visible()  # `remind/all` may have written pages of other models
    first = page.locator("tbody tr").first
    for text in ("tiny", "error", f"{BLOCKED_DAY} is blocked at valid: weight", "The next run tries again"):
        expect(first).to_contain_text(text)
    save_screenshot(page, "tour-index-with-error")


def test_a_failed_run_is_listed_by_its_state_and_shows_the_reason(page: Page, stack: Copy) -> None:
    headline = f"tiny: 1 of 1 partition blocked, first {BLOCKED_DAY}: weight"
    page.goto(stack.prefect)
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("button", name="All run states").click()
    page.get_by_role("menuitem", name="Failed", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("1 Flow run", exact=True)).to_be_visible()
    save_screenshot(page, "tour-failed-runs")
    page.get_by_role("link", name=f"tiny {BLOCKED_DAY}").click()
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_text(headline).first).to_be_visible()
    save_screenshot(page, "tour-failed-run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="tiny-process").click()
    expect(page.get_by_text(headline).first).to_be_visible()
    open_artifact(page, stack, "tiny-process")
    expect(page.get_by_text("validate blocked").first).to_be_visible()
    save_screenshot(page, "tour-failed-page")


# Output on a terminal. tests/ops/test_terminal.py tests the progress bars without a stack.


def on_screen(copy: Copy, name: str) -> Output:
    """Return the output of a command that the fixture ran."""
    return Output(0, (copy.folder / f"{name}.txt").read_text())


def test_up_shows_the_remaining_time_until_all_servers_answer(stack: Copy) -> None:
    output = on_screen(stack, "up")
    assert any("waiting for prefect" in line and "left" in line for line in output.lines)
    assert any(line.split() == ["deployments", "ready"] for line in output.lines)
    assert any(line.startswith("All servers respond, after ") for line in output.lines)
    assert output.widest <= WIDTH


def test_the_demo_shows_progress_of_months_runs_and_backfill(stack: Copy) -> None:
    output = on_screen(stack, "demo")
    for pattern in (
        "0 of 1 days done .*━.* 0:00:0",
        f"process/tiny {STEADY}: .*━",
        r"tiny: \d of 5 partitions done, .*━.* 0:\d\d:\d\d",
        f"  assess/tiny +{STEADY} +\\d+ s",
        r"  backfill/manual +2024-03-12 2024-03-16 +\d+ s",
    ):
        assert any(re.search(pattern, line) for line in output.lines), pattern
    assert output.widest <= WIDTH


def test_the_status_in_a_pipe_has_no_colours_and_no_line_breaks(stack: Copy) -> None:
    output = piped("-m", "ops.status", folder=stack.folder, env=stack.env)
    assert (output.code, output.err) == (0, "")
    assert "\x1b" not in output.out
    assert output.lines[0].startswith("Alerts: 1 error")
    blocked = f"  error, tiny: {BLOCKED_DAY} is blocked at valid: weight: column_values_to_be_between failed (99 ("
    assert output.lines[1].startswith(blocked)
    assert len(output.lines[1]) > WIDTH, "a long line is not broken"
    assert output.lines[2] == "    Fix the source. The next run tries again."
    (row,) = (line.split() for line in output.lines if line.split()[:2] == ["tiny", "error"])
    assert row[2:5] == ["v2", BLOCKED_DAY, SHIFTED]


def test_the_status_of_one_model_has_its_steps_schedules_and_events_without_ids(stack: Copy) -> None:
    output = piped("-m", "ops.status", "tiny", folder=stack.folder, env=stack.env)
    assert (output.code, output.err) == (0, "")
    assert re.search(r"  process/tiny +0 6 \* \* \*, next run \d{4}-\d\d-\d\d 06:00 UTC\n", output.out)
    assert any(f"version {REFUSED}: refuse by automation" in line and len(line) > WIDTH for line in output.lines)
    assert f"  drift in {SHIFTED}: retrained: refused\n" in output.out
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", output.out)


def test_the_status_on_a_terminal_has_colours_and_fits_80_columns(stack: Copy) -> None:
    output = on_terminal("-m", "ops.status", folder=stack.folder, env=stack.env)
    assert output.code == 0
    assert "\x1b[32mup\x1b[0m" in output.out
    assert "\x1b[1;31merror\x1b[0m" in output.out
    assert output.widest <= WIDTH
    output = on_terminal("-m", "ops.status", "tiny", folder=stack.folder, env=stack.env)
    for text in (
        "\x1b[1;31merror\x1b[0m",
        "\x1b[1;31mBLOCKED\x1b[0m",
        "\x1b[32mfresh\x1b[0m",
    ):
        assert text in output.out
    (blocked,) = (line.split() for line in output.lines if line.split()[:1] == [BLOCKED_DAY] and "BLOCKED" in line)
    assert len(blocked) == 10
    assert output.widest <= WIDTH


def test_an_audit_is_aligned_text_on_a_terminal_and_in_a_pipe(stack: Copy) -> None:
    formatted = on_terminal("-m", "ops.audit", "tiny", folder=stack.folder, env=stack.env)
    plain = piped("-m", "ops.audit", "tiny", folder=stack.folder, env=stack.env)
    assert (formatted.code, plain.code, plain.err) == (0, 0, "")
    assert formatted.out.startswith("\x1b[1mtiny: on 20")
    assert formatted.widest <= WIDTH
    assert re.match(r"tiny: on \d{4}-\d\d-\d\d version 2 was champion; ledger, MLflow and events agree\.\n", plain.out)
    assert re.search(r"\n floor: log_loss +passed +0\.\d+ +at most 0\.69 +\n", plain.out)
    assert "|" not in plain.out
    assert "\x1b" not in plain.out
