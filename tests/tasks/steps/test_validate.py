"""Validation of a partition without rows: it is recorded as empty, and blocked only by an expectation of the number of rows."""

import pytest
import yaml

from tasks.contracts import Stage
from tasks.errors import LeakFound
from tasks.resources import Resources, open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.sketch import SKETCH
from tasks.steps.step import advance, freshness
from tasks.steps.validate import VALIDATE
from tasks.storage.files import digest_json
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.long

DAY = "2024-03-05"
MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "weight", "min_value": -5, "max_value": 5}}


def empty_day(tiny, *expectations: dict) -> Resources:
    parcels(4).iloc[:0].to_parquet(day_file(tiny, 4), index=False)
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["expectations"] += expectations
    path.write_text(yaml.safe_dump(config))
    res = open_resources("tiny")
    advance(INGEST, res.ref(DAY), res)
    return res


def test_a_partition_without_rows_is_recorded_as_empty_and_the_steps_after_it_run(tiny):
    res = empty_day(tiny, MEAN)  # the mean of no value is not defined, and so cannot be out of bounds
    record = advance(VALIDATE, res.ref(DAY), res)
    assert (record.status, record.rows, record.empty) == ("done", 0, True)
    assert advance(SKETCH, res.ref(DAY), res).data["blocks"] == 0
    labels = advance(COLLECT, res.ref(DAY), res)
    assert [labels.data[name] for name in ("mature", "never", "pending", "faulty")] == [0, 0, 0, 0]
    advance(INGEST, res.ref("2024-03-06"), res)
    full = advance(VALIDATE, res.ref("2024-03-06"), res)
    assert (full.rows, full.empty) == (150, False)
    empty, other = (res.lake.read(Stage.VALID, key) for key in (DAY, "2024-03-06"))
    assert empty.dtypes.to_dict() == other.dtypes.to_dict()


@pytest.mark.parametrize(
    ("kind", "kwargs", "status"),
    [
        ("expect_table_row_count_to_be_between", {"min_value": 1}, "blocked"),
        ("expect_table_row_count_to_be_between", {"max_value": 500}, "done"),
        ("expect_table_row_count_to_equal", {"value": 150}, "blocked"),
    ],
)
def test_an_expectation_of_the_number_of_rows_decides(tiny, kind, kwargs, status):
    res = empty_day(tiny, {"type": kind, "kwargs": kwargs})
    record = advance(VALIDATE, res.ref(DAY), res)
    assert (record.status, record.empty) == (status, True)
    assert ("row_count" in record.reason) == (status == "blocked")


def test_a_partition_that_an_earlier_version_blocked_for_having_no_rows_is_validated_again(tiny):
    res = empty_day(tiny)
    ref, rules = res.ref(DAY), [e.model_dump() for e in res.config.expectations]
    inputs = {"raw": res.lake.done(Stage.RAW, DAY).digest, "expectations": digest_json(rules)}
    res.lake.write_record(ref, Stage.VALID, version=1, inputs=inputs, data={"reason": "no rows"}, blocked=True)
    assert freshness(VALIDATE, ref, res).state == "stale"
    assert advance(VALIDATE, ref, res).status == "done"


@pytest.mark.parametrize("source", ["file", "tables"])
def test_a_csv_file_with_only_a_header_is_a_partition_without_rows(tiny, source):
    for day in range(4, 7):
        rows = parcels(day).iloc[: None if day == 5 else 0]
        rows.to_csv(tiny / "data" / f"day-2024-03-{day + 1:02d}.csv", index=False)
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    table = {"path": f"{tiny}/data/day-%Y-%m-%d.csv", "every": "D"}
    config["source"] = {"file": table} if source == "file" else {"tables": {"parcels": table}}
    path.write_text(yaml.safe_dump(config))
    for sql in path.parent.glob("*.sql"):  # without a row, the type of `sent` is not known
        sql.write_text(f"WITH parcels AS (SELECT * REPLACE (sent::TIMESTAMPTZ AS sent) FROM parcels) {sql.read_text()}")
    res = open_resources("tiny")
    for key, rows in ((DAY, 0), ("2024-03-06", 150), ("2024-03-07", 0)):
        records = [advance(step, res.ref(key), res) for step in (INGEST, VALIDATE, COLLECT)]
        assert [(r.status, r.rows) for r in records] == [
            ("done", rows),
            ("done", rows),
            ("done", rows and records[2].rows),
        ]
        assert (records[0].empty, records[1].empty) == (not rows, not rows)


def test_a_partition_without_rows_does_not_count_as_checked_for_leakage(tiny):
    sql = tiny / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text().replace("distance", "late AS distance"))
    res = empty_day(tiny)
    with pytest.raises(LeakFound, match="'distance'"):
        advance(INGEST, res.ref("2024-03-06"), res)
