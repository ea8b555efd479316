"""Columns that follow from the time of the row are recognised, and measured quantities with a trend or a change are not."""

import numpy as np
import pandas as pd
import pytest

from configs.base import Every
from configs.load import load_model
from tasks.drift.calendar_features import calendar_columns
from tasks.drift.sketches import Sketch, sketch, union
from tasks.source.rows import read_source
from tasks.storage.blocks import block_categories
from tasks.storage.partitions import between

ZONE = "America/New_York"
TEXT = ("month name", "tariff", "day text")
CALENDAR = {"month", "month name", "week", "day of year", "counter", "epoch", "yyyymm", "utc day", "sine", "day text"}


def rows(start: str, end: str) -> pd.DataFrame:
    """Half-hourly rows with calendar features and measured quantities. Days of the same date have the same values."""
    time = pd.date_range(start, end, freq="30min", inclusive="left", tz=ZONE)
    rng, n, utc = np.random.default_rng(time[0].dayofyear), len(time), time.tz_convert("UTC")
    day = (time.tz_localize(None).normalize() - pd.Timestamp("2012-01-01")).days.to_numpy()
    noise = np.random.default_rng(0).normal(size=1000)
    price_index = 100 * np.exp(0.0002 * day)
    return pd.DataFrame(
        {
            "time": time,
            "month": time.month,
            "month name": time.strftime("%b"),
            "week": time.isocalendar().week.to_numpy(),
            "day of year": time.dayofyear,
            "counter": (utc - pd.Timestamp("2012-01-01", tz="UTC")) // pd.Timedelta("30min"),
            "epoch": (utc - pd.Timestamp(0, tz="UTC")).total_seconds(),
            "yyyymm": time.year * 100 + time.month,
            "utc day": utc.dayofyear,
            "sine": np.sin(2 * np.pi * time.month / 12),
            "day text": time.strftime("%Y-%m-%d"),
            # the same in each partition
            "hour": time.hour,
            "weekday": time.dayofweek,
            # measured
            "temperature": 12 - 12 * np.cos(2 * np.pi * (time.dayofyear - 15) / 365) + rng.normal(0, 3, n),
            "daily temperature": 12 - 12 * np.cos(2 * np.pi * (day - 15) / 365) + noise[day],
            "price": price_index * np.exp(rng.normal(0, 0.02, n)),
            "daily price index": price_index,
            "monthly price index": np.round(100 + time.month + 0.1 * noise[time.month], 1),
            "random walk": np.cumsum(noise + 0.1)[day],
            "rule of April": (time.month >= 4).astype(int),
            "tariff": np.where(time.month >= 4, "2", "1"),
            "constant": 5.0,
        }
    )


def sketched(frame: pd.DataFrame, block: Every) -> Sketch:
    names = [name for name in frame if name != "time"]
    return sketch(frame, block_categories(frame["time"], block, ZONE), names, TEXT)


def recognised(months: list[str], current: tuple[str, str], partition: Every, block: Every = "D") -> set[str]:
    """The recognised columns of a partition against the union of the sketches of these months."""
    ends = [f"{pd.Timestamp(m) + pd.offsets.MonthBegin():%Y-%m-%d}" for m in months]
    reference = union([sketched(rows(f"{m}-01", end), block) for m, end in zip(months, ends, strict=True)])
    return set(calendar_columns(reference, sketched(rows(*current), block), partition, block, ZONE))


@pytest.mark.parametrize(
    ("current", "partition", "block"),
    [
        (("2013-04-01", "2013-05-01"), "M", "D"),
        (("2013-06-01", "2013-07-01"), "M", "D"),
        (("2013-04-01", "2013-04-08"), "W", "D"),
        (("2013-04-02", "2013-04-03"), "D", "D"),
        (("2013-04-02", "2013-04-03"), "D", "H"),
    ],
    ids=["month", "a later month", "week", "day", "day by hours"],
)
def test_calendar_features_are_recognised_and_nothing_else_for_each_length_of_a_partition(current, partition, block):
    assert recognised(["2013-01", "2013-02", "2013-03"], current, partition, block) == CALENDAR


def test_a_few_days_are_too_few_to_tell_a_weekday_from_a_counter():
    reference = sketched(rows("2013-03-04", "2013-03-08"), "D")
    assert calendar_columns(reference, sketched(rows("2013-03-08", "2013-03-09"), "D"), "D", "D", ZONE) == {}


@pytest.mark.parametrize("broken", [np.nan, 0, 13], ids=["null", "zero", "another month"])
def test_a_calendar_feature_that_breaks_is_tested_like_any_other_column(broken):
    reference, current = rows("2013-01-01", "2013-04-01"), rows("2013-04-01", "2013-05-01")
    current["month"] = np.where(current["time"].dt.day > 20, broken, current["month"])
    names = calendar_columns(sketched(reference, "D"), sketched(current, "D"), "M", "D", ZONE)
    assert "month" not in names
    assert "month name" in names


@pytest.mark.parametrize(
    ("model", "first", "last"), [("flights", "2013-01", "2013-04"), ("electricity", "1996-W30", "1996-W40")]
)
def test_no_feature_of_the_bundled_data_is_a_calendar_feature(model, first, last):
    loaded = load_model(model)
    config = loaded.config
    parts = []
    for ref in between(config, first, last):
        frame = read_source(loaded, ref).to_pandas()
        blocks = block_categories(frame[config.time], "D", config.partition.timezone)
        parts.append(sketch(frame, blocks, config.features.all, config.features.categorical))
    every, zone = config.partition.every, config.partition.timezone
    assert calendar_columns(union(parts[:-1]), parts[-1], every, "D", zone) == {}
