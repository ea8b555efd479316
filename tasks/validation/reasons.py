"""One check, and in people's words why a row does not pass it. Pure, without Great Expectations."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.schema import Severity

NOT_NULL = "expect_column_values_to_not_be_null"
UNIQUE = "expect_column_values_to_be_unique"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
ABOUT_NULLS = (NOT_NULL, "expect_column_values_to_be_null")
FINITE = {"min_value": -sys.float_info.max, "max_value": sys.float_info.max}


@dataclass(frozen=True)
class Check:
    """One expectation with the arguments of one check."""

    where: str
    type: str
    severity: Severity
    kwargs: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is about; none for checks of the whole table."""
        single = [self.kwargs[k] for k in ("column", "column_A", "column_B") if k in self.kwargs]
        return (*single, *self.kwargs.get("column_list", ()))

    @property
    def allows_nulls(self) -> bool:
        """Not-null with a tolerance speaks of the share of nulls and condemns no single row."""
        return self.type == NOT_NULL and self.kwargs.get("mostly", 1) < 1


def reason(one: Check, values: tuple[Any, ...]) -> str:
    """Why a row is quarantined, such as `wind_speed 1048.36 is not between 0 and 120`."""
    if one.type == NOT_NULL:
        return f"{one.columns[0]} is null"
    seen = ", ".join(f"{c} {text(v)}" for c, v in zip(one.columns, values, strict=True))
    return f"{seen} {complaint(one.type, one.kwargs)}"


def complaint(kind: str, kwargs: Mapping[str, Any]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if kind == UNIQUE:
        return "is not unique"
    if kind == BETWEEN and {"min_value": low, "max_value": high} == FINITE:
        return "is not finite"
    if kind == BETWEEN and None not in (low, high):
        return f"is not between {text(low)} and {text(high)}"
    if kind == BETWEEN:
        return f"is below {text(low)}" if high is None else f"is above {text(high)}"
    if kind == IN_SET:
        allowed = [text(v) for v in kwargs.get("value_set") or ()]
        return f"is not one of {', '.join(allowed[:8])}{' ...' if len(allowed) > 8 else ''}"
    return f"breaks {kind}"


def text(value: Any) -> str:
    return f"{float(value):.6g}" if isinstance(value, float) else str(value)
