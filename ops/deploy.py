"""Deploy `prefect.yaml` to a Prefect server: `python -m ops.deploy [--env dev|prod]`.

`prefect --no-prompt deploy --all` creates the deployments. This module adds the work pool, its queue for backfills, the
notifications, and an automation that marks runs as crashed whose process and worker both ended.
"""

import argparse
import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from configs.choices import select_models
from configs.errors import ConfigError
from configs.load import configs_folder, load_model, model_names
from configs.settings import ROOT, Settings, disable_telemetry, load_env, load_settings
from ops.check import flow_of, read_deployments
from ops.deploy_models import deploy_selected, models_in_form, read_all
from ops.errors import DeployFailed, StackError
from ops.generated import generated_deployments, unreadable_models
from ops.notify import ADDRESS, BLOCK, ensure_notifications
from ops.terminal import print_error
from tasks.source.prefect_access import limit_name

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

LOST_RUNS = "crash-lost-runs"
"""Name of the automation that marks lost runs as crashed."""

BACKFILLS, BACKFILL_PRIORITY = "backfills", 10
"""Queue of `backfill/manual` and its priority. The default queue has priority 1 and goes first."""
BACKFILL_DESCRIPTION = "Backfills. The default queue goes first, and the limit leaves it one slot of the worker."

CONNECTION_SESSIONS = 4
"""Sessions that all runs together have with a database, until a person changes the limit in Prefect."""

HEARTBEAT_TIMEOUT = timedelta(seconds=180)
"""Six heartbeats (one every 30 s, see pyproject.toml). A busy machine delays some, and a live run must not be marked as crashed."""

ATTEMPTS = 3
"""Deploying is repeated: with a busy SQLite, Prefect can fail after it has deleted a deployment's automation."""

BUSY = ("503 Service Unavailable", "ReadTimeout", "ConnectTimeout")
"""Prefect's output in that case. Other failures are permanent."""

OWN = (
    "deploy.py",
    "deploy_models.py",
    "generated.py",
    "rendering.py",
    "schedule_times.py",
    "templates/deployments.yaml.j2",
)
"""Files of ops/ on which deployments depend."""

RUN_EVENTS = ("prefect.flow-run.*",)
"""A heartbeat, or any change of state. Its event has the state's name, and a flow may give a state a name of its own."""


def deploy(settings: Settings, models: str = "") -> None:
    """Create or update the pool, the deployments and the automations. Running it again changes nothing.

    Deploying prefect.yaml enables triggers and schedules again that a person has paused in the UI. Of the models of `for_each`, only
    deployments that have changed are created again, and what a person has paused stays paused.

    Args:
        settings: The settings.
        models: Patterns of the models to deploy, such as `store-*`; by default everything is deployed.

    Raises:
        ConfigError: A pattern matches no model.
        DeployFailed: Prefect refused. The message has the end of its output.
        StackError: The server does not respond.
    """
    for error in unreadable_models().values():
        print(f"warning: deployments that `for_each` generates from it stay as they are: {error}", file=sys.stderr)
    try:
        names = select_models(models) if models else model_names()
    except ValueError as error:
        raise ConfigError(f"MODELS={models}: {error}") from None
    asyncio.run(prepare(settings))
    if not models:
        deploy_file("--all")
    elif own := asyncio.run(file_deployments(names)):
        deploy_file(*(argument for name in own for argument in ("--name", name)))
    asyncio.run(deploy_selected(generated_deployments(names), settings))


async def file_deployments(models: Sequence[str]) -> list[str]:
    """Return the deployments of prefect.yaml that these models need: their own, and those for all models whose form lacks one of them."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        existing = await read_all(client, "deployments")
    forms = {f"{flow_of(d)}/{d['name']}": models_in_form(d) for d in existing if d["entrypoint"]}
    needed = []
    for declared in read_deployments(ROOT / "prefect.yaml"):
        name = f"{flow_of(declared)}/{declared['name']}"
        lacks_one = declared["name"] == "manual" and not set(models) <= set(forms.get(name, ()))
        if declared["name"] in models or lacks_one:
            needed.append(name)
    return needed


def deploy_file(*which: str) -> None:
    """Create deployments of prefect.yaml with Prefect's own command, whose arguments are those that select them."""
    for attempt in range(1, ATTEMPTS + 1):
        code, output = run_prefect_deploy(*which)
        if code == 0:
            break
        if attempt == ATTEMPTS or not any(text in output for text in BUSY):
            command = " ".join(["prefect --no-prompt deploy", *which])
            raise DeployFailed(f"`{command}` failed; the end of its output:\n{output[-3000:]}")
    for line in output.splitlines():
        if "successfully created" in line:
            print("deployed", line.split("'")[1])


def run_prefect_deploy(*arguments: str) -> tuple[int, str]:
    """Run Prefect's own command and return its exit code and output."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


async def prepare(settings: Settings) -> None:
    """Create the work pool with its queue for backfills, and create or update the automations."""
    import httpx
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        try:
            await client.hello()
        except httpx.HTTPError as error:
            raise StackError(
                f"no Prefect server responds at {client.api_url}: {error}; run `make up`, or set PREFECT_API_URL"
            ) from error
        await ensure_pool(client, settings.pool)
        await ensure_queue(client, settings.pool, BACKFILLS, BACKFILL_PRIORITY, max(1, settings.run_limit - 1))
        for connection in connections():
            await ensure_connection_limit(client, connection)
        for automation in (lost_runs(), *await ensure_notifications(client, settings)):
            await ensure_automation(client, automation)


async def ensure_pool(client: "PrefectClient", name: str) -> None:
    """Create a pool of type process, unless a pool of that name exists."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        return


async def ensure_queue(client: "PrefectClient", pool: str, name: str, priority: int, limit: int) -> None:
    """Create a queue of the pool, unless one of that name exists, since a person may have changed its priority or limit."""
    from prefect.exceptions import ObjectAlreadyExists

    try:
        await client.create_work_queue(
            name=name, work_pool_name=pool, priority=priority, concurrency_limit=limit, description=BACKFILL_DESCRIPTION
        )
    except ObjectAlreadyExists:
        return


def connections() -> list[str]:
    """The connections to databases of all models that can be read, sorted."""
    found = set()
    for name in model_names():
        try:
            config = load_model(name).config
        except ConfigError:
            continue  # its own runs report it
        found |= {table.connection for table in config.source.views.values() if table.connection}
        found |= {sink.connection for sink in config.publish.values() if sink.table and sink.connection}
    return sorted(found)


async def ensure_connection_limit(client: "PrefectClient", connection: str) -> None:
    """Limit the sessions of a database, unless there is a limit, since a person may have changed it."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    name = limit_name(connection)
    try:
        await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=CONNECTION_SESSIONS))


async def ensure_automation(client: "PrefectClient", automation: "AutomationCore") -> None:
    """Create or update the only automation of that name. An automation that a person disabled stays disabled."""
    existing = await client.read_automations_by_name(automation.name)
    if not existing:
        await client.create_automation(automation)
        return
    await client.update_automation(existing[0].id, automation.model_copy(update={"enabled": existing[0].enabled}))
    for duplicate in existing[1:]:
        await client.delete_automation(duplicate.id)


def lost_runs() -> "AutomationCore":
    """Return the automation that marks a run as crashed when its heartbeats stop before it has ended.

    Prefect's worker does this for its own runs, but not if the worker ended too.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    trigger = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect=set(RUN_EVENTS),
        posture=Posture.Proactive,
        threshold=1,
        within=HEARTBEAT_TIMEOUT,
    )
    message = f"no heartbeat for {HEARTBEAT_TIMEOUT.seconds} s: its process and its worker have ended"
    return AutomationCore(
        name=LOST_RUNS,
        description="Marks runs as crashed whose process and worker both ended, since they would stay in state Running.",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def fingerprint() -> str:
    """Return the digest of everything that a deployment depends on, so that an unchanged deployment is skipped."""
    digest = hashlib.sha256()
    folders = {ROOT / "configs", configs_folder()}
    files = [*(ROOT / "flows").rglob("*.py"), *(p for folder in folders for p in folder.rglob("*") if p.is_file())]
    own = [ROOT / "ops" / name for name in OWN]
    for path in sorted({ROOT / "prefect.yaml", ROOT / "uv.lock", *own, *files}):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    notifications = [os.environ.get(name, "") for name in (ADDRESS, BLOCK)]
    digest.update(hashlib.sha256("\0".join(notifications).encode()).digest())
    return digest.hexdigest()


def main() -> int:
    """Load the variables of an environment and create its deployments."""
    parser = argparse.ArgumentParser(prog="python -m ops.deploy", description=deploy.__doc__)
    parser.add_argument(
        "--models", default="", help="patterns of the models to deploy, such as store-*; by default all"
    )
    parser.add_argument(
        "--env",
        default="dev",
        help="which configs/env/<env>.env to load; variables that are already set take precedence",
    )
    arguments = parser.parse_args()
    try:
        for name, value in load_env(arguments.env).items():
            os.environ.setdefault(name, value)
        disable_telemetry()
        settings = load_settings()
        os.environ.setdefault("PREFECT_API_URL", f"{settings.prefect_url}/api")
        deploy(settings, arguments.models)
    except (ConfigError, StackError) as error:
        return print_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
