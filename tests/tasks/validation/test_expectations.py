"""Validation with Great Expectations: findings, quarantined rows, and what blocks a partition."""

import math
import subprocess
import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest

from configs.errors import ConfigError
from configs.expectations import EXPECTATIONS, Expectation
from configs.schema import ModelConfig
from configs.settings import ROOT
from tasks.contracts import Finding, Validation
from tasks.validation.expectations import check_arguments, structural_expectations, validate_frame

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
    """A month of valid rows. Its index does not start at 0, because positions must not be taken from it."""
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


def validated(frame: pd.DataFrame, *expectations: Expectation) -> Validation:
    return validate_frame(frame, structural_expectations(config()) + expectations, "id")


def failed(validation: Validation) -> list[Finding]:
    return [f for f in validation.findings if not f.passed]


def test_valid_rows_pass_every_check() -> None:
    validation = validated(
        flights(),
        between(),
        Expectation(
            type="expect_column_values_to_be_in_set", kwargs={"column": "carrier", "value_set": ["UA", "AA", "B6"]}
        ),
    )
    assert failed(validation) == []
    assert validation.bad == {}
    assert validation.blocking == ()
    assert len(validation.findings) == 8  # number of rows, two not-null, unique, two finite, and the two above


def test_one_impossible_value_is_quarantined_with_its_reason_and_blocks_nothing() -> None:
    frame = flights(20_000)
    frame.iloc[7, frame.columns.get_loc("wind_speed")] = 1048.36058
    validation = validated(frame, between(mostly=0.999))
    assert validation.bad == {7: ("wind_speed 1048.36 is not between 0 and 120",)}
    assert validation.blocking == ()
    finding = next(f for f in validation.findings if f.rows)
    assert finding.passed
    assert "1048.36" in finding.observed
    assert "UA7" in finding.observed


def test_more_bad_rows_than_tolerated_block_the_partition() -> None:
    frame = flights()
    frame.iloc[:30, frame.columns.get_loc("wind_speed")] = -5.0
    validation = validated(frame, between(mostly=0.9))
    (finding,) = validation.blocking
    assert (finding.column, finding.rows) == ("wind_speed", 30)
    assert finding.share == pytest.approx(0.15)
    assert sorted(validation.bad) == list(range(30))


def test_a_warning_quarantines_but_never_blocks_and_info_does_neither() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    assert validated(frame, between(severity="warning")).bad == {3: ("wind_speed 500 is not between 0 and 120",)}
    assert validated(frame, between(severity="warning")).blocking == ()
    validation = validated(frame, between(severity="info"))
    assert validation.bad == {}
    assert validation.blocking == ()
    assert [f.severity for f in failed(validation)] == ["info"]


def test_the_quarantined_rows_equal_those_of_pandas() -> None:
    frame = flights(3000)
    frame["wind_speed"] = [math.nan if i % 7 == 0 else float(i % 150) for i in range(3000)]
    frame["distance"] = [float(i * 37 % 1000) for i in range(3000)]
    one_of = Expectation(
        type="expect_column_values_to_be_in_set",
        kwargs={"column": "carrier", "value_set": ["UA", "AA"]},
        severity="warning",
    )
    validation = validated(frame, between(mostly=0.5), between("distance", 10, None, "warning"), one_of)
    expected = (
        (frame.wind_speed.notna() & ~frame.wind_speed.between(0, 120)) | (frame.distance < 10) | (frame.carrier == "B6")
    )
    assert list(validation.bad) == [i for i, bad in enumerate(expected) if bad]
    both = next(i for i in validation.bad if len(validation.bad[i]) == 2)
    assert "carrier B6 is not one of UA, AA" in validation.bad[both]


def test_an_empty_frame_is_reported_and_does_not_block() -> None:
    validation = validated(flights(0), between())
    assert validation.blocking == ()
    assert [f.expectation for f in failed(validation)] == ["expect_table_row_count_to_be_between"]


def test_a_column_in_which_all_values_are_null_does_not_pass() -> None:
    frame = flights().assign(wind_speed=math.nan)
    validation = validated(frame, between())
    assert [(f.column, f.observed) for f in validation.blocking] == [
        ("wind_speed", "no value to check: all values are null")
    ]
    assert validation.bad == {}
    assert validated(frame, between(severity="warning")).blocking == ()


@pytest.mark.parametrize(
    "frame", [flights().drop(columns="wind_speed"), flights().rename(columns={"wind_speed": "windspeed"})]
)
def test_a_missing_or_renamed_column_blocks_and_is_in_the_finding(frame: pd.DataFrame) -> None:
    validation = validated(frame, between(severity="info"))
    assert {f.column for f in validation.blocking} == {"wind_speed"}
    assert all("wind_speed" in f.broke for f in validation.blocking)
    assert {f.column for f in validation.findings if f.passed} >= {"id", "at", "distance"}


@pytest.mark.parametrize("values", [["1"] * 200, [1.0, "two"] * 100])
def test_a_check_of_a_wrong_type_raises_an_error_and_blocks(values: list) -> None:
    validation = validated(
        flights().assign(wind_speed=pd.Series(values, index=flights().index, dtype="object")),
        between(severity="warning"),
    )
    assert all(f.broke for f in validation.blocking)
    assert {f.column for f in validation.blocking} == {"wind_speed"}


def test_duplicate_keys_and_null_keys_have_different_reasons() -> None:
    frame = flights()
    frame["id"] = ["UA0", "UA0", None, None, *frame["id"].iloc[4:]]
    validation = validated(frame)
    assert validation.bad == {
        0: ("id UA0 is not unique",),
        1: ("id UA0 is not unique",),
        2: ("id is null",),
        3: ("id is null",),
    }
    assert {f.expectation for f in validation.blocking} == {
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_null",
    }


def test_infinite_numbers_are_quarantined() -> None:
    frame = flights()
    frame.iloc[[4, 5], frame.columns.get_loc("distance")] = [math.inf, -math.inf]
    validation = validated(frame)
    assert validation.bad == {4: ("distance inf is not finite",), 5: ("distance -inf is not finite",)}
    assert validation.blocking == ()


@pytest.mark.parametrize("value", [1e39, -1e39, sys.float_info.max])
def test_numbers_that_float32_cannot_hold_are_quarantined_with_column_and_value(value) -> None:
    frame = flights()
    largest = float(np.finfo("float32").max)
    frame.iloc[[4, 5, 6], frame.columns.get_loc("distance")] = [value, largest, -largest]
    validation = validated(frame)
    assert validation.bad == {4: (f"distance {value:.6g} is larger than float32 can hold (3.40282e+38)",)}


def test_nulls_tolerated_by_mostly_are_not_quarantined() -> None:
    frame = flights()
    frame.iloc[:10, frame.columns.get_loc("carrier")] = None
    not_null = "expect_column_values_to_not_be_null"
    assert validated(frame, Expectation(type=not_null, kwargs={"column": "carrier", "mostly": 0.9})).bad == {}
    strict = validated(frame, Expectation(type=not_null, kwargs={"column": "carrier"}, severity="warning"))
    assert strict.bad == dict.fromkeys(range(10), ("carrier is null",))


def test_a_missing_time_is_critical_and_times_are_compared_with_the_bounds_of_yaml() -> None:
    frame = flights()
    validation = validated(frame, between("at", "2013-05-01T05:00:00Z", None, "warning"))
    assert list(validation.bad) == [0, 1, 2, 3, 4]
    frame.loc[1003, "at"] = pd.NaT
    assert [f.column for f in validated(frame).blocking] == ["at"]


def test_checks_of_column_pairs_and_whole_columns() -> None:
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
    validation = validated(frame, pair, mean, quantile)
    assert validation.bad == {0: ("distance 1, wind_speed 400 fails expect_column_pair_values_a_to_be_greater_than_b",)}
    assert {f.expectation for f in validation.blocking} == {mean.type, quantile.type}


def test_the_same_check_twice_gives_two_findings_and_one_reason() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    validation = validated(frame, between(severity="warning"), between(severity="warning"))
    assert validation.bad == {3: ("wind_speed 500 is not between 0 and 120",)}


def test_validating_twice_gives_the_same_result_and_does_not_change_the_frame() -> None:
    frame = flights()
    frame.iloc[3, frame.columns.get_loc("wind_speed")] = 500.0
    before = frame.copy()
    assert validated(frame, between()) == validated(frame, between())
    pd.testing.assert_frame_equal(frame, before)


def kwargs(**arguments: object) -> Expectation:
    return Expectation(type="expect_column_values_to_be_between", kwargs=arguments)


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
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
def test_the_error_for_a_wrong_expectation_has_a_suggestion(expectation: Expectation, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_arguments(config(expectation))
    assert message in str(error.value)
    with pytest.raises(ConfigError):
        validate_frame(flights(), (expectation,), "id")


def test_the_known_expectations_are_those_of_great_expectations() -> None:
    import great_expectations.expectations.core  # noqa: F401  (registers them)
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    assert {*EXPECTATIONS} == {n for n in list_registered_expectation_implementations() if n.startswith("expect_")}


@pytest.mark.parametrize("values", [["2013-05-01", "2013-05-02"], [date(2013, 5, 1)], [DAY.to_pydatetime()]])
def test_a_set_of_times_may_be_text_or_dates(values) -> None:
    frame = flights(3).assign(at=DAY)
    in_set = Expectation(type="expect_column_values_to_be_in_set", columns=("at",), kwargs={"value_set": values})
    assert failed(validated(frame, in_set)) == []
    frame.iloc[1, frame.columns.get_loc("at")] = DAY + pd.Timedelta("3D")
    assert list(validated(frame, in_set).bad) == [1]


def test_valid_expectations_are_accepted() -> None:
    check_arguments(config(between(), between(mostly=0.9, severity="info")))
    check_arguments(config())


@pytest.mark.long
def test_validation_prints_nothing_and_writes_no_files(tmp_path) -> None:
    """In a separate process with its own home: no progress bars, no files, no telemetry, and no import before use."""
    code = """
import sys
from tests.tasks.validation.test_expectations import *
assert "great_expectations" not in sys.modules
validated(flights().assign(wind_speed=500.0), between())
"""
    import os

    root = str(ROOT)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": root}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# Behaviour of Great Expectations that the code relies on. If one of these fails, a new version has changed it.


def raw(frame: pd.DataFrame, kind: str, result_format: str, **kwargs: object):
    import great_expectations as gx

    from tasks.validation.expectations import _batch, _build
    from tasks.validation.reasons import Check

    suite = gx.ExpectationSuite(name="raw", expectations=[_build(Check("", kind, "critical", kwargs), 0)])
    return _batch(frame).validate(suite, result_format=result_format).results[0]


def test_great_expectations_passes_checks_without_values() -> None:
    """Empty frames and columns of nulls must therefore be handled here."""
    assert raw(flights(0), "expect_column_values_to_not_be_null", "BASIC", column="id").success
    result = raw(
        flights().assign(carrier=None), "expect_column_values_to_be_in_set", "BASIC", column="carrier", value_set=["UA"]
    )
    assert result.success
    assert result.result["missing_count"] == result.result["element_count"] == 200


def test_great_expectations_lists_index_labels_only_in_the_complete_format() -> None:
    """`validate_frame` therefore resets the index, and validates in two rounds."""
    frame = flights().assign(wind_speed=[500.0, *[1.0] * 199])
    bounds = {"column": "wind_speed", "max_value": 100}
    assert raw(frame, "expect_column_values_to_be_between", "COMPLETE", **bounds).result["unexpected_index_list"] == [
        1000
    ]
    basic = raw(frame, "expect_column_values_to_be_between", "BASIC", **bounds).result
    assert basic["unexpected_count"] == 1
    assert "unexpected_index_list" not in basic


def test_great_expectations_turns_an_error_into_a_failure() -> None:
    """`broke` is therefore read from the result's exception_info."""
    result = raw(flights(), "expect_column_values_to_be_between", "BASIC", column="nowhere", max_value=1)
    assert not result.success
    assert "nowhere" in str(result.exception_info)
