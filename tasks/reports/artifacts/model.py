"""Update of a model's pages after each change, with a summary as an artifact in Prefect."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from httpx import HTTPError
from prefect.exceptions import PrefectException

from tasks.contracts.escape import for_markdown
from tasks.contracts.links import run_form_url
from tasks.orchestration.api import open_api
from tasks.orchestration.prefect_tasks import as_task, run_log
from tasks.orchestration.schedules import Schedule, active_schedules, read_deployments
from tasks.reports.artifacts.page import publish_page, table_lines
from tasks.reports.pages.publish import page_url, refresh_pages
from tasks.resources import Resources

FORMS: Mapping[str, tuple[str, bool]] = {
    "process/{model}": ("process", False),
    "backfill/manual": ("backfill this range", True),
    "replay/manual": ("replay this range", True),
    "retrain/{model}": ("retrain", False),
}
"""The deployments whose forms a model's page opens: text of the link, and whether it fills in the range that is chosen on the page."""


def publish_model(res: Resources) -> None:
    """Update the model's pages and publish their summary. An error is logged and does not fail the run."""
    try:
        if res.pages and (page := refresh_pages(res, *_schedules_and_forms(res))):
            publish_model_summary(page, res)
    except Exception:  # noqa: BLE001  (the work of the run is done already)
        run_log().exception("the pages of %s could not be updated; the next run writes them again", res.config.name)


def _schedules_and_forms(res: Resources) -> tuple[list[Schedule] | None, list[dict[str, Any]]]:
    """Return the active schedules of the model's deployments, and the forms that start runs; None and [] if Prefect does not answer."""
    try:
        with open_api() as ask:
            deployments = read_deployments(ask)
            return active_schedules(deployments, ask, res.config.name), run_forms(res, deployments)
    except (HTTPError, PrefectException) as error:
        run_log().warning(
            "the page of %s shows no schedules, since Prefect does not answer: %s", res.config.name, error
        )
        return None, []


def run_forms(res: Resources, deployments: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return text, address without parameters, parameters, and whether it has a range, of each form in `FORMS` that is deployed."""
    forms = []
    for template, (text, ranged) in FORMS.items():
        if deployment := deployments.get(template.format(model=res.config.name)):
            url = run_form_url(res.settings.prefect_ui, deployment, {}).partition("?")[0]
            parameters = {**deployment["parameters"], "model": res.config.name}
            forms.append({"text": text, "url": url, "parameters": parameters, "ranged": ranged})
    return forms


def _plain(cell: Any) -> str:
    """Return the text of a cell of the page, without its link."""
    return str(cell["text"] if isinstance(cell, Mapping) else cell)


@as_task("update model page")
def publish_model_summary(page: Mapping[str, Any], res: Resources) -> None:
    """Create the artifact `<model>-model`: state of the model, alerts, last decisions and links."""
    alerts = [
        f"- **{a['severity']}**: {for_markdown(a['message'])}" + (f": `{a['action']}`" if a["action"] else "")
        for a in page["alerts"]
    ]
    rows = [[_plain(cell) for cell in row[:3]] for row in page["decisions"][:6]]
    decisions = ["", *table_lines(("partition", "signal", "decision"), rows)] if rows else []
    links = [
        f"[its page]({page_url(res)}), which shows the present state",
        *(f"[{text}]({url})" for text, url in page["links"] if "://" in url),
    ]
    body = [f"State on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", "", *alerts, *decisions, "", ", ".join(links)]
    publish_page(res, "model", f"{page['model']}: {page['state']}. {page['headline']}", body)
