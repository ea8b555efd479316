"""Ask the Prefect server how a flow run is."""

from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException


def ended_after(flow_run: str) -> float | None:
    """The seconds that a flow run took, once it is in a final state; None before. Nought where the server does not know it."""
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run))
        except ObjectNotFound:
            return 0.0
    return round(run.total_run_time.total_seconds(), 3) if run.state and run.state.is_final() else None


def is_cancelled(flow_run: str) -> bool:
    """Whether somebody has asked for a flow run to be cancelled. A server that does not answer has not said so."""
    if not flow_run:
        return False
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run)).state
        return bool(state and (state.is_cancelling() or state.is_cancelled()))
    return False
