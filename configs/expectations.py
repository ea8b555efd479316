"""Schema of `expectations:` in model.yaml, with all names of Great Expectations, which is not imported."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator

from configs.base import Strict
from configs.nearest import hint

Severity = Literal["critical", "warning", "info"]
ColumnKind = Literal["number", "text", "time"]

_NAMES = (
    "column_distinct_values_to_be_in_set column_distinct_values_to_contain_set column_distinct_values_to_equal_set "
    "column_kl_divergence_to_be_less_than column_max_to_be_between column_mean_to_be_between column_median_to_be_between "
    "column_min_to_be_between column_most_common_value_to_be_in_set column_pair_values_a_to_be_greater_than_b "
    "column_pair_values_to_be_equal column_pair_values_to_be_in_set column_proportion_of_non_null_values_to_be_between "
    "column_proportion_of_unique_values_to_be_between column_quantile_values_to_be_between column_stdev_to_be_between "
    "column_sum_to_be_between column_to_exist column_type_to_be column_unique_value_count_to_be_between "
    "column_value_lengths_to_be_between column_value_lengths_to_equal column_value_z_scores_to_be_less_than "
    "column_values_to_be_between column_values_to_be_dateutil_parseable column_values_to_be_decreasing "
    "column_values_to_be_in_set column_values_to_be_in_type_list column_values_to_be_increasing "
    "column_values_to_be_json_parseable column_values_to_be_null column_values_to_be_of_type column_values_to_be_unique "
    "column_values_to_match_json_schema column_values_to_match_like_pattern column_values_to_match_like_pattern_list "
    "column_values_to_match_regex column_values_to_match_regex_list column_values_to_match_strftime_format "
    "column_values_to_not_be_in_set column_values_to_not_be_null column_values_to_not_be_outliers "
    "column_values_to_not_match_like_pattern column_values_to_not_match_like_pattern_list column_values_to_not_match_regex "
    "column_values_to_not_match_regex_list compound_columns_to_be_unique multicolumn_sum_to_equal "
    "multicolumn_values_to_be_equal query_results_to_match_comparison select_column_values_to_be_unique_within_record "
    "table_column_count_to_be_between table_column_count_to_equal table_columns_to_match_ordered_list "
    "table_columns_to_match_set table_row_count_to_be_between table_row_count_to_equal table_row_count_to_equal_other_table"
)
EXPECTATIONS = tuple(f"expect_{name}" for name in _NAMES.split())
"""Their names in Great Expectations. A test compares them with those that it has."""
BOUNDS_OF_VALUES = tuple(
    f"expect_column_{name}_to_be_between" for name in ("values", "min", "max", "mean", "median", "sum", "stdev")
)
"""Expectations whose `min_value` and `max_value` are values of the column, and not a count or a length."""


SQL_ONLY = (
    *(f"expect_column_values_to_{name}match_like_pattern{end}" for name in ("", "not_") for end in ("", "_list")),
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
)
"""Expectations that Great Expectations has for tables of a database only. The rows of a partition are a data frame."""
SUPPORTED = tuple(name for name in EXPECTATIONS if name not in SQL_ONLY)
"""Expectations that a model.yaml may have."""


def unknown_expectation(name: str) -> str:
    """Return that there is no such expectation, or none for a data frame, and which to use instead; empty if there is one."""
    if name in SQL_ONLY:
        instead = f"; use {name.replace('like_pattern', 'regex')}" if "like_pattern" in name else ""
        return f"Great Expectations has {name} for tables of a database only, and checks a partition as a data frame{instead}"
    return "" if name in SUPPORTED else f"Great Expectations has no {name!r}; {hint(name, SUPPORTED)}"


def unsatisfiable(kwargs: Mapping[str, Any]) -> str:
    """Return why no row can satisfy a check with these arguments: an empty range, an empty set, an invalid pattern. Empty if one can."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        return f"min_value: {low!r} is above max_value ({high!r}), so no value passes; exchange them"
    if kwargs.get("value_set") in ([], ()):
        return "value_set: is empty, so no value passes; list the allowed values"
    listed = kwargs.get("regex_list")
    for pattern in (kwargs.get("regex"), *(listed if isinstance(listed, list | tuple) else ())):
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            return f"regex: {pattern!r} is not a regular expression: {error}"
    return ""


def impossible_values(name: str, kwargs: Mapping[str, Any], kinds: Mapping[str, ColumnKind]) -> Iterator[str]:
    """Yield a message for each argument of a check with values that its column can never have.

    Args:
        name: Name of the expectation.
        kwargs: Arguments of one check.
        kinds: What each column holds: float64, text, or times.
    """
    column = str(kwargs.get("column", ""))
    given = {"value_set": (column, kwargs.get("value_set"))}
    if name in BOUNDS_OF_VALUES:
        given |= {bound: (column, [kwargs.get(bound)]) for bound in ("min_value", "max_value")}
    pairs = [pair for pair in kwargs.get("value_pairs_set") or () if isinstance(pair, list | tuple) and len(pair) == 2]
    for at, side in enumerate(("column_A", "column_B")):
        given[f"value_pairs_set of {side}"] = (str(kwargs.get(side, "")), [pair[at] for pair in pairs])
    for argument, (checked, values) in given.items():
        kind = kinds.get(checked)
        wrong = [v for v in values if not _possible(v, kind)] if kind and isinstance(values, list | tuple | set) else []
        if wrong:
            yield f"{argument}: {wrong[0]!r} can never be in {checked}, which holds {_DESCRIPTION[kind]}{_hint(wrong[0], kind)}"


_DESCRIPTION: Mapping[ColumnKind | None, str] = {"number": "numbers", "text": "text", "time": "times"}


def _possible(value: Any, kind: ColumnKind | None) -> bool:
    if value is None:
        return True
    if kind == "text":
        return isinstance(value, str)
    if kind == "time":
        return isinstance(value, str | date)
    return isinstance(value, bool | int | float)


def _hint(value: Any, kind: ColumnKind | None) -> str:
    if kind != "text":
        return "; write it without quotes" if isinstance(value, str) else ""
    if isinstance(value, bool):
        return "; YAML reads NO, yes, off ... as true or false: write it in quotes"
    return "; write it in quotes"


class Expectation(Strict):
    """One Great Expectations check.

    Rows that fail a critical or warning check are quarantined, also if `mostly` tolerates them. If more rows fail a
    critical check than `mostly` allows, the partition is blocked.
    """

    type: str = Field(
        description="name in Great Expectations, in snake case; docs/names.md lists them with their arguments",
        json_schema_extra={"enum": [*SUPPORTED]},
    )
    severity: Severity = Field(
        "critical",
        description="critical: quarantines rows, and blocks the partition if more fail than `mostly` allows; "
        "warning: quarantines rows; info: reports only. A not-null check with `mostly` below 1 quarantines no rows",
    )
    columns: tuple[str, ...] = Field((), description="one check per column; or give `column` in kwargs")
    kwargs: Mapping[str, Any] = Field(default_factory=dict, description="arguments, as in Great Expectations")

    @field_validator("type")
    @classmethod
    def _exists(cls, value: str) -> str:
        if problem := unknown_expectation(value):
            raise ValueError(problem)
        return value

    def checks(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments of each check: one per column."""
        if not self.columns:
            yield dict(self.kwargs)
        for column in self.columns:
            yield {"column": column, **self.kwargs}
