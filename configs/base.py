"""Base types of the `model.yaml` schema: frozen models, durations, names."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

EXAMPLE = {"M": "2013-05", "W": "2013-W20", "D": "2013-05-14", "H": "2013-05-14T10"}
PATTERN = {
    "M": r"[0-9]{4}-[0-9]{2}",
    "W": r"[0-9]{4}-W[0-9]{2}",
    "D": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "H": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}",
}
"""Patterns of partition names. Sorting the names as text sorts them by time."""
YEARS = (1700, 2250)
"""First and last year of partitions and of moments. pandas' times in nanoseconds reach from 1677 to 2262."""
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL's text cannot hold, and halves of characters (surrogates), which UTF-8 cannot encode."""
UNITS = {"min": "minutes", "h": "hours", "D": "days", "W": "weeks"}


def parse_duration(value: Any) -> Any:
    """Parse `90min`, `6h`, `14D` or `2W` to a timedelta. ISO 8601 such as `P14D`, which records contain, is left to pydantic."""
    match = re.fullmatch(r"(\d+)\s*(min|h|D|W)", value) if isinstance(value, str) else None
    if isinstance(value, str) and not match and not value.startswith("P"):
        raise ValueError(f"{value!r} is not a duration; write a number and min, h, D or W, such as 14D")
    try:
        return timedelta(**{UNITS[match[2]]: int(match[1])}) if match else value
    except OverflowError:
        raise ValueError(f"{value!r} is longer than 100 years") from None


def span_text(span: timedelta) -> str:
    """Return a duration as model.yaml has it: `14D`, `36h` or `90min`."""
    for unit, length in (("D", timedelta(days=1)), ("h", timedelta(hours=1))):
        if not span % length:
            return f"{span // length}{unit}"
    return f"{span / timedelta(minutes=1):g}min"


def to_utc(moment: datetime) -> datetime:
    """Convert a time to UTC.

    Raises:
        ValueError: It has no time zone, or its year is not within `YEARS`.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; write it like 2013-05-02T00:00:00-04:00")
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError(f"{moment.isoformat()} is not within the years {YEARS[0]} to {YEARS[1]}; choose another time")
    return moment.astimezone(UTC)


Duration = Annotated[
    timedelta,
    Field(ge=timedelta(0), le=timedelta(days=36525)),
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+\s*(min|h|D|W)|P.+)$"}),
]
LONGEST_NAME = 40
"""Characters of the column for a model's name in the ledger."""
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=LONGEST_NAME)]
NameOfModel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(-[a-z0-9_]+)?$", max_length=LONGEST_NAME)]
"""A model's name. The models of `for_each` have a hyphen before their value."""
Every = Literal["M", "W", "D", "H"]


class Strict(BaseModel):
    """A frozen model. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
