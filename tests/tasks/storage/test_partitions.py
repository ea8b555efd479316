"""Partitions equal pandas' periods, in the model's time zone."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from configs.schema import ModelConfig
from tasks.storage.partitions import (
    NoPartition,
    between,
    containing,
    floor,
    format_key,
    next_start,
    ordinal,
    parse_key,
    partition,
)

PANDAS = {"M": "M", "W": "W-SUN", "D": "D", "H": "h"}


def config(every: str, zone: str = "UTC", grace: str = "0h") -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "m",
            "description": "",
            "partition": {"every": every, "timezone": zone, "grace": grace},
            "source": {"tables": {"t": {"path": "x.parquet"}}},
            "key": "id",
            "time": "at",
            "target": {"column": "y", "delay": "1D"},
            "features": {"numeric": ["x"]},
            "training": {"window": {"holdout": "1D"}, "candidates": {"a": {"estimator": "xgboost"}}},
            "gate": {"floor": {"log_loss": 1}},
        }
    )


@pytest.mark.parametrize("every", list(PANDAS))
def test_starts_equal_those_of_pandas_periods(every):
    for moment in pd.date_range("2012-12-25 00:30", "2013-03-05", freq="7h13min"):
        period = moment.to_period(PANDAS[every])
        start = parse_key(containing(config(every), moment.tz_localize("UTC").to_pydatetime()).key, every)
        assert start == period.start_time.to_pydatetime()
        assert next_start(start, every) == (period + 1).start_time.to_pydatetime()


@pytest.mark.parametrize("every", list(PANDAS))
def test_ordinals_count_periods_as_pandas_does(every):
    start = parse_key(format_key(floor(datetime(1998, 12, 30, 22), every), every), every)  # noqa: DTZ001  (local time)
    pandas_frequency = {"M": "M", "W": "W-SUN", "D": "D", "H": "h"}[every]
    base = ordinal(format_key(start, every), every) - pd.Period(start, pandas_frequency).ordinal
    for _ in range(400):
        start = next_start(start, every)
        assert ordinal(format_key(start, every), every) - pd.Period(start, pandas_frequency).ordinal == base
    assert base == (-1 if every == "W" else 0), "pandas counts weeks from the one before"


@pytest.mark.parametrize("every", ["M", "W", "D", "H"])
def test_a_key_survives_a_round_trip(every):
    at = datetime(2012, 12, 30, 23, tzinfo=UTC)
    key = format_key(parse_key(containing(config(every), at).key, every), every)
    assert partition(config(every), key).key == key


def test_a_month_with_a_daylight_saving_change_starts_and_ends_at_local_midnight():
    march = partition(config("M", "America/New_York"), "2013-03")
    zone = ZoneInfo("America/New_York")
    assert march.start == datetime(2013, 3, 1, tzinfo=zone)
    assert march.end == datetime(2013, 4, 1, tzinfo=zone)
    assert march.end - march.start == timedelta(days=31) - timedelta(hours=1)


@pytest.mark.parametrize(
    ("grace", "complete", "matured"), [("0h", 0, 24), ("6h", 6, 24), ("1D", 24, 24), ("2D", 48, 48)]
)
def test_a_partition_is_complete_after_its_grace_and_matured_after_the_label_delay(grace, complete, matured):
    ref = partition(config("M", grace=grace), "2013-03")
    assert ref.complete == ref.end + timedelta(hours=complete)
    assert ref.matured == ref.end + timedelta(hours=matured), "not before it is complete"
    assert ref.as_of == ref.complete
    as_of = datetime(2013, 6, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    chosen = partition(config("M", grace=grace), "2013-03", as_of)
    assert chosen.as_of == as_of
    assert chosen == ref.at(as_of.astimezone(UTC))
    assert ref.at(as_of).complete == ref.complete


def test_a_range_includes_both_ends_and_has_no_gap():
    refs = list(between(config("M"), "2012-11", "2013-02"))
    assert [r.key for r in refs] == ["2012-11", "2012-12", "2013-01", "2013-02"]
    assert all(a.end == b.start for a, b in pairwise(refs))


@pytest.mark.parametrize("key", ["2013-13", "2013-5", "May", "", "2013-05-01", "../2013-05"])
def test_a_key_of_another_format_is_refused(key):
    with pytest.raises(NoPartition, match="is not a partition"):
        partition(config("M"), key)


def test_a_range_that_ends_before_it_starts_is_refused():
    with pytest.raises(NoPartition, match="swap them"):
        list(between(config("M"), "2013-03", "2013-01"))


def test_an_as_of_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        partition(config("M"), "2013-03", datetime(2013, 5, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "keys",
    [
        ("M", "9999-12", "0001-01", "0000-01", "2251-01"),
        ("W", "9999-W52", "0001-W01", "0000-W01", "1699-W52"),
        ("D", "9999-12-31", "0001-01-01", "0000-01-01", "1699-12-31"),
        ("H", "9999-12-31T23", "0001-01-01T00", "0000-01-01T00", "2251-01-01T00"),
    ],
    ids=lambda keys: keys[0],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"])
def test_a_partition_outside_of_the_years_of_timestamps_is_refused(keys, zone):
    every, *outside = keys
    for key in outside:
        with pytest.raises(NoPartition, match=f"'{key}' is not a partition: its year must be within 1700 to 2250"):
            partition(config(every, zone if every != "H" else "UTC"), key)
        with pytest.raises(NoPartition):
            list(between(config(every), key, key))


@pytest.mark.parametrize(
    ("every", "first", "last"),
    [
        ("M", "1700-01", "2250-12"),
        ("W", "1700-W01", "2250-W52"),
        ("D", "1700-01-01", "2250-12-31"),
        ("H", "1700-01-01T00", "2250-12-31T23"),
    ],
)
def test_the_first_and_the_last_year_have_partitions(every, first, last):
    for key in (first, last):
        ref = partition(config(every, "Asia/Tokyo" if every != "H" else "UTC"), key)
        assert ref.start < ref.end <= ref.complete < ref.matured
        assert [r.key for r in between(config(every), key, key)] == [key]


def test_digits_of_other_scripts_are_no_key():
    with pytest.raises(NoPartition, match="keys look like"):
        partition(config("W"), "\u0662\u0660\u0661\u0663-W\u0662\u0660")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59+00:00"])  # fmt: skip
def test_an_as_of_at_the_end_of_time_is_refused(moment):
    with pytest.raises(ValueError, match="is not within the years 1700 to 2250"):
        partition(config("M"), "2013-03", datetime.fromisoformat(moment))
