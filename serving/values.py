"""The values of one column by its type, as they were sent: JSON's, or text of CSV."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from serving.problems import Fault
from serving.rules import Rule, Values

EXACT = 2**53
"""The first whole number whose successor float64 does not have."""
AHEAD = timedelta(days=1)
"""How far in the future a row's time may lie: clocks differ, and some predictions are of what is scheduled."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LONGEST_KEY, LONGEST_TEXT = 200, 1000
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
TRUTHS = {"true": 1.0, "false": 0.0}
TEXTS = {str, type(None)}


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
    """Of numbers: the least and the greatest that is allowed, and whether only whole ones are. Most columns have no other rule."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The same as JSON Schema, for the documentation."""


def _numbers(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    if text:
        values = [_parsed(value) for value in values]
    faults = [Fault(at, own.name, value, why) for at, value in enumerate(values) if (why := _no_number(value))]
    return (np.empty(0) if faults else np.array(values, dtype="float64")), faults


def _parsed(text: str) -> Any:
    """A number of CSV; the text itself where it is none."""
    if not text:
        return None
    if (truth := TRUTHS.get(text.lower())) is not None:
        return truth
    if not NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 30 else float(text)


def _no_number(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if abs(value) < EXACT else "is a whole number too large for float64 to have it exactly"
    if isinstance(value, float):
        return "" if np.isfinite(value) else "is no finite number"
    return "is no number"


def _texts(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    found = [value or None for value in values] if text else list(values)
    if TEXTS.issuperset(map(type, found)) and max(map(len, filter(None, found)), default=0) <= LONGEST_TEXT:
        return found, []
    faults = [
        Fault(at, own.name, value, why)
        for at, value in enumerate(found)
        if value is not None and (why := _no_text(value))
    ]
    return found, faults


def _no_text(value: Any) -> str:
    if not isinstance(value, str):
        return "is no text"
    return "" if len(value) <= LONGEST_TEXT else f"is longer than {LONGEST_TEXT} characters"


def _keys(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    """Texts, or whole numbers as texts. A key that is null or empty has a row made for it."""
    found = [str(value) if type(value) is int else None if value == "" else value for value in values]
    faults = [
        Fault(at, own.name, value, f"is no key: a text of at most {LONGEST_KEY} characters, or a whole number")
        for at, value in enumerate(found)
        if value is not None and not (isinstance(value, str) and len(value) <= LONGEST_KEY)
    ]
    return found, faults


def _times(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    found: list[datetime | None] = []
    faults = []
    for at, value in enumerate(values):
        if value is None or value == "":
            found.append(None)
            continue
        if why := _no_time(value, now):
            faults.append(Fault(at, own.name, value, why))
        else:
            found.append(datetime.fromisoformat(value).astimezone(UTC))
    return found, faults


def _no_time(value: Any, now: datetime) -> str:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return "has no time zone; write it like 2013-05-14T10:30:00-04:00"
        if moment < EARLIEST:
            return f"lies before {EARLIEST:%Y}"
        return f"lies more than a day in the future; it is {now:%Y-%m-%dT%H:%M}Z" if moment > now + AHEAD else ""
    except (TypeError, ValueError, OverflowError):
        return "is no time; write it like 2013-05-14T10:30:00-04:00"


Reader = Callable[[Field, Sequence[Any], bool, datetime], tuple[Values, list[Fault]]]
READERS: Mapping[str, Reader] = {"number": _numbers, "text": _texts, "key": _keys, "time": _times}
"""Each returns the values, and the faults of those that have another type."""
