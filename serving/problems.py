"""What is wrong with a request, as RFC 9457 has it: `application/problem+json` with a type, a title, a status and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:evergreen:problem:"
SHOWN, LONGEST = 100, 200
"""Faults that an answer lists, and characters that it shows of a value."""


@dataclass(frozen=True)
class Fault:
    """One value that a model's contract does not allow. `row` counts from 0; None where every row is concerned."""

    row: int | None
    field: str
    value: Any
    problem: str

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = {"field": self.field, "value": _short(self.value), "problem": self.problem}
        return found if self.row is None else {"row": self.row, **found}


class Problem(Exception):
    """A request that gets another answer than predictions. Every detail says what to do next."""

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
        content: dict[str, Any] = {
            "type": TYPE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            content["errors"] = [fault.told() for fault in self.faults[:SHOWN]]
        if request_id:
            content["request_id"] = request_id
        return Response(orjson.dumps(content), self.status, self.headers, MEDIA_TYPE)


def refused_rows(faults: Iterable[Fault], rows: int) -> Problem:
    """Rows that the model's contract does not allow. None of the request is predicted."""
    found = list(islice(faults, SHOWN + 1))
    first = found[0]
    where = "every row" if first.row is None else f"row {first.row}"
    others = f"at least {SHOWN}" if len(found) > SHOWN else str(len(found) - 1)
    more = f"; and {others} more, see `errors`" if len(found) > 1 else ""
    return Problem(
        422,
        "invalid-rows",
        "Rows that the model does not take",
        f"{where}, {first.field}: {first.problem}{more}. Nothing of the {rows} rows was predicted; mend them and send them again",
        found,
    )


def unreadable(detail: str) -> Problem:
    """A body that is not what its content type says."""
    return Problem(400, "unreadable-body", "The body cannot be read", detail)


def wrong_envelope(detail: str) -> Problem:
    return Problem(400, "wrong-envelope", "The body is no scoring request", detail)


def too_large(detail: str) -> Problem:
    return Problem(413, "too-large", "The request is too large", detail, headers={"Connection": "close"})


def unavailable(slug: str, title: str, detail: str, seconds: int = 1) -> Problem:
    """What may work in a moment."""
    return Problem(503, slug, title, detail, headers={"Retry-After": str(seconds)})


def _short(value: Any) -> Any:
    """A value as JSON shows it, cut where it is long."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:LONGEST]
    if not isinstance(value, str):
        return "an object" if isinstance(value, dict) else "a list"
    text = value
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
