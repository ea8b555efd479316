"""The state of flow runs, from the Prefect server."""

from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException


def final_run_seconds(flow_run: str) -> float | None:
    """Return the run time of a flow run in seconds, None before its final state, 0 if the server does not have the run."""
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run))
        except ObjectNotFound:
            return 0.0
    return round(run.total_run_time.total_seconds(), 3) if run.state and run.state.is_final() else None


def is_cancelled(flow_run: str) -> bool:
    """Return whether a flow run is cancelling or cancelled. False if the server does not respond."""
    if not flow_run:
        return False
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run)).state
        return bool(state and (state.is_cancelling() or state.is_cancelled()))
    return False
