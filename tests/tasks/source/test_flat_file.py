"""A source that is one flat file: it needs no SQL, and only partitions whose rows have changed become stale."""

import re

import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import load_model
from tasks.contracts import Stage
from tasks.errors import LeakFound, MissingSource, SourceMismatch
from tasks.resources import Resources, open_resources
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.rows import read_source
from tasks.steps.collect import COLLECT, join_outcomes, read_outcomes
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance, freshness
from tasks.steps.validate import VALIDATE
from tests.conftest import parcels

FIRST, SECOND, LAST = "2024-03-01", "2024-03-02", "2024-03-04"


@pytest.fixture
def file(tiny):
    path = tiny / "data" / "flat.parquet"
    pd.concat([parcels(day) for day in (0, 1, 3)]).to_parquet(path, index=False)  # no rows on the third day
    model = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(model.read_text())
    config["source"] = {"file": {"path": str(path)}}
    model.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def res(file) -> Resources:
    return open_resources("tiny")


def test_rows_and_outcomes_are_read_without_sql_and_a_null_outcome_is_pending(res):
    assert available_partitions(res.model) == [FIRST, SECOND, "2024-03-03", LAST]
    ref = res.ref(FIRST)
    assert advance(INGEST, ref, res).rows == 150
    labels = advance(COLLECT, ref, res)
    assert (labels.data["mature"], labels.data["never"], labels.data["pending"]) == (147, 0, 3)
    assert advance(INGEST, res.ref("2024-03-03"), res).rows == 0
    with pytest.raises(MissingSource, match=r"flat\.parquet has no rows for it"):
        fingerprint(res.model, res.ref("2024-03-05"))


def test_added_or_corrected_rows_make_only_their_partitions_stale(file, res):
    for key in (FIRST, SECOND):
        advance(INGEST, res.ref(key), res)
    rows = pd.concat([pd.read_parquet(file), parcels(4)])
    rows.loc[rows["parcel"] == "01-007", "weight"] = 99.0
    rows.to_parquet(file, index=False)
    assert [freshness(INGEST, res.ref(key), res).state for key in (FIRST, SECOND)] == ["fresh", "stale"]
    assert available_partitions(res.model)[-1] == "2024-03-05"
    assert advance(INGEST, res.ref(SECOND), res).rows == 150
    changed = res.lake.read(Stage.RAW, SECOND).set_index("parcel")["weight"]
    assert changed["01-007"] == 99.0


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01T10:00:00+05:00", "2024-03-01T05:00:00Z"),
        ("2024-03-01T10:00:00Z", "2024-03-01T10:00:00Z"),
        ("2024-03-01 10:00:00", "2024-03-01T09:00:00Z"),
        ("2024-03-01", "2024-02-29T23:00:00Z"),
    ],
)
def test_a_time_as_text_keeps_its_offset_or_is_local_time(file, form, text, expected):
    model = file.parents[1] / "configs" / "tiny" / "model.yaml"
    path = file.with_suffix(f".{form}")
    config = yaml.safe_load(model.read_text()) | {"source": {"file": {"path": str(path)}}}
    model.write_text(yaml.safe_dump(config | {"partition": {"every": "D", "timezone": "Europe/Berlin"}}))
    rows = parcels(0).head(1).assign(sent=text)
    rows.to_parquet(path, index=False) if form == "parquet" else rows.to_csv(path, index=False)
    res = open_resources("tiny")
    assert list(read_source(res.model, res.ref(FIRST)).to_pandas()["sent"]) == [pd.Timestamp(expected)]


def test_an_added_row_of_a_csv_does_not_change_the_type_of_a_category(file):
    model = file.parents[1] / "configs" / "tiny" / "model.yaml"
    path = file.with_suffix(".csv")
    model.write_text(yaml.safe_dump(yaml.safe_load(model.read_text()) | {"source": {"file": {"path": str(path)}}}))
    rows = parcels(0).assign(city=1)
    rows.to_csv(path, index=False)
    res = open_resources("tiny")
    before = fingerprint(res.model, res.ref(FIRST))
    pd.concat([rows, parcels(1).head(1).assign(city=1.5)]).astype({"city": str}).replace("1.0", "1").to_csv(
        path, index=False
    )
    assert fingerprint(res.model, res.ref(FIRST)) == before
    assert set(read_source(res.model, res.ref(FIRST)).to_pandas()["city"]) == {"1"}


def test_rows_without_a_time_block_the_partition(file, res):
    rows = pd.read_parquet(file)
    rows.loc[rows["parcel"].isin(["01-007", "03-004"]), "sent"] = pd.NaT
    rows.to_parquet(file, index=False)
    record = advance(INGEST, res.ref(FIRST), res)
    assert record.status == "blocked"
    assert re.search(r"rows without 'sent' .*: 2 in .*flat\.parquet, such as .* parcel '01-007'", record.reason)


def test_the_error_for_a_missing_column_lists_the_columns_that_exist(file, res):
    pd.read_parquet(file).drop(columns="distance").to_parquet(file, index=False)
    with pytest.raises(SourceMismatch, match=r"flat\.parquet, which now has parcel VARCHAR.* no column 'distance'"):
        fingerprint(res.model, res.ref(FIRST))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"file": {"path": "x.csv"}, "tables": {"a": {"path": "b.csv"}}}, "give either `file` or `tables`"),
        ({}, "give either `file` or `tables`"),
        (
            {"file": {"path": "x.csv"}, "sql": "mine.sql"},
            "`sql`, `labels` and `lookback` can only be used with `tables`",
        ),
    ],
)
def test_a_file_and_tables_exclude_each_other(tiny, source, message):
    model = tiny / "configs" / "tiny" / "model.yaml"
    model.write_text(yaml.safe_dump(yaml.safe_load(model.read_text()) | {"source": source}))
    with pytest.raises(ConfigError, match=message):
        load_model("tiny")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_daily_file_whose_key_is_its_time(tiny, form):
    """One row a day: the date identifies the row, and is the time of the prediction."""
    days = pd.date_range("2024-03-01", periods=90, freq="D")
    frame = pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "weight": range(90), "late": [0, 1] * 45})
    path = tiny / "data" / f"daily.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.assign(day=days).to_parquet(path, index=False)
    model = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(model.read_text()) | {"key": "day", "time": "day", "expectations": []}
    config |= {"partition": {"every": "M", "timezone": "Europe/Berlin"}, "features": {"numeric": ["weight"]}}
    config["source"] = {"file": {"path": str(path)}}
    model.write_text(yaml.safe_dump(config))
    res = open_resources("tiny")
    assert available_partitions(res.model) == ["2024-03", "2024-04", "2024-05"]
    ref = res.ref("2024-04")
    assert [advance(step, ref, res).rows for step in (INGEST, VALIDATE, COLLECT)] == [30, 30, 30]
    rows = res.lake.read(Stage.VALID, "2024-04")
    assert list(rows[res.config.key]) == list(frame["day"][31:61])
    assert list(rows["day"]) == list(days[31:61].tz_localize("Europe/Berlin").tz_convert("UTC"))
    labelled = join_outcomes(rows, read_outcomes(res, "2024-04", ref.as_of), res.config)
    assert list(labelled["late"]) == list(frame["late"][31:61])


def test_a_time_that_is_the_key_is_unique_within_a_day_too(tiny):
    """Half-hours of the night in which the hour from two to three occurs twice in Berlin."""
    times = pd.date_range("2024-10-26 22:00", periods=20, freq="30min", tz="UTC")
    path = tiny / "data" / "half_hours.parquet"
    pd.DataFrame({"at": times, "weight": range(20), "late": 0.0}).to_parquet(path, index=False)
    model = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(model.read_text()) | {"key": "at", "time": "at", "expectations": []}
    config |= {"partition": {"every": "D", "timezone": "Europe/Berlin"}, "features": {"numeric": ["weight"]}}
    config["source"] = {"file": {"path": str(path)}}
    model.write_text(yaml.safe_dump(config))
    res = open_resources("tiny")
    advance(INGEST, res.ref("2024-10-27"), res)
    assert advance(VALIDATE, res.ref("2024-10-27"), res).data["quarantined"] == 0
    keys = res.lake.read(Stage.VALID, "2024-10-27")[res.config.key]
    assert (keys[0], keys[1], keys.nunique()) == ("2024-10-27", "2024-10-26 22:30:00+00", 20)


@pytest.mark.parametrize(
    "declared",
    [{"outcomes": ["distance"], "outcomes_known_at": "sent + INTERVAL 1 DAY"}, {"known_at": "sent + INTERVAL 1 DAY"}],
)
def test_a_leak_names_the_file_plain_numbers_and_what_to_do_about_a_file(file, declared):
    path = file.parents[1] / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["source"]["file"] |= declared
    path.write_text(yaml.safe_dump(config))
    model = open_resources("tiny")
    with pytest.raises(LeakFound) as caught:
        advance(INGEST, model.ref(FIRST), model)
    text = str(caught.value)
    assert text.startswith(f"{file}: feature ")
    assert "np." not in text
    assert re.search(r"\(-?\d+\.\d+ becomes nan\)", text)
    assert "correct `known_at`, `outcomes` and `outcomes_known_at` of the file" in text
    assert "source.sql" not in text
