"""Tell a Prefect server what `prefect.yaml` says: `python -m ops.deploy [--env dev|prod]`.

`prefect --no-prompt deploy --all` does the deployments; around it come the work pool,
and an automation that ends runs whose process and worker both died.
"""

import argparse
import asyncio
import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from configs.settings import ROOT, Settings, load_env, load_settings, silence_vendors
from ops.errors import DeployFailed, StackError
from ops.notify import ADDRESS, BLOCK, ensure_notifications
from ops.terminal import complain

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

LOST = "crash-lost-runs"
"""The automation's name."""

BACKFILLS, BEHIND = "backfills", 10
"""The queue of `backfill/manual`, and its priority: the default queue, with 1, goes first."""
BACKFILLS_TOLD = "Backfills. The default queue goes first, and the limit leaves a slot of the worker to it."

SILENCE = timedelta(seconds=180)
"""Six heartbeats (every 30 s, see pyproject.toml) must be missing: a busy machine delays some, and a live run must not be crashed."""

ATTEMPTS = 3
"""A deployment that fails half way has removed its automation and not made it again; a busy SQLite makes that happen."""

BUSY = ("503 Service Unavailable", "ReadTimeout", "ConnectTimeout")
"""What Prefect says then. Other failures stay the same however often they are tried."""

SEEN = (
    "prefect.flow-run.heartbeat",
    *(f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")),
)


def deploy(settings: Settings) -> None:
    """Make the pool, the deployments and the automation. Twice is as good as once.

    Deploying enables triggers and schedules again that a person has paused in the UI.

    Raises:
        DeployFailed: Prefect refuses; the message holds the end of what it said.
        StackError: the server does not answer.
    """
    asyncio.run(prepare(settings))
    for attempt in range(1, ATTEMPTS + 1):
        code, said = deploy_all()
        if code == 0:
            break
        if attempt == ATTEMPTS or not any(sign in said for sign in BUSY):
            raise DeployFailed(f"`prefect --no-prompt deploy --all` failed; the end of what it said:\n{said[-3000:]}")
    for line in said.splitlines():
        if "successfully created" in line:
            print("deployed", line.split("'")[1])


def deploy_all() -> tuple[int, str]:
    """Prefect's own command: its exit code, and what it said."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


async def prepare(settings: Settings) -> None:
    """The work pool with its queue for backfills, and the automations by their names."""
    import httpx
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        try:
            await client.hello()
        except httpx.HTTPError as error:
            raise StackError(
                f"no Prefect server answers at {client.api_url}: {error}; run `make up`, or set PREFECT_API_URL"
            ) from error
        await ensure_pool(client, settings.pool)
        await ensure_queue(client, settings.pool, BACKFILLS, BEHIND, max(1, settings.run_limit - 1))
        for automation in (lost_runs(), *await ensure_notifications(client, settings)):
            await ensure_automation(client, automation)


async def ensure_pool(client: "PrefectClient", name: str) -> None:
    """A pool of processes, unless there is one of that name."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        return


async def ensure_queue(client: "PrefectClient", pool: str, name: str, priority: int, limit: int) -> None:
    """A queue of the pool, unless there is one of that name: people may set another priority or limit."""
    from prefect.exceptions import ObjectAlreadyExists

    try:
        await client.create_work_queue(
            name=name, work_pool_name=pool, priority=priority, concurrency_limit=limit, description=BACKFILLS_TOLD
        )
    except ObjectAlreadyExists:
        return


async def ensure_automation(client: "PrefectClient", automation: "AutomationCore") -> None:
    """One automation of that name, with this content; whether a person disabled it is left as it is."""
    known = await client.read_automations_by_name(automation.name)
    if not known:
        await client.create_automation(automation)
        return
    await client.update_automation(known[0].id, automation.model_copy(update={"enabled": known[0].enabled}))
    for double in known[1:]:
        await client.delete_automation(double.id)


def lost_runs() -> "AutomationCore":
    """A run whose heartbeats stop without an end is crashed: nothing else notices when its worker died with it."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    trigger = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect=set(SEEN),
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    message = f"no heartbeat for {SILENCE.seconds} s: its process and its worker are gone"
    return AutomationCore(
        name=LOST,
        description="Crashes runs that are Running for ever because their worker died with them.",
        trigger=trigger,
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
    )


def fingerprint() -> str:
    """Of everything that a deployment is made from, to skip deploying the same again."""
    digest = hashlib.sha256()
    files = [*(ROOT / "flows").rglob("*.py"), *(p for p in (ROOT / "configs").rglob("*") if p.is_file())]
    for path in sorted({ROOT / "prefect.yaml", ROOT / "uv.lock", ROOT / "ops" / "deploy.py", *files}):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    told = [os.environ.get(name, "") for name in (ADDRESS, BLOCK)]
    digest.update(hashlib.sha256("\0".join(told).encode()).digest())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.deploy", description=deploy.__doc__)
    parser.add_argument(
        "--env", default="dev", help="which configs/env/<env>.env to load; the environment wins over it"
    )
    try:
        for name, value in load_env(parser.parse_args().env).items():
            os.environ.setdefault(name, value)
        silence_vendors()
        settings = load_settings()
        os.environ.setdefault("PREFECT_API_URL", f"{settings.prefect_url}/api")
        deploy(settings)
    except (ConfigError, StackError) as error:
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
