"""Run a deployment and show its progress in the terminal until it ends."""

import time
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from rich.console import Console

from configs.settings import Settings
from ops.errors import StackError
from ops.terminal import Bar
from tasks.contracts import Decision, Fact
from tasks.contracts.words import first_line
from tasks.resources import Resources

POLL = 0.5
"""Seconds between two requests for a run's state."""
LONGEST = 6 * 3600.0
"""Seconds that a run may take. A run whose process died ends earlier, as `Crashed`."""


class RunFailed(StackError):
    """A flow run did not complete. The message has its state and the address of its page in the Prefect UI."""


class NoDecision(StackError):
    """A fact got no decision in time. The message names what to check."""


def run(
    deployment: str, parameters: dict[str, Any], settings: Settings, console: Console, timeout: float = LONGEST
) -> float:
    """Run a deployment, wait for it and return the wall seconds.

    Raises:
        RunFailed: The run did not complete, or not within `timeout` seconds.
        StackError: Prefect refused the run or did not respond.
    """
    try:
        return _run(deployment, parameters, settings, console, timeout)
    except ObjectNotFound as error:
        raise StackError(
            f"Prefect at {settings.prefect_url} has no deployment {deployment}; `make deploy` creates the deployments of prefect.yaml"
        ) from error
    except (httpx.HTTPError, PrefectException) as error:
        raise StackError(
            f"{deployment} {parameters_text(parameters)}: Prefect at {settings.prefect_url} refused the run or did not respond "
            f"({first_line(str(error))}); "
            f"`make status` shows which programs run, `make up` starts the others"
        ) from error


def _run(deployment: str, parameters: dict[str, Any], settings: Settings, console: Console, timeout: float) -> float:
    began = time.monotonic()
    submitted: Any = run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)
    page = f"{settings.prefect_url}/runs/flow-run/{submitted.id}"
    with get_client(sync_client=True) as client, Bar(console, deployment) as bar:
        while True:
            state = client.read_flow_run(submitted.id).state
            seconds = time.monotonic() - began
            if state and state.is_final():
                break
            if seconds > timeout:
                raise RunFailed(
                    f"{deployment} {parameters_text(parameters)} is {state.name if state else 'unknown'} after {seconds:.0f} s; see {page}"
                )
            if console.is_terminal:
                _show_progress(bar, f"{deployment} {parameters_text(parameters)}", client, submitted.id, state)
            time.sleep(POLL)
    if not state.is_completed():
        raise RunFailed(
            f"{deployment} {parameters_text(parameters)} ended as {state.name}: {state.message or ''}\nsee {page}"
        )
    return seconds


def _show_progress(bar: Bar, description: str, client: SyncPrefectClient, flow_run: UUID, state: Any) -> None:
    """Show the run's progress artifact if it has one (a backfill has), otherwise its newest task, otherwise its state."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    progress = next((a for a in client.read_artifacts(flow_run_filter=of_run) if a.type == "progress"), None)
    if progress:
        bar.describe(progress.description or description)
        bar.set_progress(float(progress.data), 100)
        return
    tasks = client.read_task_runs(flow_run_filter=of_run, sort=TaskRunSort.EXPECTED_START_TIME_DESC, limit=1)
    bar.describe(f"{description}: {tasks[0].name if tasks else state.name.lower() if state else 'submitted'}")


def parameters_text(parameters: dict[str, Any]) -> str:
    """Return the values of the parameters that differ between runs, for messages."""
    return " ".join(str(v) for k, v in parameters.items() if k not in ("model", "reason"))


def wait_for_decision(fact: Fact, res: Resources, console: Console, timeout: float = 600) -> Decision:
    """Wait until a fact has a decision and, if the decision is to retrain, until the retraining has ended.

    Raises:
        NoDecision: There is no decision within `timeout` seconds, or no end of the retraining within `LONGEST`.
    """
    began = time.monotonic()
    with Bar(console, f"{fact.model} {fact.partition}") as bar:
        while True:
            decision = res.ledger.decision(fact.id)
            if decision and (decision.action == "decline" or decision.outcome):
                return decision
            seconds = time.monotonic() - began
            activity = "retraining" if decision else "waiting for the automation"
            if seconds > (LONGEST if decision else timeout):
                raise NoDecision(
                    f"fact {fact.id} ({fact.model} {fact.partition}) has no {'outcome' if decision else 'decision'} after {seconds:.0f} s; "
                    f"check the deployment retrain/{fact.model} at {res.settings.prefect_url}/deployments, its automation, and the logs in "
                    f"{res.settings.path(res.settings.home) / 'logs'}"
                )
            bar.describe(f"{fact.kind} in {fact.partition}: {activity}")
            time.sleep(POLL)
