"""Times that are text: ISO 8601 or the declared format, and never a guess."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import Model, load_model
from tasks.errors import SourceMismatch
from tasks.source.extent import available_partitions
from tasks.source.rows import read_source
from tasks.storage.partitions import partition
from tests.conftest import parcels
from tests.tasks.source.test_files import flat_model, write

DAY = "2024-03-01"
ZONE = {"every": "D", "timezone": "America/New_York"}


def model_with(tiny: Path, times: list[str], form: str = "csv", **changes: object) -> Model:
    """The tiny model with one flat file of a row for each time, in New York."""
    path = tiny / "data" / f"flat.{form}"
    write(parcels(0).head(len(times)).assign(sent=times), path)
    model = flat_model(tiny, str(path), every=None, partition=ZONE)
    if changes:
        file = tiny / "configs" / "tiny" / "model.yaml"
        content = yaml.safe_load(file.read_text())
        content["source"]["file"] |= changes
        file.write_text(yaml.safe_dump(content))
        model = load_model("tiny")
    return model


def times_of(model: Model) -> list[pd.Timestamp]:
    keys = available_partitions(model)
    return [t for key in keys for t in read_source(model, partition(model.config, key)).to_pandas()["sent"]]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01 10:00:00 UTC", "2024-03-01T10:00Z"),  # as BigQuery exports it
        ("2024-03-01T10:00:00.5Z", "2024-03-01T10:00:00.5Z"),
        ("2024-03-01T10:00+0530", "2024-03-01T04:30Z"),
        ("2024-03-01T10:00:00-05", "2024-03-01T15:00Z"),
        ("2024-03-01T10:00", "2024-03-01T15:00Z"),
        (" 2024-03-01 ", "2024-03-01T05:00Z"),
        ("2024-03-01T10:00+14:00", "2024-02-29T20:00Z"),
        ("2024-03-10T02:30", "2024-03-10T07:30Z"),  # does not exist: 03:30 in summer time
        ("2024-11-03T01:30", "2024-11-03T06:30Z"),  # exists twice: the second, in winter time
    ],
)
def test_iso_8601_is_read_with_its_zone_or_as_local_time(tiny, form, text, expected):
    assert times_of(model_with(tiny, [text], form)) == [pd.Timestamp(expected)]


def test_offsets_that_differ_within_a_column_are_each_read(tiny):
    texts = ["2024-03-01T10:00+05:00", "2024-03-01T10:00Z", "2024-03-01T10:00"]
    hours = [time.hour for time in times_of(model_with(tiny, texts))]
    assert hours == [5, 10, 15]


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize(
    "text",
    ["2024-03-01 10:00:00 Europe/Berlin", "2024-03-01 10:00:00 EST", "01/02/2024", "2024/03/01", "1709251200", "2024-02-30", "now",
     "2024-03-01T10:00+99:99", "2024-03-01T10:00-16", "2024-03-01T10:00+05:60"],
)  # fmt: skip
def test_other_text_is_refused_by_its_value_and_key(tiny, form, text):
    model = model_with(tiny, ["2024-03-01T10:00Z", text], form)
    assert available_partitions(model) == [DAY]
    with pytest.raises(
        SourceMismatch, match=rf"'sent' is not a time .*parcel '00-001', where it is '{re.escape(text)}'; .*time_format"
    ):
        read_source(model, partition(model.config, DAY))


def test_a_file_in_which_no_time_can_be_read_is_an_error_and_not_empty(tiny):
    with pytest.raises(SourceMismatch, match=r"2 in .*flat\.csv, .*'01/02/2024'"):
        available_partitions(model_with(tiny, ["01/02/2024", "02/02/2024"]))


@pytest.mark.parametrize(
    ("time_format", "text", "expected"),
    [
        ("%d/%m/%Y %H:%M", "01/02/2024 10:00", "2024-02-01T15:00Z"),
        ("%m/%d/%Y", "01/02/2024", "2024-01-02T05:00Z"),
        ("%d.%m.%Y %H:%M %z", "01.02.2024 10:00 +0200", "2024-02-01T08:00Z"),
        ("%Y-%m-%d %H:%M %Z", "2024-02-01 10:00 Europe/Berlin", "2024-02-01T09:00Z"),
    ],
)
def test_a_declared_format_is_used_and_others_are_refused(tiny, time_format, text, expected):
    assert times_of(model_with(tiny, [text], time_format=time_format)) == [pd.Timestamp(expected)]
    model = model_with(tiny, [text, "2024-13-01"], time_format=time_format)
    with pytest.raises(SourceMismatch, match=r"'2024-13-01'; write it in the format"):
        read_source(model, partition(model.config, available_partitions(model)[0]))


def test_a_format_without_a_year_is_refused_when_it_is_loaded(tiny):
    with pytest.raises(ConfigError, match=r"time_format.*has no year"):
        model_with(tiny, ["01/02"], time_format="%d/%m")


@pytest.mark.parametrize(
    ("times", "named"),
    [
        (["01/02/2024"] * 150, "01/02/2024"),
        (["2024-03-01 00:00:00 UTC"] * 150, "2024-03-01 00:00:00 UTC"),
        (["2024-03-01 00:00:00"] * 149 + ["2024-03-01 00:00:00+05"], "2024-03-01 00:00:00"),
    ],
    ids=["day or month first", "name of a zone", "with and without a zone"],
)
def test_a_csv_table_whose_times_would_be_guessed_is_refused_by_the_value(tiny, times, named):
    for path in (tiny / "data").glob("*.parquet"):
        path.unlink()
    write(parcels(0).assign(sent=times), tiny / "data" / "parcels-2024-03-01.csv")
    file = tiny / "configs" / "tiny" / "model.yaml"
    file.write_text(file.read_text().replace(".parquet", ".csv"))
    with pytest.raises(SourceMismatch, match=rf"03-01\.csv: line \d+: column 'sent': '{named}"):
        read_source(load_model("tiny"), partition(load_model("tiny").config, DAY))


def test_a_csv_table_is_read_with_its_declared_format(tiny):
    rows = parcels(0)
    write(rows.assign(sent=rows["sent"].dt.strftime("%d/%m/%Y %H:%M UTC")), tiny / "data" / "parcels-2024-03-01.csv")
    file = tiny / "configs" / "tiny" / "model.yaml"
    file.write_text(
        file.read_text()
        .replace(".parquet", ".csv")
        .replace("every: D\n", "every: D\n      time_format: '%d/%m/%Y %H:%M %Z'\n")
    )
    model = load_model("tiny")
    assert list(read_source(model, partition(model.config, DAY)).to_pandas()["sent"]) == list(rows["sent"])
