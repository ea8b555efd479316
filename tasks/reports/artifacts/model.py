"""What every change of a model leaves: its pages brought up to date, and their gist as an artifact whose history is the model's."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException

from tasks.orchestration.prefect_tasks import as_task, is_simulation, run_log
from tasks.orchestration.schedules import Schedule, active_schedules, read_deployments
from tasks.reports.artifacts.page import publish_page
from tasks.reports.health import WORDS
from tasks.reports.pages.publish import page_url, refresh_pages
from tasks.resources import Resources

WEIGHED = {word: weight for weight, word in WORDS.items()}


def publish_model(res: Resources) -> None:
    """Bring the model's pages up to date, and show their gist. Pages tell of what is done: that they fail undoes nothing."""
    try:
        page = None if is_simulation() else refresh_pages(res, _schedules(res))
        if page is not None:
            show_model(page, res)
    except Exception:  # noqa: BLE001  (whatever it is, what the run was for is done)
        run_log().exception("the pages of %s are not up to date; the next run makes them anew", res.config.name)


def _schedules(res: Resources) -> list[Schedule] | None:
    """The active schedules of the model's deployments; None where Prefect does not answer."""
    try:
        with get_client(sync_client=True) as client:
            ask = partial(_post, client)
            return active_schedules(read_deployments(ask), ask, res.config.name)
    except (HTTPError, PrefectException) as why:
        run_log().warning("the page of %s shows no schedules, since Prefect does not answer: %s", res.config.name, why)
        return None


def _post(client: SyncPrefectClient, path: str, body: dict[str, Any]) -> Any:
    return client.request("POST", f"/{path}", json=body).raise_for_status().json()


def _plain(cell: Any) -> str:
    """A cell of the page's table in one of markdown."""
    return str(cell["text"] if isinstance(cell, Mapping) else cell).replace("|", "/")


@as_task("bring the page of {page[model]} up to date")
def show_model(page: Mapping[str, Any], res: Resources) -> None:
    """The first line says how the model is, then come what it needs, its last decisions and where to read on."""
    needs = [f"- **{WORDS[n['weight']]}**: {n['told']}" + (f": `{n['do']}`" if n["do"] else "") for n in page["needs"]]
    decisions = [f"| {' | '.join(_plain(cell) for cell in row[:3])} |" for row in page["decisions"][:6]]
    head = ["", "| partition | seen | decision |", "|---|---|---|"] if decisions else []
    links = [f"[its page]({page_url(res)})", *(f"[{text}]({url})" for text, url in page["links"] if "://" in url)]
    body = [*needs, *head, *decisions, "", ", ".join(links)]
    state = page["state"] if page["state"].startswith("asks") else f"is {page['state']}"
    publish_page(res, "model", f"{page['model']} {state}. {page['headline']}", body)
