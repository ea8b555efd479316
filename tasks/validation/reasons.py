"""One check, and the reason text for a row that fails it. Does not use Great Expectations."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from configs.expectations import Severity
from configs.features import LARGEST_NUMBER

NOT_NULL = "expect_column_values_to_not_be_null"
UNIQUE = "expect_column_values_to_be_unique"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
ABOUT_NULLS = (NOT_NULL, "expect_column_values_to_be_null")
Show = Callable[[str, Any], Any]
"""Returns what a message may show of a column's value."""
FINITE = {"min_value": -LARGEST_NUMBER, "max_value": LARGEST_NUMBER}
"""Arguments of the check of numbers: not infinite, and not larger than float32 can hold."""


@dataclass(frozen=True)
class Check:
    """One expectation with the arguments of one check. `where` is its position in the config, for messages."""

    where: str
    type: str
    severity: Severity
    kwargs: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it checks; empty for a check of the whole table."""
        single = [self.kwargs[k] for k in ("column", "column_A", "column_B") if k in self.kwargs]
        return (*single, *self.kwargs.get("column_list", ()))

    @property
    def allows_nulls(self) -> bool:
        """Whether it limits the share of nulls. Single rows with null then do not fail it."""
        return self.type == NOT_NULL and self.kwargs.get("mostly", 1) < 1


def show_value(_column: str, value: Any) -> Any:
    """The value of a column, as a message of a model without personal columns shows it."""
    return value


def reason(check: Check, values: tuple[Any, ...], show: Show = show_value) -> str:
    """Why a row is quarantined, such as `wind_speed 1048.36 is not between 0 and 120`. `show` returns what to write for a value."""
    if check.type == NOT_NULL:
        return f"{check.columns[0]} is null"
    shown = ", ".join(f"{c} {format_value(show(c, v))}" for c, v in zip(check.columns, values, strict=True))
    if check.type == BETWEEN and check.kwargs.get("max_value") == LARGEST_NUMBER and math.isfinite(values[0]):
        return f"{shown} is larger than float32 can hold ({format_value(LARGEST_NUMBER)})"
    return f"{shown} {violation_text(check.type, check.kwargs)}"


def violation_text(kind: str, kwargs: Mapping[str, Any]) -> str:
    """Return the violated rule as the end of a sentence, such as `is not between 0 and 120`."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if kind == UNIQUE:
        return "is not unique"
    if kind == BETWEEN and {"min_value": low, "max_value": high} == FINITE:
        return "is not finite"
    if kind == BETWEEN and None not in (low, high):
        return f"is not between {format_value(low)} and {format_value(high)}"
    if kind == BETWEEN:
        return f"is below {format_value(low)}" if high is None else f"is above {format_value(high)}"
    if kind == IN_SET:
        allowed = [format_value(v) for v in kwargs.get("value_set") or ()]
        return f"is not one of {', '.join(allowed[:8])}{' ...' if len(allowed) > 8 else ''}"
    return f"fails {kind}"


def format_value(value: Any) -> str:
    """Return a value for a message, floats with 6 significant digits."""
    return f"{float(value):.6g}" if isinstance(value, float) else str(value)
