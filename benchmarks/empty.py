"""A flow with nothing in it: Prefect's own minimum."""

from prefect import flow


@flow(name="empty")
def empty() -> None:
    """Nothing."""
