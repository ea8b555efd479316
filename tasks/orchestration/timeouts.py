"""How long a flow run may take. A run that takes longer is stopped, so that a hung one does not keep the next from its work.

The limit stops the run in its own process, which ends in the state `TimedOut` and frees its claims. A process that hangs outside of
Python cannot stop itself: `remind` then cancels its run, and the worker kills it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from configs.settings import load_settings
from tasks.orchestration.prefect_tasks import run_log
from tasks.orchestration.schedules import Post, all_items

HOURS = {
    "process": 6.0,
    "assess": 6.0,
    "train": 24.0,
    "retrain": 24.0,
    "reproduce": 24.0,
    "backfill": 72.0,
    "replay": 72.0,
    "promote": 2.0,
    "rollback": 2.0,
    "audit": 2.0,
    "remind": 1.0,
    "poll": 0.25,
}
"""Limit of each flow in hours, unless `EVERGREEN_FLOW_TIMEOUT` is set where the run starts."""
VARIABLE = "EVERGREEN_FLOW_TIMEOUT"
MARGIN = timedelta(minutes=10)
"""Time after its limit within which a run stops itself."""


def seconds_of(flow: str) -> float:
    """The limit of a flow's runs in this process, in seconds. Read at import, since Prefect keeps it with the flow."""
    return load_settings().flow_timeout or HOURS[flow] * 3600


def cancel_hung(post: Post, now: datetime) -> list[str]:
    """Cancel the runs of our pool that have not stopped at their limit, and mark as crashed those that nobody has stopped since.

    Args:
        post: Asks Prefect's API.
        now: The present, aware.

    Returns:
        A description of each.
    """
    hung = []
    for run in list(_runs(post, "RUNNING", "CANCELLING")):
        by_id = {"deployments": {"id": {"any_": [run["deployment_id"]]}}}
        found = post("deployments/filter", by_id) if run["deployment_id"] else []
        if not found or (limit := limit_of(run, found[0])) is None:
            continue
        since = datetime.fromisoformat(run["state"]["timestamp"])  # a retried run begins again
        if run["state_type"] == "CANCELLING":
            if now - since > MARGIN:
                message = f"{run['name']} was not stopped within {MARGIN.seconds // 60} minutes: neither its process nor a worker is there"
                _set_state(post, run, "CRASHED", "Crashed", message, force=True)
                hung.append(message)
            continue
        if now - since <= limit + MARGIN:
            continue
        message = f"{run['name']} did not stop at its limit of {limit.total_seconds() / 3600:g} hours"
        _set_state(post, run, "CANCELLING", "Cancelling", f"{message}: its process hangs")
        hung.append(message)
    for message in hung:
        run_log().error("%s; the next run continues its work", message)
    return hung


def _runs(post: Post, *states: str) -> Iterator[dict[str, Any]]:
    """The runs in these states that workers of our pool have started."""
    pool = {"work_pools": {"name": {"any_": [load_settings().pool]}}}
    return all_items(post, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": list(states)}}}, **pool})


def _set_state(post: Post, run: Mapping[str, Any], kind: str, name: str, message: str, force: bool = False) -> None:
    post(
        f"flow_runs/{run['id']}/set_state", {"state": {"type": kind, "name": name, "message": message}, "force": force}
    )


def limit_of(run: Mapping[str, Any], deployment: Mapping[str, Any]) -> timedelta | None:
    """The limit of a run of a deployment; None if it is not one of our flows."""
    flow = str(deployment["entrypoint"]).rpartition(":")[2]
    if flow not in HOURS or deployment["entrypoint"] != f"flows/{flow}.py:{flow}":
        return None
    variables = [(given or {}).get("env") or {} for given in (run["job_variables"], deployment["job_variables"])]
    declared = next((env[VARIABLE] for env in variables if VARIABLE in env), "0")
    try:
        own = float(declared)
    except ValueError:
        run_log().error(
            "%s of the deployment of %s is %r, which is no number of seconds", VARIABLE, run["name"], declared
        )
        own = 0
    return timedelta(seconds=own or seconds_of(flow))
