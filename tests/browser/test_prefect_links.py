"""The addresses of tasks/contracts/links.py, opened in both interfaces of a real Prefect server."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from prefect.utilities.callables import parameter_schema

from configs.settings import Settings
from flows.retrain import retrain
from ops.prefect_ui import remove_analytics_key, ui_folder
from ops.programs import child_environment, programs
from tasks.contracts.links import run_form_url, run_url, runs_url
from tests.browser.conftest import save_screenshot
from tests.conftest import free_port

pytestmark = [pytest.mark.servers, pytest.mark.slow]

PATIENCE = 180
"""Seconds within which a new server must respond."""
REASON = 'at most 50% of "wind" is known: 100%25 of a+b & c #1, Zürich'


@dataclass(frozen=True)
class Prefect:
    """A Prefect server that `make up` would start, with runs and a deployment."""

    settings: Settings
    deployment: dict[str, Any]
    runs: dict[str, str]
    """Ids of the flow runs by name."""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    settings = Settings(home=tmp_path_factory.mktemp("prefect"), prefect_port=free_port())
    program = programs(settings)[0]
    ui_folder(settings).mkdir()
    log = Path(settings.home) / "server.log"
    environment = child_environment(settings, dict(os.environ) | {"PREFECT_API_URL": f"{settings.prefect_url}/api"})
    with log.open("w") as output:
        server = subprocess.Popen(
            shlex.split(program.command), cwd=program.directory, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(program.health, server, log)
        remove_analytics_key(settings)
        with httpx.Client(base_url=f"{settings.prefect_url}/api/") as api:
            yield fill(settings, api)
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)


def fill(settings: Settings, api: httpx.Client) -> Prefect:
    """Create runs with tags, and a deployment of the flow `retrain`."""

    def create(path: str, **body: Any) -> dict[str, Any]:
        response = api.post(path, json=body)
        for _ in range(20):
            if response.status_code != 503:  # the database of a server that has just started is locked for moments
                break
            time.sleep(1)
            response = api.post(path, json=body)
        return response.raise_for_status().json()

    flow = create("flows/", name="retrain")["id"]
    deployment = create(
        "deployments/",
        name="flights",
        flow_id=flow,
        parameters={"model": "flights"},
        parameter_openapi_schema=parameter_schema(retrain).model_dump(),
    )
    tags = {
        "process flights 2013": ["flights", "drift", "2013"],
        "process flights 2014": ["flights", "2014"],
        "process flights_daily 2013": ["flights_daily", "drift", "2013"],
    }
    done = {"type": "COMPLETED", "name": "Completed", "message": "2013 processed, drift in 7 of 30 columns"}
    runs = {name: create("flow_runs/", name=name, flow_id=flow, tags=own)["id"] for name, own in tags.items()}
    for run in runs.values():
        create(f"flow_runs/{run}/set_state", state={"type": "RUNNING", "name": "Running"}, force=True)
        create(f"flow_runs/{run}/set_state", state=done, force=True)
    return Prefect(settings, deployment, runs)


@pytest.mark.parametrize("path", ["/", "/dashboard", "/runs", "/v2/dashboard", "/v2/runs", "/v2/automations"])
def test_no_other_host_is_asked(context: BrowserContext, prefect: Prefect, path: str) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(f"{prefect.settings.prefect_url}{path}")
    expect(page.get_by_text("Deployments").first).to_be_visible()
    page.wait_for_timeout(1000)
    own = (prefect.settings.prefect_url, prefect.settings.prefect_url.replace("http", "ws", 1), "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
    assert asked


def address(url: str, interface: str) -> str:
    """The address in an interface of Prefect."""
    return url if interface == "v2" else url.replace("/v2/", "/")


def names_of(page: Page, prefect: Prefect) -> set[str]:
    """The names of the runs that a list shows."""
    return {name for name in prefect.runs if page.get_by_role("link", name=name, exact=True).count()}


@pytest.mark.parametrize("interface", ["v1", "v2"])
@pytest.mark.parametrize(
    ("tag", "name", "expected"),
    [
        ("drift", "", {"process flights 2013", "process flights_daily 2013"}),
        ("drift", " flights ", {"process flights 2013"}),
        ("2014", "", {"process flights 2014"}),
    ],
)
def test_the_list_of_runs_has_those_with_the_tag(
    page: Page, prefect: Prefect, interface: str, tag: str, name: str, expected: set[str]
) -> None:
    page.goto(address(runs_url(prefect.settings.prefect_ui, [tag], name), interface))
    for run in expected:
        expect(page.get_by_role("link", name=run, exact=True).first).to_be_visible()
    assert names_of(page, prefect) == expected
    save_screenshot(page, f"runs-{interface}-{tag}{'-and-name' if name else ''}")


@pytest.mark.parametrize("interface", ["v1", "v2"])
def test_a_run_shows_its_message_and_its_tags(page: Page, prefect: Prefect, interface: str) -> None:
    run = prefect.runs["process flights 2013"]
    page.goto(address(run_url(prefect.settings.prefect_ui, run), interface))
    page.get_by_role("tab", name="Details").or_(page.get_by_text("Details", exact=True)).first.click()
    expect(page.get_by_text("drift in 7 of 30 columns").first).to_be_visible()
    expect(page.get_by_text("drift", exact=True).first).to_be_visible()
    save_screenshot(page, f"run-{interface}")


def field_of(page: Page, value: str) -> Locator:
    """The field of a form that has this value, which V1 and V2 do not connect with their labels."""
    page.wait_for_function("v => [...document.querySelectorAll('input, textarea')].some(f => f.value === v)", arg=value)
    fields = page.locator("input, textarea")
    values = fields.evaluate_all("fields => fields.map(field => field.value)")
    return fields.nth(values.index(value))


@pytest.mark.parametrize("interface", ["v1", "v2"])
def test_the_form_of_a_deployment_has_the_values_of_the_address(page: Page, prefect: Prefect, interface: str) -> None:
    url = run_form_url(prefect.settings.prefect_ui, prefect.deployment, {"by": "ann", "reason": REASON})
    page.goto(address(url, interface))
    for value in ("ann", REASON):
        expect(field_of(page, value)).to_be_visible()
    expect(page.get_by_text("flights", exact=True).first).to_be_visible()  # the deployment's own model
    save_screenshot(page, f"form-{interface}")
