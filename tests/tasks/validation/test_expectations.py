"""Great Expectations through our eyes: what is found, which rows are quarantined, what blocks."""

import math
import subprocess
import sys

import pandas as pd
import pytest

from configs.errors import ConfigError
from configs.schema import Expectation, ModelConfig
from tasks.contracts import Finding, Validation
from tasks.validation.expectations import check, check_names, rows, structural

DAY = pd.Timestamp("2013-05-01", tz="UTC")


def config(*expectations: Expectation) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "flights",
            "description": "late arrivals",
            "partition": {"every": "M"},
            "source": {"tables": {"flights": {"path": "flights.parquet"}}},
            "key": "id",
            "time": "at",
            "target": {"column": "late", "delay": "1D"},
            "features": {"numeric": ("wind_speed", "distance"), "categorical": ("carrier",)},
            "expectations": [e.model_dump() for e in expectations],
            "training": {"window": {"holdout": "14D"}, "candidates": {"one": {"estimator": "logistic_regression"}}},
            "gate": {"floor": {"log_loss": 0.6}},
        }
    )


def flights(rows: int = 200) -> pd.DataFrame:
    """A good month. Its index is not a range: positions must not be taken from it."""
    return pd.DataFrame(
        {
            "id": [f"UA{i}" for i in range(rows)],
            "at": [DAY + pd.Timedelta(hours=i) for i in range(rows)],
            "wind_speed": [float(i % 30) for i in range(rows)],
            "distance": [500.0 + i for i in range(rows)],
            "carrier": [("UA", "AA", "B6")[i % 3] for i in range(rows)],
        },
        index=range(1000, 1000 + rows),
    )


def between(
    column: str = "wind_speed", low: object = 0, high: object = 120, severity: str = "critical", **more: object
) -> Expectation:
    kwargs = {"min_value": low, "max_value": high, **more}
    return Expectation(type="expect_column_values_to_be_between", severity=severity, columns=(column,), kwargs=kwargs)


def judged(frame: pd.DataFrame, *expectations: Expectation) -> Validation:
    return check(frame, structural(config()) + expectations, "id")


def failed(validation: Validation) -> list[Finding]:
    return [f for f in validation.findings if not f.passed]


def test_a_good_month_passes_every_check() -> None:
    found = judged(
        flights(),
        between(),
        Expectation(
            type="expect_column_values_to_be_in_set", kwargs={"column": "carrier", "value_set": ["UA", "AA", "B6"]}
        ),
    )
    assert failed(found) == []
    assert found.bad == {}
    assert found.blocking == ()
    assert len(found.findings) == 8  # rows, two not-null, unique, two finite, and the two named here


def test_one_impossible_wind_is_quarantined_with_its_reason_and_blocks_nothing() -> None:
    frame = flights(20_000)
    frame.iloc[7, frame.columns.get_loc("wind_speed")] = 1048.36058
    found = judged(frame, between(mostly=0.999))
    assert found.bad == {7: ("wind_speed 1048.36 is not between 0 and 120",)}
    assert found.blocking == ()
    finding = next(f for f in found.findings if f.rows)
    assert finding.passed
    assert "1048.36" in finding.observed
    assert "UA7" in finding.observed


def test_more_bad_rows_than_tolerated_block_the_partition() -> None:
    frame = flights()
    frame.iloc[:30, frame.columns.get_loc("wind_speed")] = -5.0
    found = judged(frame, between(mostly=0.9))
    assert [(f.column, f.rows, f.share) for f in found.blocking] == [("wind_speed", 30, pytest.approx(0.15))]
    assert sorted(found.bad) == list(range(30))


def test_a_warning_quarantines_but_never_blocks_and_info_does_neither() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    assert judged(frame, between(severity="warning")).bad == {3: ("wind_speed 500 is not between 0 and 120",)}
    assert judged(frame, between(severity="warning")).blocking == ()
    told = judged(frame, between(severity="info"))
    assert told.bad == {}
    assert told.blocking == ()
    assert [f.severity for f in failed(told)] == ["info"]


def test_the_rows_are_those_that_plain_pandas_finds() -> None:
    frame = flights(3000)
    frame["wind_speed"] = [math.nan if i % 7 == 0 else float(i % 150) for i in range(3000)]
    frame["distance"] = [float(i * 37 % 1000) for i in range(3000)]
    one_of = Expectation(
        type="expect_column_values_to_be_in_set",
        kwargs={"column": "carrier", "value_set": ["UA", "AA"]},
        severity="warning",
    )
    found = judged(frame, between(mostly=0.5), between("distance", 10, None, "warning"), one_of)
    plain = (
        (frame.wind_speed.notna() & ~frame.wind_speed.between(0, 120)) | (frame.distance < 10) | (frame.carrier == "B6")
    )
    assert list(found.bad) == [i for i, bad in enumerate(plain) if bad]
    both = next(i for i in found.bad if len(found.bad[i]) == 2)
    assert "carrier B6 is not one of UA, AA" in found.bad[both]


def test_an_empty_frame_blocks_though_every_row_check_passes() -> None:
    found = judged(flights(0), between())
    assert [f.expectation for f in found.blocking] == ["expect_table_row_count_to_be_between"]


def test_a_column_that_is_null_throughout_has_not_passed() -> None:
    frame = flights().assign(wind_speed=math.nan)
    found = judged(frame, between())
    assert [(f.column, f.observed) for f in found.blocking] == [
        ("wind_speed", "no value to check: the column is null throughout")
    ]
    assert found.bad == {}
    assert judged(frame, between(severity="warning")).blocking == ()


@pytest.mark.parametrize(
    "frame", [flights().drop(columns="wind_speed"), flights().rename(columns={"wind_speed": "windspeed"})]
)
def test_a_missing_or_renamed_column_blocks_and_is_named(frame: pd.DataFrame) -> None:
    found = judged(frame, between(severity="info"))
    assert {f.column for f in found.blocking} == {"wind_speed"}
    assert all("wind_speed" in f.broke for f in found.blocking)
    assert {f.column for f in found.findings if f.passed} >= {"id", "at", "distance"}


@pytest.mark.parametrize("values", [["1"] * 200, [1.0, "two"] * 100])
def test_a_wrong_type_is_a_check_that_broke(values: list) -> None:
    found = judged(
        flights().assign(wind_speed=pd.Series(values, index=flights().index, dtype="object")),
        between(severity="warning"),
    )
    assert all(f.broke for f in found.blocking)
    assert {f.column for f in found.blocking} == {"wind_speed"}


def test_every_row_of_a_doubled_key_is_found_and_null_keys_are_told_apart() -> None:
    frame = flights()
    frame["id"] = ["UA0", "UA0", None, None, *frame["id"].iloc[4:]]
    found = judged(frame)
    assert found.bad == {
        0: ("id UA0 is not unique",),
        1: ("id UA0 is not unique",),
        2: ("id is null",),
        3: ("id is null",),
    }
    assert {f.expectation for f in found.blocking} == {
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_null",
    }


def test_infinite_numbers_are_quarantined() -> None:
    frame = flights()
    frame.iloc[[4, 5], frame.columns.get_loc("distance")] = [math.inf, -math.inf]
    found = judged(frame)
    assert found.bad == {4: ("distance inf is not finite",), 5: ("distance -inf is not finite",)}
    assert found.blocking == ()


def test_nulls_that_mostly_allows_quarantine_no_row() -> None:
    frame = flights()
    frame.iloc[:10, frame.columns.get_loc("carrier")] = None
    not_null = "expect_column_values_to_not_be_null"
    assert judged(frame, Expectation(type=not_null, kwargs={"column": "carrier", "mostly": 0.9})).bad == {}
    strict = judged(frame, Expectation(type=not_null, kwargs={"column": "carrier"}, severity="warning"))
    assert strict.bad == dict.fromkeys(range(10), ("carrier is null",))


def test_a_missing_time_is_critical_and_times_compare_with_what_yaml_says() -> None:
    frame = flights()
    found = judged(frame, between("at", "2013-05-01T05:00:00Z", None, "warning"))
    assert list(found.bad) == [0, 1, 2, 3, 4]
    frame.loc[1003, "at"] = pd.NaT
    assert [f.column for f in judged(frame).blocking] == ["at"]


def test_pairs_of_columns_and_whole_column_checks_work_too() -> None:
    frame = flights().assign(wind_speed=400.0)
    pair = Expectation(
        type="expect_column_pair_values_a_to_be_greater_than_b",
        severity="warning",
        kwargs={"column_A": "distance", "column_B": "wind_speed"},
    )
    mean = Expectation(type="expect_column_mean_to_be_between", kwargs={"column": "distance", "max_value": 10})
    quantile = Expectation(
        type="expect_column_quantile_values_to_be_between",
        kwargs={"column": "distance", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}},
    )
    frame.iloc[0, frame.columns.get_loc("distance")] = 1.0
    found = judged(frame, pair, mean, quantile)
    assert found.bad == {0: ("distance 1, wind_speed 400 breaks expect_column_pair_values_a_to_be_greater_than_b",)}
    assert {f.expectation for f in found.blocking} == {mean.type, quantile.type}


def test_the_same_check_twice_is_two_findings_and_one_reason() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    found = judged(frame, between(severity="warning"), between(severity="warning"))
    assert found.bad == {3: ("wind_speed 500 is not between 0 and 120",)}


def test_checking_twice_finds_the_same_and_leaves_the_frame_alone() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    before = frame.copy()
    assert judged(frame, between()) == judged(frame, between())
    pd.testing.assert_frame_equal(frame, before)


def test_the_table_shows_what_failed_first() -> None:
    frame = flights().drop(columns="distance")
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    table = rows(judged(frame, between(severity="warning"), between(mostly=0.9, severity="info")))
    assert [(r["column"], r["result"]) for r in table[:3]] == [
        ("distance", "could not be checked"),
        ("wind_speed", "FAILED"),
        ("wind_speed", "passed"),
    ]
    assert [r["rows"] for r in table[1:3]] == [1, 1]
    assert table[1]["share"] == "0.50%"


def kwargs(**given: object) -> Expectation:
    return Expectation(type="expect_column_values_to_be_between", kwargs=given)


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (
            Expectation(type="expect_column_values_to_be_betwen", kwargs={"column": "distance"}),
            "model flights: expectations[0].type: Great Expectations has no 'expect_column_values_to_be_betwen'; "
            "did you mean 'expect_column_values_to_be_between'?",
        ),
        (
            kwargs(column="distance", min_val=1),
            "model flights: expectations[0].kwargs.min_val: expect_column_values_to_be_between has no such argument; "
            "did you mean 'min_value'?",
        ),
        (kwargs(min_value=1), "model flights: expectations[0].kwargs.column: field required"),
        (
            kwargs(column="distance"),
            "model flights: expectations[0].kwargs: expect_column_values_to_be_between: "
            "min_value and max_value cannot both be None",
        ),
        (kwargs(column="distance", min_value=1, mostly=3), "expectations[0].kwargs.mostly"),
    ],
)
def test_a_wrong_expectation_is_refused_with_the_way_out(expectation: Expectation, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_names(config(expectation))
    assert message in str(error.value)
    with pytest.raises(ConfigError):
        check(flights(), (expectation,), "id")


def test_right_expectations_are_accepted() -> None:
    check_names(config(between(), between(mostly=0.9, severity="info")))
    check_names(config())


def test_checks_are_quiet_and_write_no_files(tmp_path) -> None:
    """In a process of its own with its own home: no progress bars, no files, no telemetry, and no import before use."""
    code = """
import sys
from tests.tasks.validation.test_expectations import *
assert "great_expectations" not in sys.modules
judged(flights().assign(wind_speed=500.0), between())
"""
    import os
    from pathlib import Path

    root = str(Path(__file__).parents[2])
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# What the code above relies on. When one of these fails, Great Expectations has changed its mind.


def raw(frame: pd.DataFrame, kind: str, result_format: str, **kwargs: object):
    import great_expectations as gx

    from tasks.validation.expectations import _batch, _build
    from tasks.validation.reasons import Check

    suite = gx.ExpectationSuite(name="raw", expectations=[_build(Check("", kind, "critical", kwargs), 0)])
    return _batch(frame).validate(suite, result_format=result_format).results[0]


def test_great_expectations_passes_what_it_has_not_seen() -> None:
    """Why empty frames and null columns are our business."""
    assert raw(flights(0), "expect_column_values_to_not_be_null", "BASIC", column="id").success
    nothing = raw(
        flights().assign(carrier=None), "expect_column_values_to_be_in_set", "BASIC", column="carrier", value_set=["UA"]
    )
    assert nothing.success
    assert nothing.result["missing_count"] == nothing.result["element_count"] == 200


def test_great_expectations_lists_index_labels_only_when_complete_is_asked() -> None:
    """Why `check` resets the index, and asks in two rounds."""
    frame = flights().assign(wind_speed=[500.0, *[1.0] * 199])
    bounds = {"column": "wind_speed", "max_value": 100}
    assert raw(frame, "expect_column_values_to_be_between", "COMPLETE", **bounds).result["unexpected_index_list"] == [
        1000
    ]
    basic = raw(frame, "expect_column_values_to_be_between", "BASIC", **bounds).result
    assert basic["unexpected_count"] == 1
    assert "unexpected_index_list" not in basic


def test_great_expectations_turns_an_error_into_a_failure() -> None:
    """Why `broke` is read from the exception's record."""
    result = raw(flights(), "expect_column_values_to_be_between", "BASIC", column="nowhere", max_value=1)
    assert not result.success
    assert "nowhere" in str(result.exception_info)
