"""An empty flow: Prefect's own minimum."""

from prefect import flow


@flow(name="empty")
def empty() -> None:
    """Do nothing."""
