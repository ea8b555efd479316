"""How long a flow run may take. A run that takes longer is stopped, so that a hung one does not keep the next from its work.

The limit stops the run in its own process, which ends in the state `TimedOut` and frees its claims. A process that hangs outside of
Python cannot stop itself: `remind` then cancels its run, and the worker kills it.
"""

from collections.abc import Mapping
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
    """Cancel the runs of deployments that have not stopped at their limit. Returns a description of each.

    Args:
        post: Asks Prefect's API.
        now: The present, aware.
    """
    least = now - MARGIN - timedelta(hours=min(HOURS.values()))
    running = {"state": {"type": {"any_": ["RUNNING"]}}, "start_time": {"before_": least.isoformat()}}
    hung = []
    for run in list(all_items(post, "flow_runs/filter", {"flow_runs": running})):
        if (limit := _limit(run, post)) is None or now - datetime.fromisoformat(run["start_time"]) <= limit + MARGIN:
            continue
        message = f"{run['name']} did not stop at its limit of {limit.total_seconds() / 3600:g} hours"
        state = {"type": "CANCELLING", "name": "Cancelling", "message": f"{message}: its process hangs"}
        post(f"flow_runs/{run['id']}/set_state", {"state": state})
        run_log().error("%s and is cancelled; its next run continues its work", message)
        hung.append(message)
    return hung


def _limit(run: Mapping[str, Any], post: Post) -> timedelta | None:
    """The limit of a run; None if no deployment of one of our flows has started it."""
    if not run["deployment_id"]:
        return None
    (deployment,) = post("deployments/filter", {"deployments": {"id": {"any_": [run["deployment_id"]]}}}) or [None]
    flow = str(deployment["entrypoint"]).rpartition(":")[2] if deployment else ""
    if flow not in HOURS:
        return None
    variables = [(given or {}).get("env") or {} for given in (run["job_variables"], deployment["job_variables"])]
    declared = next((env[VARIABLE] for env in variables if VARIABLE in env), None)
    return timedelta(seconds=float(declared)) if declared else timedelta(hours=HOURS[flow])
