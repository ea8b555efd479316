"""A Delta table keeps the contracts of a table of files. Its fingerprint of a range is that of the data files that can have its rows."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake

from configs.errors import ConfigError
from configs.load import Model, load_model
from tasks.errors import MissingSource, SourceMismatch, SourceRefused, SourceUnavailable
from tasks.resources import open_resources
from tasks.source import delta
from tasks.source.arrivals import arrivals
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.leaks import check_leaks
from tasks.source.rows import read_labels, read_source
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.storage.lake import table_digest
from tasks.storage.partitions import partition
from tests.buckets import key_variables, new_bucket
from tests.conftest import DAYS, parcels

KEYS = ["2024-03-01", "2024-03-02", "2024-03-15"]


def delta_model(tiny: Path, address: str, **keys: Any) -> Model:
    """Change the tiny model to a Delta table. Keys that are None are left out."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(path.read_text())
    table = {
        "delta": address,
        "time": "sent",
        "outcomes": ["late", "arrived"],
        "outcomes_known_at": "sent + INTERVAL 1 DAY",
    }
    content["source"]["tables"]["parcels"] = {k: v for k, v in (table | keys).items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return load_model("tiny")


def write(address: str, frame: pd.DataFrame, **options: Any) -> None:
    write_deltalake(address, pa.Table.from_pandas(frame, preserve_index=False), **({"mode": "append"} | options))


def digests(model: Model, read: Any = read_source) -> list[str]:
    return [table_digest(read(model, partition(model.config, key))) for key in KEYS]


def prints(model: Model) -> list[str]:
    return [fingerprint(model, partition(model.config, key)) for key in KEYS]


@pytest.fixture(autouse=True)
def each_look_reads_the_log(monkeypatch) -> None:
    monkeypatch.setattr(delta, "READ_SECONDS", 0)


@pytest.fixture
def table(tiny, tmp_path) -> str:
    """The tiny model's rows, a commit for each day."""
    address = str(tmp_path / "delta" / "parcels")
    for day in range(DAYS):
        write(address, parcels(day))
    return address


def test_rows_and_outcomes_are_those_of_the_files(tiny, table):
    files = load_model("tiny")
    expected = available_partitions(files), digests(files), digests(files, read_labels)
    model = delta_model(tiny, table)
    assert (available_partitions(model), digests(model), digests(model, read_labels)) == expected
    assert check_leaks(model, partition(model.config, KEYS[0]))
    with pytest.raises(MissingSource, match=r"the Delta table .*parcels"):
        read_source(model, partition(model.config, "2030-01-01"))


def test_only_the_days_of_which_rows_have_changed_are_read_again(tiny, table):
    model = delta_model(tiny, table)
    before, rows = prints(model), digests(model)
    late = parcels(1).head(1).assign(parcel="late-one")
    write(table, late)
    assert [a == b for a, b in zip(before, prints(model), strict=True)] == [True, False, True]
    assert [a == b for a, b in zip(rows, digests(model), strict=True)] == [True, False, True]
    DeltaTable(table).delete("parcel = 'late-one'")
    assert prints(model)[::2] == before[::2]
    assert digests(model) == rows


def test_the_log_rounds_times_to_milliseconds_and_a_row_in_the_last_one_counts(tiny, tmp_path):
    moment, second = datetime(2024, 3, 14, 23, 59, 59, 999_700, tzinfo=UTC), timedelta(seconds=1)
    source = one_row(tiny, tmp_path, moment)
    assert source.fingerprint(moment, moment + second) != source.fingerprint(moment + second, moment + 2 * second)
    assert source.covers(moment, moment + second)


def test_a_data_file_of_which_the_log_has_no_times_is_read_for_each_range(tiny, tmp_path):
    moment, second = datetime(2024, 3, 15, tzinfo=UTC), timedelta(seconds=1)
    source = one_row(tiny, tmp_path, moment, configuration={"delta.dataSkippingNumIndexedCols": "0"})
    assert source.fingerprint(moment, moment + second) == source.fingerprint(moment + second, moment + 2 * second)
    (path,) = source.files(moment, moment + second)
    assert pd.read_parquet(path)["parcel"].tolist() == ["x"]


def one_row(tiny: Path, folder: Path, moment: datetime, **options: Any) -> delta.DeltaTable:
    """A table with one row of this time."""
    address = str(folder / "delta" / "one")
    write(address, parcels(0).head(1).assign(parcel="x", sent=pd.Timestamp(moment)), **options)
    model = delta_model(tiny, address)
    return delta.DeltaTable(model, "parcels", model.config.source.views["parcels"])


def source_of(model: Model) -> delta.DeltaTable:
    return delta.DeltaTable(model, "parcels", model.config.source.views["parcels"])


def test_a_row_in_the_hour_that_clocks_repeat_changes_both_its_hours(tiny, tmp_path):
    """02:30 in Vienna on that day is 00:30 and 01:30 in UTC."""
    address, hour = str(tmp_path / "delta" / "hour"), datetime(2024, 10, 27, 1, tzinfo=UTC)
    row = parcels(0).head(1)
    write(address, row.assign(sent=pd.Timestamp("2024-10-26 12:00")))
    source = source_of(delta_model(tiny, address, time_zone="Europe/Vienna", outcomes=None, outcomes_known_at=None))
    before = source.fingerprint(hour, hour + timedelta(hours=1))
    write(address, row.assign(parcel="twice", sent=pd.Timestamp("2024-10-27 02:30")))
    assert source.fingerprint(hour, hour + timedelta(hours=1)) != before
    (path,) = source.files(hour, hour + timedelta(hours=1))
    assert "twice" in pd.read_parquet(path)["parcel"].tolist()


def test_rows_of_a_version_that_was_undone_are_not_those_of_the_restored_one(tiny, table):
    source, day = source_of(delta_model(tiny, table)), timedelta(days=1)
    start = datetime(2024, 3, 2, tzinfo=UTC)
    version, before = DeltaTable(table).version(), source.fingerprint(start, start + day)
    write(table, parcels(1).head(1).assign(parcel="undone"))
    (later,) = source.files(start, start + day)
    assert "undone" in pd.read_parquet(later)["parcel"].tolist()
    DeltaTable(table).restore(version)
    assert source.fingerprint(start, start + day) == before
    (path,) = source.files(start, start + day)
    assert "undone" not in pd.read_parquet(path)["parcel"].tolist()


@pytest.mark.parametrize("kind", ["timestamp[us, tz=UTC]", "date32[day]"])
def test_the_newest_partition_is_there_if_its_rows_are_at_its_very_start(tiny, tmp_path, kind):
    days = [pd.Timestamp(f"2024-03-0{day}", tz="UTC") for day in (1, 2, 3)]
    frame = pd.concat([parcels(0).head(1).assign(sent=day, parcel=str(day)) for day in days])
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    column = pa.array([day.date() for day in days]) if "date" in kind else rows["sent"].cast(pa.timestamp("us", "UTC"))
    address = str(tmp_path / "delta" / "days")
    write_deltalake(address, rows.set_column(rows.column_names.index("sent"), "sent", column))
    assert available_partitions(delta_model(tiny, address, outcomes=None, outcomes_known_at=None)) == [
        "2024-03-01",
        "2024-03-02",
        "2024-03-03",
    ]


def test_arrivals_change_with_each_commit(tiny, table):
    model = delta_model(tiny, table)
    end = partition(model.config, KEYS[2]).end
    before = arrivals(model, end)
    assert before == arrivals(model, end)
    write(table, parcels(2).head(1).assign(parcel="new"))
    assert arrivals(model, end) != before


@pytest.mark.parametrize("form", ["text", "epoch", "local", "partitioned"])
def test_times_of_other_forms(tiny, table, tmp_path, form):
    expected = digests(delta_model(tiny, table))
    frame, keys = pd.concat([parcels(day) for day in range(DAYS)], ignore_index=True), {}
    options: dict[str, Any] = {}
    if form == "text":
        frame, keys = (
            frame.assign(sent=frame["sent"].dt.strftime("%Y-%m-%d %H:%M:%S.%f")),
            {"time_format": "%Y-%m-%d %H:%M:%S.%f"},
        )
    if form == "epoch":
        frame, keys = (
            frame.assign(sent=frame["sent"].astype("datetime64[us, UTC]").astype("int64")),
            {"time_format": "epoch_us"},
        )
    if form == "local":
        frame, keys = (
            frame.assign(sent=frame["sent"].dt.tz_convert("Europe/Vienna").dt.tz_localize(None)),
            {"time_zone": "Europe/Vienna"},
        )
    if form == "partitioned":
        options = {"partition_by": ["city"]}
    address = str(tmp_path / "delta" / form)
    write(address, frame, **options)
    keys |= {"outcomes": None, "outcomes_known_at": None} if form == "epoch" else {}
    model = delta_model(tiny, address, **keys)
    if form == "local":
        zoned = "timezone('Europe/Vienna', sent)"
        sql = model.source_sql.replace("sent", zoned).replace(zoned, f"{zoned} AS sent", 1)
        model = Model(model.config, model.folder, sql, model.labels_sql)
    assert digests(model) == expected


def test_a_row_without_time_blocks_and_is_named(tiny, table):
    model = delta_model(tiny, table)
    source = delta.DeltaTable(model, "parcels", model.config.source.views["parcels"])
    assert source.unplaced() == ""
    write(table, parcels(0).head(1).assign(parcel="lost", sent=pd.Series([pd.NaT], dtype="datetime64[us, UTC]")))
    assert "1 in the Delta table" in source.unplaced()
    assert "'lost'" in source.unplaced()


@pytest.mark.parametrize("change", ["table", "column", "feature"])
def test_errors_say_what_to_do(tiny, table, change):
    keys: dict[str, Any] = {}
    expected: tuple[type[Exception], str] = (
        SourceRefused,
        "Correct the address in model.yaml, or create the bucket or the table",
    )
    if change == "table":
        table += "-other"
    if change == "column":
        keys, expected = {"time": "when"}, (SourceMismatch, "has no column 'when', which `time` names")
    if change == "feature":
        log = Path(table) / "_delta_log" / f"{DAYS:020}.json"
        features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, **features}
        log.write_text(json.dumps({"protocol": protocol}) + "\n")
        expected = (
            SourceMismatch,
            "deletionVectors, with which it cannot be read here. Remove them (deletion vectors: REORG TABLE",
        )
    model = delta_model(tiny, table, **keys)
    with pytest.raises(expected[0], match=rf"the Delta table .*{re.escape(expected[1])}"):
        read_source(model, partition(model.config, KEYS[0]))


def test_a_table_on_s3_is_read_by_a_step(tiny, tmp_path, monkeypatch):
    with new_bucket("delta-of-tests") as endpoint:
        options = key_variables(endpoint) | {"AWS_ALLOW_HTTP": "true"}
        for day in range(3):
            write("s3://delta-of-tests/parcels", parcels(day), storage_options=options)
        expected = digests(load_model("tiny"))[:2]
        monkeypatch.setenv("EVERGREEN_CONNECTION_STORE", json.dumps(options))
        model = delta_model(tiny, "s3://delta-of-tests/parcels", connection="store")
        assert [table_digest(read_source(model, partition(model.config, key))) for key in KEYS[:2]] == expected
        res = open_resources("tiny")
        assert advance(INGEST, res.ref(KEYS[0]), res).status == "done"
        monkeypatch.setenv(
            "EVERGREEN_CONNECTION_STORE", json.dumps(options | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
        )
    written = [path.read_bytes() for path in tmp_path.rglob("*.json")]
    assert written
    assert not any(endpoint.encode() in content for content in written)


@pytest.mark.parametrize(
    "options",
    [
        {"AWS_ENDPOINT_URL": "http://user:s3cret@127.0.0.1:9", "AWS_ALLOW_HTTP": "true"},
        {"AWS_ALLOW_HTTP": "s3cret", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        {"AWS_SECRET_ACCESS_KEY": 5, "AWS_ACCESS_KEY_ID": "s3cret"},
    ],
)
def test_options_are_not_in_errors(tiny, monkeypatch, options):
    monkeypatch.setenv(
        "EVERGREEN_CONNECTION_STORE", json.dumps({"AWS_REGION": "us-east-1", "max_retries": "0"} | options)
    )
    model = delta_model(tiny, "s3://no-such-bucket/table", connection="store")
    with pytest.raises((SourceRefused, SourceUnavailable)) as caught:
        read_source(model, partition(model.config, KEYS[0]))
    assert "s3cret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"address": "s3://key:secret@bucket/table"}, "must not be in model.yaml"),
        ({"path": "x.parquet"}, "path: is for a table of files"),
        ({"watermark": "sent"}, "watermark: is for a table of a database"),
        ({"address": "data/*.parquet"}, "must be one table"),
        ({"connection": "store"}, "is local; remove it"),
        ({"time": None, "time_format": "epoch"}, "add it"),
    ],
)
def test_keys_that_do_not_fit_are_refused(tiny, keys, message):
    with pytest.raises(ConfigError, match=message):
        delta_model(tiny, **({"address": "data/parcels"} | keys))


def test_the_range_of_a_table_is_known_from_its_log_alone(tiny, table):
    model = delta_model(tiny, table)
    expected = available_partitions(model)
    for path in Path(table).rglob("*.parquet"):
        path.unlink()
    assert available_partitions(model) == expected
