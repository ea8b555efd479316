"""Tags of flow runs, by which both interfaces of Prefect filter: what a run is about, what started it, and how it ended.

A run gets its tags in one request just before its final state, so that the event of this state has them too, and an automation can
match them. A run whose process dies has only the tags of its deployment.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.context import FlowRunContext, SyncClientContext
from prefect.exceptions import PrefectException
from prefect.states import Completed, Failed, State

from tasks.orchestration.prefect_tasks import is_simulation, run_log

Outcome = Literal["drift", "decay", "blocked", "refused", "declined", "promoted", "warning"]
"""Tags that state how a run ended. `warning`: it completed, and a person should read its message."""
MOST_PARTITIONS = 12
"""A run that worked on more partitions than this has no tag for each."""
_TAGGED: set[UUID] = set()
"""The runs of this process that have their tags."""


def end_run(message: str, tags: Iterable[str] = (), failed: bool = False, data: Any = None) -> State:
    """Give the current run its tags and return its final state, which keeps Prefect's own name: events and menus depend on it.

    Args:
        message: What happened, which both interfaces show with the state.
        tags: Outcomes, and partitions that the run worked on.
        failed: Whether the state is `Failed`.
        data: What the flow returns to a flow that calls it.
    """
    tag_run(tags)
    return Failed(message=message, data=data) if failed else Completed(message=message, data=data)


def tag_run(tags: Iterable[str] = ()) -> None:
    """Add tags to the current flow run: these, and those of its parameters and of what started it. It keeps those that it had at its start.

    Nothing happens in simulation mode and outside of a run. If the server does not answer, the log has a warning.
    """
    context = FlowRunContext.get()
    if is_simulation() or context is None or context.flow_run is None:
        return
    _send(context.flow_run, {*_parameter_tags(context.parameters or {}), *tags})


def tag_failed_run(_flow: Any, flow_run: Any, _state: State) -> None:
    """Hook of all flows: a run that ended with an error gets its tags after it."""
    if flow_run.id not in _TAGGED:
        _send(flow_run, _parameter_tags(flow_run.parameters))


def _send(flow_run: Any, tags: set[str]) -> None:
    own = set(flow_run.tags)
    wanted = own | tags | ({_origin(flow_run)} if not any(tag.startswith("by-") for tag in own) else set())
    _TAGGED.add(flow_run.id)
    if wanted == own:
        return
    try:
        with (
            SyncClientContext.get_or_create() as connection
        ):  # the run's own, so that there is one request and no new session
            connection.client.update_flow_run(flow_run.id, tags=sorted(wanted))
    except (httpx.HTTPError, PrefectException) as error:
        run_log().warning("the run has no tags, since Prefect does not answer: %s", error)


def _parameter_tags(parameters: Mapping[str, Any]) -> set[str]:
    """The model, partition, range and version that a run is about."""
    start, end = parameters.get("start"), parameters.get("end")
    about = [
        parameters.get("model"),
        parameters.get("models"),
        parameters.get("partition"),
        f"{start} to {end}" if start and end else "",
    ]
    version = parameters.get("version")
    return {*(str(value) for value in about if value), *([f"v{version}"] if version else [])}


def _origin(flow_run: Any) -> str:
    """What started a run: `by-schedule`, `by-event`, `by-flow` (a subflow), or `by-hand` (a person or a program)."""
    if flow_run.parent_task_run_id:
        return "by-flow"
    if flow_run.auto_scheduled:
        return "by-schedule"
    created_by = flow_run.created_by.type.lower() if flow_run.created_by else ""
    return "by-event" if created_by == "automation" else "by-hand"


def partition_tags(keys: Iterable[str]) -> list[str]:
    """Return the partitions that a run worked on as tags; none if they are many."""
    partitions = list(keys)
    return partitions if len(partitions) <= MOST_PARTITIONS else []
