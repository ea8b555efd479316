"""The body and the id of a request, within limits."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.problems import Problem, too_large, unavailable

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body_mb: float = 10
    rows: int = 10_000
    body_seconds: float = 10
    """Within which a body must have come in whole."""
    bodies_mb: float = 200
    """What all bodies together may have at a time."""


class Bodies:
    """How much of all bodies is in memory now, since many large ones at a time are more than one."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, held until its answer is made.

        Raises:
            ClientDisconnect: whoever sent it has gone.
            Problem: it is larger than allowed, takes too long to come in, or there is no room for it now.
        """
        most, size, parts = int(self.limits.body_mb * 1e6), 0, []
        refusal = f"this server takes bodies of {self.limits.body_mb:g} MB; send fewer rows, or score a partition by `process`"
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise too_large(f"{int(length):,} bytes; {refusal}")
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if size + len(part) > most:
                        raise too_large(f"more than {most:,} bytes; {refusal}")
                    if self.held + len(part) > self.limits.bodies_mb * 1e6:
                        raise unavailable(
                            "busy",
                            "Too much at a time",
                            "the bodies of other requests fill the memory for them; try again",
                        )
                    parts.append(part)
                    size, self.held = size + len(part), self.held + len(part)
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            raise slow_body(self.limits.body_seconds) from None
        finally:
            self.held -= size


def slow_body(seconds: float) -> Problem:
    return Problem(
        408,
        "slow-body",
        "The body did not come in time",
        f"it must be here whole within {seconds:g} seconds",
        headers={"Connection": "close"},
    )


def request_id(request: Request) -> str:
    """An id for one request, which no other has; the same as long as the request lasts."""
    if (own := getattr(request.state, "id", "")) == "":
        own = request.state.id = uuid4().hex
    return str(own)


def client_id(request: Request) -> str:
    """What the client calls the request, where that is a plain name; two requests may have the same."""
    given = request.headers.get("x-request-id", "")
    return given if CLIENT_ID.fullmatch(given) else ""
