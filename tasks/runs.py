"""Ask the Prefect server how a flow run is."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound


def ended_after(flow_run: str) -> float | None:
    """The seconds that a flow run took, once it is in a final state; None before. Nought where the server does not know it."""
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run))
        except ObjectNotFound:
            return 0.0
    return round(run.total_run_time.total_seconds(), 3) if run.state and run.state.is_final() else None
