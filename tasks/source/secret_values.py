"""Values of connections: addresses of databases and options of storage, from the environment or from a Prefect secret."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tasks.errors import SourceRefused
from tasks.source import prefect_access

LEAST_SECRET = 3
"""Characters of a value up to which it is no secret, such as `1`."""


def variable(connection: str) -> str:
    """The variable of the environment that has a connection's value."""
    return f"EVERGREEN_CONNECTION_{connection.upper()}"


def connection_value(connection: str, place: str, what: str = "address") -> str:
    """The value of a connection, from the environment, else from the Prefect secret.

    Raises:
        SourceRefused: there is none.
    """
    block = f"evergreen-connection-{connection.replace('_', '-')}"
    if value := os.environ.get(variable(connection)) or prefect_access.secret(block):
        return value.strip()
    raise SourceRefused(
        f"{place}: the connection has no {what}; set {variable(connection)} for the worker, or create the Prefect secret block {block!r}"
    )


def storage_options(connection: str | None, place: str) -> dict[str, Any]:
    """The options of the library that reads an address, such as `{"key": "...", "secret": "..."}`. Empty without a connection.

    Raises:
        SourceRefused: the connection has no value, or one that is not a JSON object. The value is not shown.
    """
    if connection is None:
        return {}
    try:
        options = json.loads(connection_value(connection, place, "options"))
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise SourceRefused(
            f'{place}: the options of connection {connection!r} are not a JSON object such as {{"key": "...", "secret": "..."}} '
            f"(their text is not shown); correct {variable(connection)} or the secret"
        ) from None
    return options


def without_options(text: str, connection: str | None) -> str:
    """A text without the values of a connection's options, and without users and passwords in addresses: a library may quote them."""
    try:
        options: Any = storage_options(connection, "")
    except SourceRefused:
        options = {}
    for value in sorted(_texts(options), key=len, reverse=True):
        text = text.replace(value, "***") if len(value) > LEAST_SECRET else text
    return re.sub(r"://[^/\s@]+@", "://***@", text)


def _texts(value: Any) -> Iterator[str]:
    """The values of options at any depth, as text."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
    elif not isinstance(value, bool):
        yield from (str(value), unquote(str(value)))
