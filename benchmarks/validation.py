"""Validation of a million rows of 20 columns by 25 expectations, beside runs of Great Expectations that answer less or the same."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.generated import features, flights, model
from benchmarks.harness import Row, Spent, here, in_turns, row
from configs.schema import Expectation
from tasks.validation.expectations import _batch, _each, _run, check

if TYPE_CHECKING:
    import pandas as pd

ROWS, COLUMNS, BAD, ROUNDS = 1_000_000, 20, 0.01, 2
SPOILT = ("distance", "temp", "origin")
"""Columns of which one row in a hundred breaks its range or its set."""


def rules() -> tuple[Expectation, ...]:
    """Twenty-five, of the sorts that flights has.

    Five columns without nulls, two with few (as its temp and plane_age), three sets or lengths, fourteen ranges, and the number of rows.
    """
    numbers = [n for n in features(COLUMNS) if n not in model().config.features.categorical]
    wide = {"min_value": -1e4, "max_value": 1e4}
    found = (
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
    assert len(list(_each(found))) == 25
    return found


def rows() -> list[Row]:
    config, asked = model().config, rules()
    frame = flights(ROWS)[[config.key, config.time, *features(COLUMNS)]]
    at = np.random.default_rng(1).random((len(frame), len(SPOILT))) < BAD / len(SPOILT)
    spoilt = frame.copy()
    for number, name in enumerate(SPOILT):
        spoilt.loc[at[:, number], name] = "XXX" if name == "origin" else 1e6
    keyed = {"result_format": "COMPLETE", "unexpected_index_column_names": [config.key]}
    for small in (frame.head(1000), spoilt.head(1000)):  # what is imported at the first use
        check(small, asked, config.key)
    subject = f"validation, 25 expectations, 1M x {COLUMNS}"
    all_pass, summary = in_turns(
        evergreen(frame, asked, config.key), vendor(frame, asked, "SUMMARY"), rounds=ROUNDS, warm=False
    )
    some_bad, complete = in_turns(
        evergreen(spoilt, asked, config.key), vendor(spoilt, asked, "COMPLETE"), rounds=1, warm=False
    )
    named = [vendor(spoilt, asked, keyed)()]  # once: a quarter of a minute
    hold_to_same_rows(spoilt.head(ROWS // 10), asked)
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


def evergreen(frame: "pd.DataFrame", asked: tuple[Expectation, ...], key: str) -> Callable[[], Spent]:
    """Our check, with the rows that break something and why."""
    return here(lambda: check(frame, asked, key))


def vendor(frame: "pd.DataFrame", asked: tuple[Expectation, ...], form: str | dict) -> Callable[[], Spent]:
    """One run of Great Expectations with a result format."""
    return here(lambda: _run(_batch(frame), frame, list(_each(asked)), form))


def hold_to_same_rows(frame: "pd.DataFrame", asked: tuple[Expectation, ...]) -> None:
    """See that the rows we would quarantine are those that one COMPLETE run names."""
    ours = set(check(frame, asked, model().config.key).bad)
    checks = list(_each(asked))
    complete = _run(_batch(frame), frame, checks, "COMPLETE")
    theirs = {
        i
        for one, result in zip(checks, complete, strict=True)
        if "not_be_null" not in one.type
        for i in result.result.get("unexpected_index_list") or []
    }
    assert ours == theirs, f"{len(ours ^ theirs)} rows differ"
