"""Each row of a source is in a partition that reads it, or blocks until it is corrected."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from configs.load import load_model
from tasks.contracts import Stage
from tasks.errors import SourceMismatch
from tasks.resources import Resources, open_resources
from tasks.source.extent import available_partitions
from tasks.source.rows import read_source
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance, freshness
from tests.conftest import day_file, parcels
from tests.tasks.source.test_files import flat_model, write

FIRST, SECOND, THIRD = "2024-03-01", "2024-03-02", "2024-03-03"
IMPOSSIBLE = [
    datetime.fromisoformat(text)
    for text in ("9999-12-31", "0001-01-01", "0202-03-05", "2090-01-01", "1899-12-31 23:00")
]


def write_days(path: Path, days: int, times: dict[int, datetime] | None = None) -> None:
    """Write a file of the first days. `times` replaces those of some rows by position; pandas cannot have all of them."""
    rows = pd.concat([parcels(day) for day in range(days)], ignore_index=True)
    sent = [(times or {}).get(at, time.to_pydatetime().replace(tzinfo=None)) for at, time in enumerate(rows["sent"])]
    table = pa.Table.from_pandas(rows.drop(columns="sent"), preserve_index=False)
    pq.write_table(table.append_column("sent", pa.array(sent, pa.timestamp("us"))), path)


@pytest.fixture
def path(tiny: Path) -> Path:
    """An undated flat file of two days."""
    path = tiny / "data" / "flat.parquet"
    write_days(path, 2)
    flat_model(tiny, str(path), every=None)
    return path


@pytest.fixture
def res(path: Path) -> Resources:
    return open_resources("tiny")


@pytest.mark.parametrize("time", IMPOSSIBLE)
def test_a_row_with_an_impossible_time_blocks_and_is_named(path, res, time):
    write_days(path, 2, {3: time, 5: time})
    assert available_partitions(res.model) == [FIRST, SECOND]  # a row of 2090 does not make 24,000 partitions
    record = advance(INGEST, res.ref(SECOND), res)
    assert record.status == "blocked"
    assert (
        f"no partition: 2 in {path}, such as the one with parcel '00-003', where it is '{time.isoformat(sep=' ')}'"
        in record.reason
    )


def test_a_file_whose_rows_all_have_impossible_times_is_an_error(path, res):
    write_days(path, 1, dict.fromkeys(range(150), IMPOSSIBLE[0]))
    with pytest.raises(SourceMismatch, match="150 in"):
        available_partitions(res.model)


def test_the_tolerance_for_times_after_the_present_is_declared(path, tiny):
    tomorrow = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(days=3)
    write_days(path, 1, {149: tomorrow})
    assert advance(INGEST, (res := open_resources("tiny")).ref(FIRST), res).status == "blocked"
    file = tiny / "configs" / "tiny" / "model.yaml"
    content = yaml.safe_load(file.read_text())
    content["source"]["ahead"] = "4D"
    file.write_text(yaml.safe_dump(content))
    res = open_resources("tiny")
    assert advance(INGEST, res.ref(FIRST), res).rows == 149
    assert available_partitions(res.model)[-1] == f"{tomorrow:%Y-%m-%d}"


def test_partitions_that_were_ingested_before_a_bad_row_came_stay_fresh_and_others_are_ingested_when_it_is_corrected(
    path, res
):
    advance(INGEST, res.ref(FIRST), res)
    write_days(path, 3, {299: IMPOSSIBLE[0]})  # the last row of the second day
    states = [freshness(INGEST, res.ref(key), res).state for key in (FIRST, SECOND, THIRD)]
    assert states == ["fresh", "missing", "missing"]
    assert advance(INGEST, res.ref(THIRD), res).status == "blocked"
    assert freshness(INGEST, res.ref(THIRD), res).state == "blocked"
    write_days(path, 3)
    assert advance(INGEST, res.ref(THIRD), res).rows == 150
    write_days(path, 3, {0: IMPOSSIBLE[0]})  # a row of the first day, whose record was done
    assert advance(INGEST, res.ref(FIRST), res).status == "blocked"
    write_days(path, 3)
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    assert sum(len(res.lake.read(Stage.RAW, key)) for key in (FIRST, THIRD)) == 300


def test_a_row_in_the_dated_file_of_another_period_blocks_and_is_named(tiny):
    rows = parcels(1)
    rows.loc[4, "sent"] -= pd.Timedelta("1D")
    write(rows, day_file(tiny, 1))
    model = flat_model(tiny, f"{tiny}/data/parcels-%Y-%m-%d.parquet")
    res = open_resources("tiny")
    record = advance(INGEST, res.ref(SECOND), res)
    assert record.status == "blocked"
    assert f"1 in {day_file(tiny, 1)}, such as the one with parcel '01-004'" in record.reason
    assert advance(INGEST, res.ref(FIRST), res).rows == 150
    flat_model(tiny, f"{tiny}/data/parcels-%Y-%m-%d.parquet", period="M")  # the month reads both files
    res = open_resources("tiny")
    assert advance(INGEST, res.ref("2024-03"), res).rows == 26 * 150
    assert model.config.partition.every == "D"


def test_a_dated_file_of_the_far_future_adds_no_partitions_after_the_present(tiny):
    write(parcels(0), tiny / "data" / "parcels-2090-01-01.parquet")
    keys = available_partitions(load_model("tiny"))
    assert keys[-1] <= f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"


@pytest.mark.parametrize("time", [IMPOSSIBLE[0], IMPOSSIBLE[2], IMPOSSIBLE[3]])
def test_tables_without_dated_files_are_checked_through_their_sql(tiny, time):
    write_days(tiny / "data" / "all.parquet", 2, {3: time})
    folder = tiny / "configs" / "tiny"
    file = folder / "model.yaml"
    file.write_text(file.read_text().replace("parcels-%Y-%m-%d.parquet\n      every: D", "all.parquet"))
    sql = folder / "source.sql"
    sql.write_text(
        sql.read_text().replace("FROM parcels", "FROM (SELECT * REPLACE (timezone('UTC', sent) AS sent) FROM parcels)")
    )
    model = load_model("tiny")
    assert available_partitions(model) == [FIRST, SECOND]
    with pytest.raises(SourceMismatch, match=r"1 in source\.sql, such as the one with parcel '00-003'"):
        read_source(model, open_resources("tiny").ref(SECOND))


@pytest.mark.parametrize("name", ["first", "last", "file", "limits", "count", "rows"])
def test_a_feature_may_have_any_name(tiny, name):
    path = tiny / "data" / "flat.parquet"
    write(parcels(0).rename(columns={"weight": name}), path)
    model = flat_model(tiny, str(path), every=None, features={"numeric": [name, "distance"]}, expectations=[])
    rows = read_source(model, open_resources("tiny").ref(FIRST)).to_pandas()
    assert list(rows[name]) == list(parcels(0)["weight"])
