"""A column has one type in all files of a table, and no value is changed by the type of another file or row."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.load import Model, load_model
from tasks.contracts import Stage
from tasks.errors import SourceMismatch
from tasks.resources import open_resources
from tasks.source.extent import available_partitions, fingerprint
from tasks.source.rows import read_labels, read_source
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance, freshness
from tasks.storage.partitions import partition
from tests.conftest import day_file, parcels
from tests.tasks.source.test_files import flat_model, write

FIRST, SECOND, THIRD = "2024-03-01", "2024-03-02", "2024-03-03"


def read(model: Model, key: str) -> pd.DataFrame:
    return read_source(model, partition(model.config, key)).to_pandas()


def model_of(kind: str, tiny: Path, lookback: str = "1D") -> Model:
    """The tiny model with tables and a lookback, or with one flat file of all days."""
    if kind == "file":
        return flat_model(tiny, f"{tiny}/data/parcels-*.parquet", every=None)
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("lookback: 1D", f"lookback: {lookback}"))
    return load_model("tiny")


def store(tiny: Path, day: int, **columns: object) -> None:
    """Write a day's file with some columns replaced by Arrow arrays or others."""
    table = pa.Table.from_pandas(parcels(day), preserve_index=False)
    for name, values in columns.items():
        array = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.set_column(table.schema.get_field_index(name), name, array)
    pq.write_table(table, day_file(tiny, day))


WEIGHTS = {
    "int64": pa.array([7] * 150),
    "int8": pa.array([7] * 150, pa.int8()),
    "uint64": pa.array([7] * 150, pa.uint64()),
    "bool": pa.array([True] * 150),
    "decimal": pa.array([Decimal("7.5")] * 150, pa.decimal128(10, 1)),
    "float32": pa.array([7.5] * 150, pa.float32()),
    "null": pa.nulls(150),
}


@pytest.mark.parametrize("kind", ["file", "tables"])
@pytest.mark.parametrize("first", WEIGHTS)
def test_an_older_file_does_not_decide_the_type_of_a_number(tiny, kind, first):
    store(tiny, 0, weight=WEIGHTS[first])
    model = model_of(kind, tiny)
    assert list(read(model, SECOND)["weight"]) == list(parcels(1)["weight"])
    expected = {"bool": 1.0, "null": np.nan}.get(first, float(WEIGHTS[first][0].as_py() or 0))
    np.testing.assert_array_equal(read(model, FIRST)["weight"], [expected] * 150)


def test_a_partition_is_the_same_with_another_lookback(tiny):
    store(tiny, 0, weight=[7] * 150, parcel=range(150))
    store(tiny, 1, weight=[2.5] * 150, parcel=[*map(float, range(150, 299)), None])
    sql = tiny / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text().replace("SELECT parcel", "SELECT CAST(parcel AS VARCHAR) AS parcel"))
    with_first, alone = (
        read_source(model_of("tables", tiny, days), partition(load_model("tiny").config, SECOND))
        for days in ("1D", "0D")
    )
    assert with_first.equals(alone)
    assert alone.column("parcel").to_pylist() == [*map(str, range(150, 299)), None]


def test_types_that_have_no_common_one_block_with_file_column_and_both_types(tiny):
    store(tiny, 0, weight=["heavy"] * 150)
    with pytest.raises(SourceMismatch, match=r"'weight' is VARCHAR in .*03-01\.parquet and DOUBLE in .*03-02\.parquet"):
        read(load_model("tiny"), SECOND)
    store(tiny, 0, sent=parcels(0)["sent"].dt.tz_localize(None))
    with pytest.raises(
        SourceMismatch, match=r"'sent' is TIMESTAMP in .*03-01\.parquet and TIMESTAMP WITH TIME ZONE in"
    ):
        read(load_model("tiny"), SECOND)
    store(tiny, 0, arrived=["yes"] * 150)  # no query uses it
    assert list(read(load_model("tiny"), SECOND)["weight"]) == list(parcels(1)["weight"])


def test_a_column_that_only_some_files_have_blocks_with_the_file(tiny):
    write(parcels(0).rename(columns={"weight": "mass"}), day_file(tiny, 0))
    with pytest.raises(SourceMismatch, match=r"03-01\.parquet has no column 'weight'"):
        read(load_model("tiny"), SECOND)


def test_times_of_a_flat_file_with_and_without_zone_are_each_read_as_they_are(tiny):
    for day in (0, 1):
        local = parcels(day)["sent"].dt.tz_localize(None)
        write(parcels(0).assign(sent=local if day else local.dt.tz_localize("UTC")), tiny / "mixed" / f"{day}.parquet")
        write(
            parcels(0).assign(sent=local.dt.tz_localize("UTC") if day else local),
            tiny / "other order" / f"{day}.parquet",
        )
    for folder, shifted in (("mixed", 1), ("other order", 0)):
        zone = {"every": "M", "timezone": "America/New_York"}  # UTC-5 in winter
        model = flat_model(tiny, f"{tiny}/{folder}/*.parquet", every=None, partition=zone)
        times = pd.concat([read(model, key)["sent"] for key in available_partitions(model)])
        expected = [t + pd.Timedelta(5 if day == shifted else 0, "h") for day in (0, 1) for t in parcels(day)["sent"]]
        assert sorted(times) == sorted(expected)


def test_a_missing_value_makes_integers_floats_and_nothing_stale(tiny):
    """pandas writes integers as floats if one is missing. Keys, categories, numbers and outcomes stay what they were."""
    path = tiny / "data" / "flat.parquet"
    rows = pd.concat([parcels(day) for day in (0, 1)], ignore_index=True)
    rows = rows.assign(parcel=range(300), city=range(300), weight=range(300), late=[0, 1] * 150)
    write(rows, path)
    flat_model(tiny, str(path), every=None)
    res = open_resources("tiny")
    record = advance(INGEST, res.ref(FIRST), res)
    write(rows.astype({"parcel": float, "city": float, "weight": float, "late": float}), path)
    assert freshness(INGEST, res.ref(FIRST), res).state == "fresh"
    assert advance(INGEST, res.ref(FIRST), res, again=True).digest == record.digest
    raw = res.lake.read(Stage.RAW, FIRST)
    assert list(raw["parcel"]) == list(raw["city"]) == [str(number) for number in range(150)]
    assert list(read_labels(res.model, res.ref(SECOND)).to_pandas()["late"]) == [0, 1] * 75


@pytest.mark.parametrize(
    ("column", "value", "dtype"),
    [
        ("weight", 2**53 + 1, "int64"),  # float64 has 2^53 and 2^53 + 2
        ("weight", 2**63 + 1, "uint64"),
        ("parcel", 2.0**53, "float64"),  # 2^53 and 2^53 + 1 are the same
        ("parcel", 2.0**24, "float32"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "tables"])
def test_a_whole_number_that_floating_point_does_not_have_is_refused_by_its_value(tiny, kind, column, value, dtype):
    values = np.arange(150).astype(dtype)
    values[7] = value
    store(tiny, 1, **{column: values})
    sql = tiny / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text().replace("SELECT parcel", "SELECT CAST(parcel AS VARCHAR) AS parcel"))
    with pytest.raises(SourceMismatch, match=rf"'{column}': '{value}'"):
        read(model_of(kind, tiny, "0D"), SECOND)
    assert len(read(load_model("tiny"), FIRST)) == 150


def test_a_fraction_in_a_column_of_whole_numbers_is_refused_by_its_value(tiny):
    features = {"numeric": ["weight", "distance"], "categorical": ["city"], "whole": ["weight"]}
    for day, weight in enumerate((7.0, 7.5)):
        store(tiny, day, weight=[weight] * 150)
    model = flat_model(tiny, f"{tiny}/data/parcels-%Y-%m-%d.parquet", features=features)
    assert set(read(model, FIRST)["weight"]) == {7.0}
    with pytest.raises(SourceMismatch, match=r"03-02\.parquet: column 'weight': '7\.5' is not a whole number"):
        read(model, SECOND)


@pytest.mark.parametrize("kind", ["file", "tables"])
def test_a_fraction_after_the_sample_of_a_csv_is_kept(tiny, kind):
    """DuckDB looks at 20,480 rows of a CSV file by itself."""
    rows = pd.concat([parcels(0)] * 200, ignore_index=True).assign(parcel=range(30_000), weight="4", late="7")
    rows.loc[29_998, ["weight", "late"]] = "3.75"
    path = tiny / "data" / "rows.csv"
    write(rows, path)
    file = tiny / "configs" / "tiny" / "model.yaml"
    if kind == "file":
        gate = {"floor": {"rmse": 9}, "gain": {"block": "H", "min_blocks": 6}}
        flat_model(
            tiny, str(path), every=None, target={"column": "late", "kind": "regression", "delay": "1D"}, gate=gate
        )
    else:
        sql = tiny / "configs" / "tiny" / "source.sql"
        sql.write_text(sql.read_text().replace("SELECT parcel", "SELECT CAST(parcel AS VARCHAR) AS parcel"))
        file.write_text(file.read_text().replace("parcels-%Y-%m-%d.parquet\n      every: D", "rows.csv"))
    model = load_model("tiny")
    weights = read(model, FIRST).set_index("parcel")["weight"]
    assert (weights["29998"], weights["29999"]) == (3.75, 4.0)
    if kind == "file":
        labels = read_labels(model, partition(model.config, FIRST)).to_pandas().set_index("parcel")["late"]
        assert (labels["29998"], labels["29999"]) == (3.75, 7.0)


def test_a_csv_and_a_parquet_file_with_the_same_rows_have_the_same_fingerprint(tiny):
    rows = parcels(0).assign(weight=range(150), late=[0, 1] * 75)
    prints = set()
    for form in ("csv", "parquet"):
        write(rows, tiny / "data" / f"flat.{form}")
        model = flat_model(tiny, f"{tiny}/data/flat.{form}", every=None)
        prints.add(fingerprint(model, partition(model.config, FIRST)))
    assert len(prints) == 1


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_expressions_may_use_columns_that_are_not_declared_and_a_column_may_be_called_filename(tiny, form):
    for day in (0, 1):
        rows = parcels(day).assign(filename="other.csv", weight=[*range(149), "x"] if day else 1)
        write(
            rows.astype({"weight": str}) if form == "csv" else rows.assign(weight=2**53 + 1 if day else 1),
            tiny / "own" / f"{day}.{form}",
        )
    flat_model(tiny, f"{tiny}/own/*.{form}", every=None)
    file = tiny / "configs" / "tiny" / "model.yaml"
    file.write_text(
        file.read_text().replace(
            "  file:\n", "  file:\n    known_at: sent + INTERVAL 1 HOUR * CAST(length(filename) AS INTEGER)\n"
        )
    )
    model = load_model("tiny")
    cutoff = partition(model.config, SECOND).end
    assert read_source(model, partition(model.config, FIRST), cutoff=cutoff).num_rows == 150
    with pytest.raises(SourceMismatch, match=rf"own/1\.{form}.* column 'weight'"):
        read(model, SECOND)


def test_a_key_of_another_name_is_not_a_number_in_floating_point(tiny):
    """A missing number makes a day's file floating point, and with it the column of all days that the partition reads."""
    for day, numbers in enumerate(([1, 2, 3], [4.0, 5.0, None], [6, 7, 8])):
        write(parcels(day).head(3).assign(id=numbers).drop(columns="parcel"), day_file(tiny, day))
    sql = tiny / "configs" / "tiny" / "source.sql"
    text = sql.read_text()
    sql.write_text(text.replace("SELECT parcel", "SELECT CAST(id AS VARCHAR) AS parcel"))
    assert list(read(model_of("tables", tiny, "0D"), FIRST)["parcel"]) == ["1", "2", "3"]
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("lookback: 0D", "lookback: 1D"))
    for key in (SECOND, THIRD):
        with pytest.raises(SourceMismatch, match=r"key 'parcel' is a whole number in floating point"):
            read(load_model("tiny"), key)
    sql.write_text(text.replace("SELECT parcel", "SELECT CAST(CAST(id AS BIGINT) AS VARCHAR) AS parcel"))
    assert list(read(load_model("tiny"), THIRD)["parcel"]) == ["6", "7", "8"]


@pytest.mark.parametrize(
    ("sql", "kind"), [("sent - $start", "INTERVAL"), ("[weight]", r"DOUBLE\[\]"), ("{'a': 1}", "STRUCT")]
)
def test_a_feature_of_sql_that_is_no_number_is_refused_by_its_type(tiny, sql, kind):
    file = tiny / "configs" / "tiny" / "source.sql"
    file.write_text(file.read_text().replace("weight", f"{sql} AS weight", 1))
    with pytest.raises(SourceMismatch, match=rf"column 'weight' is {kind}.*, but must be a number"):
        read(load_model("tiny"), FIRST)
