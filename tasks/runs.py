"""Ask the Prefect server how a flow run is."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound


def has_ended(flow_run: str) -> bool:
    """Whether a flow run is in a final state, or is unknown to the server."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except ObjectNotFound:
            return True
    return bool(state and state.is_final())
