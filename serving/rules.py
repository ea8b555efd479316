"""Great Expectations' checks as rules for single values of a column, and as JSON Schema for the OpenAPI document."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Values = np.ndarray | list[Any]
Rule = tuple[Callable[[Values], np.ndarray], str]
"""A function that returns which values violate the rule, bool (rows,), and the message for them."""


def _in_set(kwargs: Mapping[str, Any], expected: bool) -> tuple[Rule, dict[str, Any]]:
    listed = list(kwargs["value_set"])
    members = set(listed)

    def violates(values: Values) -> np.ndarray:
        return np.array([(v in members) is not expected for v in _as_list(values)], dtype=bool)

    text = ", ".join(map(str, listed[:20])) + (" ..." if len(listed) > 20 else "")
    schema = {"enum": listed}
    return (violates, f"must {'' if expected else 'not '}be one of {text}"), schema if expected else {"not": schema}


def _lengths(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    low, high = (kwargs.get(name, kwargs.get("value")) for name in ("min_value", "max_value"))
    low = None if low is None else low + bool(kwargs.get("strict_min"))
    high = None if high is None else high - bool(kwargs.get("strict_max"))

    def violates(values: Values) -> np.ndarray:
        lengths = np.array([len(v) if isinstance(v, str) else 0 for v in values])
        return (lengths < (low or 0)) | (lengths > (high if high is not None else np.inf))

    text = f"{low}" if low == high else f"at least {low}" if high is None else f"{low or 0} to {high}"
    schema = {"minLength": low, "maxLength": high}
    return (violates, f"must have {text} characters"), {k: v for k, v in schema.items() if v is not None}


def _matches(kwargs: Mapping[str, Any], expected: bool) -> tuple[Rule, dict[str, Any]]:
    pattern = re.compile(kwargs["regex"])

    def violates(values: Values) -> np.ndarray:
        return np.array([isinstance(v, str) and bool(pattern.search(v)) is not expected for v in values], dtype=bool)

    text = f"must {'' if expected else 'not '}match {kwargs['regex']}"
    return (violates, text), ({"pattern": kwargs["regex"]} if expected else {})


def _as_list(values: Values) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
RULES: Mapping[str, Callable[[Mapping[str, Any]], tuple[Rule, dict[str, Any]]]] = {
    "expect_column_values_to_be_in_set": lambda kwargs: _in_set(kwargs, True),
    "expect_column_values_to_not_be_in_set": lambda kwargs: _in_set(kwargs, False),
    "expect_column_value_lengths_to_equal": _lengths,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_values_to_match_regex": lambda kwargs: _matches(kwargs, True),
    "expect_column_values_to_not_match_regex": lambda kwargs: _matches(kwargs, False),
}
SUPPORTED_ARGUMENTS = {
    "column",
    "mostly",
    "min_value",
    "max_value",
    "strict_min",
    "strict_max",
    "value_set",
    "value",
    "regex",
}


def is_supported(kwargs: Mapping[str, Any]) -> bool:
    """Whether all arguments of a check are supported here. `row_condition`, for example, is not."""
    return not set(kwargs) - SUPPORTED_ARGUMENTS


def allowed_range(bounds: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the lowest and highest number that all checks allow, both inclusive: a strict bound becomes the next float64."""
    low, high = -np.inf, np.inf
    for kwargs in bounds:
        if (minimum := kwargs.get("min_value")) is not None:
            low = max(low, np.nextafter(minimum, np.inf) if kwargs.get("strict_min") else minimum)
        if (maximum := kwargs.get("max_value")) is not None:
            high = min(high, np.nextafter(maximum, -np.inf) if kwargs.get("strict_max") else maximum)
    return float(low), float(high)
