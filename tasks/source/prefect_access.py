"""What sources use of Prefect: secrets with addresses of databases, and limits of how many sessions a database has at a time.

Prefect is loaded only where it is used: `make status` reads sources too, and answers in a second.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def limit_name(connection: str) -> str:
    """The name of the global concurrency limit of a connection."""
    return f"evergreen.connection.{connection}"


@contextmanager
def slot(connection: str | None) -> Iterator[None]:
    """Take a slot of the connection's concurrency limit, and wait for one if there is none.

    Nothing is limited without a connection, and outside of flow runs.
    """
    if connection is None or "prefect" not in sys.modules:
        yield
        return
    from prefect.concurrency.sync import concurrency
    from prefect.context import FlowRunContext, TaskRunContext

    if not (FlowRunContext.get() or TaskRunContext.get()):
        yield
        return
    with concurrency(limit_name(connection), occupy=1):
        yield


def secret(block: str) -> str:
    """The value of a Prefect secret block, empty if there is none or the server does not answer."""
    import httpx
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        return ""
    try:
        loaded = Secret.load(block, _sync=True)
    except (ValueError, httpx.HTTPError):
        return ""
    return str(loaded.get())
