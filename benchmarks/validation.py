"""Validation of a million rows of 20 columns by 25 expectations, and runs of Great Expectations that return less or the same."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.generated import features, flights, model
from benchmarks.harness import Row, Spent, in_this_process, in_turns, row
from configs.expectations import Expectation
from tasks.validation.expectations import _batch, _checks, _run, validate_frame

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS, BAD, ROUNDS = 1_000_000, 20, 0.01, 2
BROKEN = ("distance", "temp", "origin")
"""Columns in which 1 % of the rows are outside their range or set."""


def rules() -> tuple[Expectation, ...]:
    """Return 25 expectations, of the kinds that flights has.

    Five columns without nulls, two with few (as its temp and plane_age), three sets or lengths, fourteen ranges, and the number of rows.
    """
    numbers = [n for n in features(COLUMNS) if n not in model().config.features.categorical]
    wide = {"min_value": -1e4, "max_value": 1e4}
    expectations = (
        Expectation(type="expect_table_row_count_to_be_between", kwargs={"min_value": 1}),
        Expectation(
            type="expect_column_values_to_not_be_null",
            columns=("minute_of_day", "weekday", "distance", "origin", "dest"),
        ),
        Expectation(
            type="expect_column_values_to_be_in_set", kwargs={"column": "origin", "value_set": ["EWR", "JFK", "LGA"]}
        ),
        Expectation(type="expect_column_value_lengths_to_equal", kwargs={"column": "carrier", "value": 2}),
        Expectation(type="expect_column_value_lengths_to_equal", kwargs={"column": "dest", "value": 3}),
        *(
            Expectation(type="expect_column_values_to_be_between", kwargs={"column": n, "mostly": 0.9} | wide)
            for n in numbers[:14]
        ),
        *(
            Expectation(
                type="expect_column_values_to_not_be_null", severity="info", kwargs={"column": n, "mostly": least}
            )
            for n, least in (("temp", 0.95), ("plane_age", 0.75))
        ),
    )
    assert len(list(_checks(expectations))) == 25
    return expectations


def rows() -> list[Row]:
    config, expectations = model().config, rules()
    frame = flights(ROWS)[[config.key, config.time, *features(COLUMNS)]]
    at = np.random.default_rng(1).random((len(frame), len(BROKEN))) < BAD / len(BROKEN)
    bad_rows = frame.copy()
    for number, name in enumerate(BROKEN):
        bad_rows.loc[at[:, number], name] = "XXX" if name == "origin" else 1e6
    keyed = {"result_format": "COMPLETE", "unexpected_index_column_names": [config.key]}
    for small in (frame.head(1000), bad_rows.head(1000)):  # imports at the first use
        validate_frame(small, expectations, config.key)
    subject = f"validation, 25 expectations, 1M x {COLUMNS}"
    all_pass, summary = in_turns(
        evergreen(frame, expectations, config.key), vendor(frame, expectations, "SUMMARY"), rounds=ROUNDS, warm=False
    )
    some_bad, complete = in_turns(
        evergreen(bad_rows, expectations, config.key), vendor(bad_rows, expectations, "COMPLETE"), rounds=1, warm=False
    )
    named = [vendor(bad_rows, expectations, keyed)()]  # once: takes 15 s
    assert_same_rows(bad_rows.head(ROWS // 10), expectations)
    gx = "run of Great Expectations"
    return [
        row(f"{subject}, all pass", f"one SUMMARY {gx}", all_pass, summary, 1.1),
        row(f"{subject}, 1 % of rows bad", f"one COMPLETE {gx}", some_bad, complete, 0.4),
        row(
            f"{subject}, 1 % of rows bad",
            f"one COMPLETE {gx} that names rows by their key",
            some_bad,
            named,
            note="ours is that of the row above",
        ),
    ]


def evergreen(frame: "pd.DataFrame", expectations: tuple[Expectation, ...], key: str) -> Callable[[], Spent]:
    """Measure our check, which returns the failing rows with their reasons."""
    return in_this_process(lambda: validate_frame(frame, expectations, key))


def vendor(
    frame: "pd.DataFrame", expectations: tuple[Expectation, ...], form: str | dict[str, Any]
) -> Callable[[], Spent]:
    """Measure one run of Great Expectations with a result format."""
    return in_this_process(lambda: _run(_batch(frame), frame, list(_checks(expectations)), form))


def assert_same_rows(frame: "pd.DataFrame", expectations: tuple[Expectation, ...]) -> None:
    """Check that our quarantined rows are those that one COMPLETE run names."""
    ours = set(validate_frame(frame, expectations, model().config.key).bad)
    checks = list(_checks(expectations))
    complete = _run(_batch(frame), frame, checks, "COMPLETE")
    theirs = {
        i
        for one, result in zip(checks, complete, strict=True)
        if "not_be_null" not in one.type
        for i in result.result.get("unexpected_index_list") or []
    }
    assert ours == theirs, f"{len(ours ^ theirs)} rows differ"
