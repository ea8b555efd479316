"""Read the body and the ids of a request, within limits."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.problems import Problem, too_large, unavailable, unsupported

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """Limits of requests."""

    body_mb: float = 10
    rows: int = 10_000
    body_seconds: float = 10
    """Seconds within which a complete body must arrive."""
    bodies_mb: float = 200
    """Megabytes of all bodies in memory at the same time."""


class Bodies:
    """Reads bodies and limits how much memory all of them use at the same time."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.bytes_in_memory = limits, 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a whole body. It counts as in memory until the context ends.

        Raises:
            ClientDisconnect: The client has closed the connection.
            Problem: The body is compressed, too large or too slow, or the bodies of other requests use all the memory.
        """
        if (coding := request.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
            detail = f"Content-Encoding is {coding[:100]!r}; send the body without compression"
            headers = {"Accept-Encoding": "identity", "Connection": "close"}
            raise unsupported("The content encoding is not supported", detail, headers)
        max_bytes, size, parts = int(self.limits.body_mb * 1e6), 0, []
        refusal = f"this server accepts bodies up to {self.limits.body_mb:g} MB; send fewer rows, or score a partition with `process`"
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > max_bytes:
            raise too_large(f"{int(length):,} bytes; {refusal}")
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if size + len(part) > max_bytes:
                        raise too_large(f"more than {max_bytes:,} bytes; {refusal}")
                    if self.bytes_in_memory + len(part) > self.limits.bodies_mb * 1e6:
                        detail = "the bodies of other requests fill the memory for bodies; try again"
                        raise unavailable("busy", "Too many requests at the same time", detail)
                    parts.append(part)
                    size, self.bytes_in_memory = size + len(part), self.bytes_in_memory + len(part)
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            detail = f"the complete body must arrive within {self.limits.body_seconds:g} seconds"
            headers = {"Connection": "close"}
            raise Problem(408, "slow-body", "The body did not arrive in time", detail, headers=headers) from None
        finally:
            self.bytes_in_memory -= size


def request_id(request: Request) -> str:
    """Return the unique id of a request, the same on every call."""
    if not hasattr(request.state, "id"):
        request.state.id = uuid4().hex
    return str(request.state.id)


def client_id(request: Request) -> str:
    """Return the id that the client sent if it is a plain name, else an empty string. It is not necessarily unique."""
    value = request.headers.get("x-request-id", "")
    return value if CLIENT_ID.fullmatch(value) else ""
