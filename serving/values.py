"""Convert the values of a column, from JSON or CSV, to its type."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from configs.features import LARGEST_NUMBER
from serving.problems import Fault
from serving.rules import Rule, Values

MAX_EXACT_INTEGER = 2**53
"""float64 represents all integers below this one exactly."""
MAX_AHEAD = timedelta(days=1)
"""How far in the future the time of a row may be, because clocks differ and scheduled events can be predicted."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
MAX_KEY_LENGTH, MAX_TEXT_LENGTH = 200, 1000
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
BOOLEANS = {"true": 1.0, "false": 0.0}
TEXT_TYPES = {str, type(None)}


@dataclass(frozen=True)
class Field:
    """One column of a request."""

    name: str
    kind: str
    """`number`, `text`, `key` or `time`."""
    required: bool
    nullable: bool
    rules: tuple[Rule, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    whole: bool = False
    """For numbers: `low` and `high` are inclusive, and `whole` allows integers only. Most columns have no other rule."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The same limits as JSON Schema, for the OpenAPI document."""


def _numbers(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    if text:
        values = [_parse_number(value) for value in values]
    faults = [
        Fault(row, column.name, value, problem)
        for row, value in enumerate(values)
        if (problem := _number_problem(value))
    ]
    return (np.empty(0) if faults else np.array(values, dtype="float64")), faults


def _parse_number(text: str) -> Any:
    """Return the number of a CSV field, None if it is empty, or the text itself if it is not a number."""
    if not text:
        return None
    if (boolean := BOOLEANS.get(text.lower())) is not None:
        return boolean
    if not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 30 else float(text)


def _number_problem(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if abs(value) < MAX_EXACT_INTEGER else "is a whole number that float64 cannot represent exactly"
    if isinstance(value, float):
        if not np.isfinite(value):
            return "is not a finite number"
        return "" if abs(value) <= LARGEST_NUMBER else f"is larger than float32 can hold ({LARGEST_NUMBER:.6g})"
    return "is not a number"


def _texts(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    texts = [value or None for value in values] if text else list(values)
    if TEXT_TYPES.issuperset(map(type, texts)) and max(map(len, filter(None, texts)), default=0) <= MAX_TEXT_LENGTH:
        return texts, []
    faults = [
        Fault(row, column.name, value, problem)
        for row, value in enumerate(texts)
        if value is not None and (problem := _text_problem(value))
    ]
    return texts, faults


def _text_problem(value: Any) -> str:
    if not isinstance(value, str):
        return "is not a text"
    return "" if len(value) <= MAX_TEXT_LENGTH else f"is longer than {MAX_TEXT_LENGTH} characters"


def _keys(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    """Return keys as texts, with None for a null or empty one: the journal creates a key for it."""
    keys = [str(value) if type(value) is int else None if value == "" else value for value in values]
    faults = [
        Fault(row, column.name, value, f"must be a text of at most {MAX_KEY_LENGTH} characters or a whole number")
        for row, value in enumerate(keys)
        if value is not None and not (isinstance(value, str) and len(value) <= MAX_KEY_LENGTH)
    ]
    return keys, faults


def _times(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    times: list[datetime | None] = []
    faults = []
    for row, value in enumerate(values):
        if value is None or value == "":
            times.append(None)
        elif problem := _time_problem(value, now):
            faults.append(Fault(row, column.name, value, problem))
        else:
            times.append(datetime.fromisoformat(value).astimezone(UTC))
    return times, faults


def _time_problem(value: Any, now: datetime) -> str:
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            return "has no time zone; write it like 2013-05-14T10:30:00-04:00"
        if time < EARLIEST:
            return f"is before {EARLIEST:%Y}"
        if time > now + MAX_AHEAD:
            return f"is more than a day in the future; the server's time is {now:%Y-%m-%dT%H:%M}Z"
        return ""
    except (TypeError, ValueError, OverflowError):
        return "is not a time; write it like 2013-05-14T10:30:00-04:00"


Reader = Callable[[Field, Sequence[Any], bool, datetime], tuple[Values, list[Fault]]]
READERS: Mapping[str, Reader] = {"number": _numbers, "text": _texts, "key": _keys, "time": _times}
"""Each returns the converted values, and the faults of values with another type."""
