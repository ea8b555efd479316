"""Create the deployments of selected models through Prefect's client: in one process, and only those that have changed.

A deployment's version is a digest of all that it is made of. They are created one after the other: two at once are no faster, since
a server on SQLite has one writer, and four take twice as long.
"""

import asyncio
import functools
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from configs.settings import Settings
from ops.errors import DeployFailed
from ops.generated import gone_models, pull_steps
from ops.terminal import Bar, terminal
from tasks.storage.files import digest_json

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events import DeploymentTriggerTypes

ATTEMPTS, PAUSE = 4, 5.0
"""Times that a deployment is tried while the server is busy, and the seconds before the second time."""
LINE_EACH = 100
"""Deployments after which a log has a line."""
PAGE = 200
"""Most items that Prefect returns at once."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """A deployment as Prefect is asked to create it, the automations that start its runs, and a digest of all that."""

    flow: str
    content: Mapping[str, Any]
    triggers: "Sequence[DeploymentTriggerTypes]"
    version: str

    @property
    def name(self) -> str:
        """Flow and deployment, as in `process/store-a`."""
        return f"{self.flow}/{self.content['name']}"


async def deploy_selected(declared: Sequence[Mapping[str, Any]], settings: Settings) -> None:
    """Create those of some deployments that have changed, and report deployments on the server whose model does not exist any more."""
    from prefect.client.orchestration import get_client

    began, console = time.monotonic(), terminal()
    async with get_client() as client:
        with Bar(console, f"deploying {len(declared)} deployments of models", len(declared)) as bar:

            def show(done: int, total: int) -> None:
                bar.set_progress(done, total)
                if not console.is_terminal and done % LINE_EACH == 0:
                    print(f"deployed {done} of {total}", flush=True)

            existing = await read_all(client, "deployments")
            changed = await deploy_models(client, declared, existing, show) if declared else []
        if declared:
            seconds = time.monotonic() - began
            unchanged = len(declared) - len(changed)
            print(f"deployed {len(changed)} deployments of models in {seconds:.0f} s; {unchanged} were unchanged")
        for model, names in gone_models(existing, settings.pool).items():
            print(
                f"warning: model {model} does not exist any more, but these deployments do: {', '.join(names)}. Delete each with "
                f"`prefect deployment delete {names[0]}`",
                file=sys.stderr,
            )


async def deploy_models(
    client: "PrefectClient",
    declared: Sequence[Mapping[str, Any]],
    existing: Iterable[Mapping[str, Any]],
    progress: Progress,
) -> list[str]:
    """Create or update deployments that are not on the server as declared, and return their names.

    Args:
        client: A client of Prefect's server.
        declared: Deployments as prefect.yaml has them.
        existing: All deployments as Prefect's API describes them.
        progress: Is called with how many are done, and of how many.
    """
    steps = pull_steps()
    wanted = [_wanted(deployment, steps) for deployment in declared]
    flows = {flow: await client.create_flow_from_name(flow) for flow in sorted({one.flow for one in wanted})}
    on_server = {(d["flow_id"], d["name"]): d for d in existing}
    enabled = {automation["name"]: automation["enabled"] for automation in await read_all(client, "automations")}

    def current(one: Wanted) -> Mapping[str, Any]:
        return on_server.get((str(flows[one.flow]), one.content["name"]), {})

    def is_unchanged(one: Wanted) -> bool:
        return (
            current(one).get("version") == one.version and {trigger.name for trigger in one.triggers} <= enabled.keys()
        )

    changed = [one for one in wanted if not is_unchanged(one)]
    for done, one in enumerate(changed, 1):
        kept = _with_pauses(one, current(one), enabled)
        await _create_patiently(client, kept, flows[one.flow], is_new=not current(one))
        progress(done, len(changed))
    return [one.name for one in changed]


def _with_pauses(wanted: Wanted, current: Mapping[str, Any], enabled: Mapping[str, bool]) -> Wanted:
    """Return a deployment with what a person has paused on the server: all of it, its schedules by slug, its automations by name."""
    active = {schedule["slug"]: schedule["active"] for schedule in current.get("schedules", ())}
    schedules = [{**s, "active": s["active"] and active.get(s["slug"], True)} for s in wanted.content["schedules"]]
    triggers = [
        trigger.model_copy(update={"enabled": trigger.enabled and enabled.get(str(trigger.name), True)})
        for trigger in wanted.triggers
    ]
    content = {**wanted.content, "schedules": schedules, "paused": current.get("paused", False)}
    return replace(wanted, content=content, triggers=triggers)


async def _create_patiently(client: "PrefectClient", wanted: Wanted, flow_id: UUID, is_new: bool) -> None:
    """Create or update one deployment, and try again while the server is busy, beyond the retries of Prefect's client.

    Raises:
        DeployFailed: The server refuses the deployment, or stays busy.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    for attempt in range(1, ATTEMPTS + 1):
        try:
            await _create(client, wanted, flow_id, is_new and attempt == 1)
            return
        except (PrefectHTTPStatusError, httpx.TimeoutException) as error:
            is_busy = isinstance(error, httpx.TimeoutException) or error.response.status_code == 503
            if attempt == ATTEMPTS or not is_busy:
                raise DeployFailed(f"{wanted.name} could not be deployed: {error}") from error
        await asyncio.sleep(PAUSE * attempt)


async def _create(client: "PrefectClient", wanted: Wanted, flow_id: UUID, is_new: bool) -> None:
    """Create or update one deployment. Its automations are made again, as Prefect's own command does."""
    body = {**wanted.content, "flow_id": str(flow_id), "version": wanted.version}
    response = await client.request("POST", "/deployments/", json=body)  # the client's own method validates all again
    own = UUID(response.json()["id"])
    if not is_new:
        await client.delete_resource_owned_automations(f"prefect.deployment.{own}")
    for trigger in wanted.triggers:
        trigger.set_deployment_id(own)
        await client.create_automation(trigger.as_automation())


def _wanted(declared: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Wanted:
    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    flow = str(declared["entrypoint"]).rpartition(":")[2]
    pool, limit = declared["work_pool"], declared.get("concurrency_limit")
    limit = limit if isinstance(limit, Mapping) else {"limit": limit}
    schedules = [
        {"schedule": {"cron": s["cron"], "timezone": s["timezone"]}, "slug": s["slug"], "active": True}
        for s in declared.get("schedules", ())
    ]
    content = {key: declared[key] for key in ("name", "description", "tags", "entrypoint")}
    content |= {
        "parameters": dict(declared["parameters"]),
        "parameter_openapi_schema": _form(flow, declared["parameters"]["model"]),
        "enforce_parameter_schema": True,
        "pull_steps": list(steps),
        "work_pool_name": pool["name"],
        "work_queue_name": pool.get("work_queue_name"),
        "job_variables": dict(pool["job_variables"]),
        "schedules": schedules,
        "concurrency_limit": limit["limit"],
        "concurrency_options": {k: v for k, v in limit.items() if k != "limit"} or None,
    }
    adapter: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)
    triggers = [adapter.validate_python(dict(t)) for t in declared.get("triggers", ())]
    return Wanted(flow, content, triggers, digest_json([content, declared.get("triggers", ())])[:16])


def _form(flow: str, model: str) -> dict[str, Any]:
    """Return the form of a flow's parameters, with this model as the only choice: other models do not change the deployment."""
    form = json.loads(_forms(flow))
    _choices(form["properties"]["model"])["enum"] = [model]
    return dict(form)


def models_in_form(deployment: Mapping[str, Any]) -> list[str]:
    """Return the choices of `model` in the form of a deployment on the server; none if it has no such parameter."""
    properties = (deployment["parameter_openapi_schema"] or {}).get("properties", {})
    return list(_choices(properties.get("model", {})).get("enum", ()))


def _choices(field: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a field's schema with its `enum`: that of its first type, if it may be left out."""
    nested: dict[str, Any] = field["anyOf"][0] if "anyOf" in field else field
    return nested


@functools.cache
def _forms(flow: str) -> str:
    from prefect.utilities.callables import parameter_schema

    own = getattr(importlib.import_module(f"flows.{flow}"), flow)
    return json.dumps(parameter_schema(own).model_dump(exclude_unset=True))


async def read_all(client: "PrefectClient", kind: str) -> list[dict[str, Any]]:
    """Return all deployments or automations as Prefect's API describes them, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        response = await client.request("POST", f"/{kind}/filter", json={"limit": PAGE, "offset": len(items)})
        items += (page := response.json())
        if len(page) < PAGE:
            return items
