"""Submit a deployment's run and watch it to its end, as a person with a terminal would."""

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
"""Seconds between two looks at a run."""


class RunFailed(StackError):
    """A flow run did not complete. The message has its state and its page in the Prefect UI."""


class NoDecision(StackError):
    """An event was sent, and no decision came of it in time. The message says where to look."""


def run(
    deployment: str, parameters: dict[str, Any], settings: Settings, console: Console, timeout: float = 900
) -> float:
    """Run a deployment and wait for it; returns the wall seconds.

    Raises:
        RunFailed: it ended otherwise than completed, or not within `timeout` seconds.
        StackError: Prefect refuses it, or does not answer.
    """
    try:
        return _run(deployment, parameters, settings, console, timeout)
    except ObjectNotFound as error:
        raise StackError(
            f"Prefect at {settings.prefect_url} knows no deployment {deployment}; `make deploy` tells it what prefect.yaml says"
        ) from error
    except (httpx.HTTPError, PrefectException) as error:
        raise StackError(
            f"{deployment} {told(parameters)}: Prefect at {settings.prefect_url} refuses, or is not there ({first_line(str(error))}); "
            f"`make status` shows what runs, `make up` starts what is down"
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
                    f"{deployment} {told(parameters)} is {state.name if state else 'unknown'} after {seconds:.0f} s; look at {page}"
                )
            if console.is_terminal:
                _show(bar, f"{deployment} {told(parameters)}", client, submitted.id, state)
            time.sleep(POLL)
    if not state.is_completed():
        raise RunFailed(f"{deployment} {told(parameters)} ended as {state.name}: {state.message or ''}\nlook at {page}")
    return seconds


def _show(bar: Bar, what: str, client: SyncPrefectClient, flow_run: UUID, state: Any) -> None:
    """A run's newest task, or its state before there is one, and how far it is where it says so itself, as a backfill does."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    told_itself = next((a for a in client.read_artifacts(flow_run_filter=only) if a.type == "progress"), None)
    if told_itself:
        bar.say(told_itself.description or what)
        bar.reach(float(told_itself.data), 100)
        return
    tasks = client.read_task_runs(flow_run_filter=only, sort=TaskRunSort.EXPECTED_START_TIME_DESC, limit=1)
    bar.say(f"{what}: {tasks[0].name if tasks else state.name.lower() if state else 'submitted'}")


def told(parameters: dict[str, Any]) -> str:
    """The parameters that tell one run from another."""
    return " ".join(str(v) for k, v in parameters.items() if k not in ("model", "reason"))


def wait_for_decision(fact: Fact, res: Resources, console: Console, timeout: float = 600) -> Decision:
    """Wait until a fact has a decision, and its retraining has ended if it led to one.

    Raises:
        NoDecision: not within `timeout` seconds.
    """
    began = time.monotonic()
    with Bar(console, f"{fact.model} {fact.partition}") as bar:
        while True:
            decision = res.ledger.decision(fact.id)
            if decision and (decision.action == "decline" or decision.outcome):
                return decision
            seconds = time.monotonic() - began
            doing = "retraining" if decision else "waiting for the automation"
            if seconds > timeout:
                raise NoDecision(
                    f"fact {fact.id} ({fact.model} {fact.partition}) has no {'outcome' if decision else 'decision'} after {seconds:.0f} s; "
                    f"look at {res.settings.prefect_url}/deployments (retrain/{fact.model}), at the automation of that name, and into "
                    f"{res.settings.path(res.settings.home) / 'logs'}"
                )
            bar.say(f"{fact.kind} in {fact.partition}: {doing}")
            time.sleep(POLL)
