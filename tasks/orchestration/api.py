"""Requests to Prefect's API from a flow run, by Prefect's own client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import get_client

from tasks.orchestration.schedules import Post


@contextmanager
def open_api() -> Iterator[Post]:
    """Open a connection. What it yields sends a body to a path such as `deployments/filter`, and returns the response's JSON.

    Raises:
        HTTPError, PrefectException: From its calls, if the server does not respond or refuses.
    """
    with get_client(sync_client=True) as client:

        def post(path: str, body: dict[str, Any]) -> Any:
            return client.request("POST", f"/{path}", json=body).raise_for_status().json()

        yield post
