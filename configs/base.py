"""Base types of the `model.yaml` schema: frozen models, durations, names."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

EXAMPLE = {"M": "2013-05", "W": "2013-W20", "D": "2013-05-14", "H": "2013-05-14T10"}
PATTERN = {
    "M": r"\d{4}-\d{2}",
    "W": r"\d{4}-W\d{2}",
    "D": r"\d{4}-\d{2}-\d{2}",
    "H": r"\d{4}-\d{2}-\d{2}T\d{2}",
}
"""Patterns of partition names. Sorting the names as text sorts them by time."""
UNITS = {"min": "minutes", "h": "hours", "D": "days", "W": "weeks"}


def parse_duration(value: Any) -> Any:
    """Parse `90min`, `6h`, `14D` or `2W` to a timedelta. ISO 8601 such as `P14D`, which records contain, is left to pydantic."""
    match = re.fullmatch(r"(\d+)\s*(min|h|D|W)", value) if isinstance(value, str) else None
    if isinstance(value, str) and not match and not value.startswith("P"):
        raise ValueError(f"{value!r} is not a duration; write a number and min, h, D or W, such as 14D")
    return timedelta(**{UNITS[match[2]]: int(match[1])}) if match else value


Duration = Annotated[timedelta, Field(ge=timedelta(0)), BeforeValidator(parse_duration)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Every = Literal["M", "W", "D", "H"]


class Strict(BaseModel):
    """A frozen model. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
