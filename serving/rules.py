"""Great Expectations' checks as rules for the values of one column, row by row, and as JSON Schema for the documentation."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Values = np.ndarray | list[Any]
Rule = tuple[Callable[[Values], np.ndarray], str]
"""Which values break it, as a mask; and what is said of them."""


def _in_set(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    allowed = list(kwargs["value_set"])
    known = set(allowed)
    shown = ", ".join(map(str, allowed[:20])) + (" ..." if len(allowed) > 20 else "")
    return (lambda values: np.array([v not in known for v in _plain(values)], dtype=bool), f"must be one of {shown}"), {
        "enum": allowed
    }


def _not_in_set(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    barred = list(kwargs["value_set"])
    known = set(barred)
    told = f"must be none of {', '.join(map(str, barred[:20]))}"
    return (lambda values: np.array([v in known for v in _plain(values)], dtype=bool), told), {"not": {"enum": barred}}


def _lengths(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    low, high = (kwargs.get(name, kwargs.get("value")) for name in ("min_value", "max_value"))
    low = None if low is None else low + bool(kwargs.get("strict_min"))
    high = None if high is None else high - bool(kwargs.get("strict_max"))

    def breaks(values: Values) -> np.ndarray:
        lengths = np.array([len(v) if isinstance(v, str) else 0 for v in values])
        return (lengths < (low or 0)) | (lengths > (high if high is not None else np.inf))

    told = f"{low}" if low == high else f"at least {low}" if high is None else f"{low or 0} to {high}"
    schema = {"minLength": low, "maxLength": high}
    return (breaks, f"must have {told} characters"), {k: v for k, v in schema.items() if v is not None}


def _matches(kwargs: Mapping[str, Any], wanted: bool) -> tuple[Rule, dict[str, Any]]:
    pattern = re.compile(kwargs["regex"])

    def breaks(values: Values) -> np.ndarray:
        return np.array([isinstance(v, str) and bool(pattern.search(v)) is not wanted for v in values], dtype=bool)

    told = f"must {'' if wanted else 'not '}match {kwargs['regex']}"
    return (breaks, told), ({"pattern": kwargs["regex"]} if wanted else {})


def _plain(values: Values) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
RULES: Mapping[str, Callable[[Mapping[str, Any]], tuple[Rule, dict[str, Any]]]] = {
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_value_lengths_to_equal": _lengths,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_values_to_match_regex": lambda kwargs: _matches(kwargs, True),
    "expect_column_values_to_not_match_regex": lambda kwargs: _matches(kwargs, False),
}
PLAIN = {"column", "mostly", "min_value", "max_value", "strict_min", "strict_max", "value_set", "value", "regex"}


def knows(kwargs: Mapping[str, Any]) -> bool:
    """Whether every argument is one that changes nothing here but what it says, such as no `row_condition`."""
    return not set(kwargs) - PLAIN


def limits(bounds: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """The least and the greatest number that all of some checks allow; what must be above a bound is at least the next number."""
    low, high = -np.inf, np.inf
    for kwargs in bounds:
        if (least := kwargs.get("min_value")) is not None:
            low = max(low, np.nextafter(least, np.inf) if kwargs.get("strict_min") else least)
        if (most := kwargs.get("max_value")) is not None:
            high = min(high, np.nextafter(most, -np.inf) if kwargs.get("strict_max") else most)
    return float(low), float(high)
