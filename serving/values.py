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

MAX_AHEAD = timedelta(days=1)
"""How far in the future the time of a row may be, because clocks differ and scheduled events can be predicted."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
INTEGER = re.compile(r"([+-]?\d{1,60})(\.0*)?", re.ASCII)
EXACT = 2**53
"""Up to this number float64 has every whole number."""
WORDS = {"true": 1.0, "false": 0.0, "nan": None, "": None}
"""Words in a column of numbers of a CSV body, in any case. DuckDB reads them in the same way in a batch."""
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
    """Return the number of a CSV field, None if it is empty or NaN, or the text itself if it is not a number."""
    if (word := text.lower()) in WORDS:
        return WORDS[word]
    if whole := INTEGER.fullmatch(text):
        return int(whole[1])
    return float(text) if NUMBER.fullmatch(text) else text


def _number_problem(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if not isinstance(value, int | float):
        return "is not a number"
    if isinstance(value, float) and not np.isfinite(value):
        return "is not a finite number"
    if abs(value) > LARGEST_NUMBER:
        return f"is larger than float32 can hold ({LARGEST_NUMBER:.6g})"
    if isinstance(value, int) and abs(value) > EXACT and int(float(value)) != value:
        return "would be rounded: float64 has every whole number only up to 2^53"
    return ""


def _texts(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    texts = [value or None for value in values] if text else list(values)
    if TEXT_TYPES.issuperset(map(type, texts)):
        return texts, []
    others = ((row, value) for row, value in enumerate(texts) if type(value) not in TEXT_TYPES)
    return texts, [Fault(row, column.name, value, "is not a text") for row, value in others]


def _keys(column: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    """Return keys as texts, with None for a null or empty one: the journal creates a key for it."""
    keys = [str(value) if type(value) is int else None if value == "" else value for value in values]
    faults = [
        Fault(row, column.name, value, "must be a text or a whole number")
        for row, value in enumerate(keys)
        if value is not None and not isinstance(value, str)
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
