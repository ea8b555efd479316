"""Error responses as RFC 9457 problem documents: `application/problem+json` with type, title, status and detail."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:evergreen:problem:"
MAX_FAULTS, MAX_CHARACTERS = 100, 200
"""Faults that a response lists, and characters that it shows of a value."""


@dataclass(frozen=True)
class Fault:
    """One value that violates the contract of a model. `row` counts from 0 and is None if all rows are affected."""

    row: int | None
    field: str
    value: Any
    problem: str

    def to_json(self) -> dict[str, Any]:
        """Return the members of an error object, the value shortened. `row` is left out if there is none."""
        content = {"field": self.field, "value": _shorten(self.value), "problem": self.problem}
        return content if self.row is None else {"row": self.row, **content}


class Problem(Exception):
    """A request that fails. `detail` describes what is wrong and what to do next."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.title, self.detail = status, slug, title, detail
        self.faults, self.headers = faults, dict(headers or {})

    def response(self, request_id: str = "") -> Response:
        """Return the problem as JSON by RFC 9457, with the first `MAX_FAULTS` faults."""
        content: dict[str, Any] = {"type": TYPE + self.slug, "title": self.title}
        content |= {"status": self.status, "detail": self.detail}
        if self.faults:
            content["errors"] = [fault.to_json() for fault in self.faults[:MAX_FAULTS]]
        if request_id:
            content["request_id"] = request_id
        return Response(orjson.dumps(content), self.status, self.headers, MEDIA_TYPE)


def invalid_rows(faults: Iterable[Fault]) -> Problem:
    """Return the problem of a request with invalid rows. No row of it is predicted."""
    listed = list(islice(faults, MAX_FAULTS + 1))
    first = listed[0]
    where = "all rows" if first.row is None else f"row {first.row}"
    others = f"at least {MAX_FAULTS}" if len(listed) > MAX_FAULTS else str(len(listed) - 1)
    more = f"; and {others} more, see `errors`" if len(listed) > 1 else ""
    return Problem(
        422,
        "invalid-rows",
        "Invalid rows",
        f"{where}, {first.field}: {first.problem}{more}. No row of the request was predicted; fix the values and send it again",
        listed,
    )


def unreadable(detail: str) -> Problem:
    """Return the problem of a body that does not match its content type."""
    return Problem(400, "unreadable-body", "The body cannot be read", detail)


def wrong_envelope(detail: str) -> Problem:
    """Return the problem of a body that cannot be read as rows."""
    return Problem(400, "wrong-envelope", "The body is not a scoring request", detail)


def unsupported(title: str, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Return the problem of a body whose content type or encoding this server does not read."""
    return Problem(415, "unsupported-media-type", title, detail, headers=headers)


def too_large(detail: str) -> Problem:
    """Return the problem of a body over a limit. The response closes the connection: the body may not be read to its end."""
    return Problem(413, "too-large", "The request is too large", detail, headers={"Connection": "close"})


def unavailable(slug: str, title: str, detail: str, seconds: int = 1) -> Problem:
    """Return a temporary problem. The client may try again after some seconds."""
    return Problem(503, slug, title, detail, headers={"Retry-After": str(seconds)})


def _shorten(value: Any) -> Any:
    """Return a value for a problem document, truncated if it is long."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:MAX_CHARACTERS]
    if not isinstance(value, str):
        return "an object" if isinstance(value, dict) else "a list"
    return value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS] + "..."
