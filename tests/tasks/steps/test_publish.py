"""Steps refuse a change that breaks the published contract undeclared, and record the versions of the contract."""

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from configs.settings import load_settings
from tasks.contracts import Stage
from tasks.errors import ContractBroken
from tasks.ledger.claims import Claims
from tasks.resources import Resources, Variant, open_resources
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.published_contract import FILE, KEY, read_history, updated_history, write_history

pytestmark = pytest.mark.long

FIRST, SECOND, THIRD = "2024-03-04", "2024-03-05", "2024-03-06"
NO_CITY = "SELECT parcel, sent, weight, distance FROM parcels WHERE sent >= $start AND sent < $end"


def edit(folder: Path, **sections) -> Resources:
    """Replace sections of the tiny model's YAML."""
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))
    return open_resources("tiny")


def without_city(folder: Path, **sections) -> Resources:
    """Remove the column city from the model."""
    (folder / "configs" / "tiny" / "source.sql").write_text(NO_CITY)
    rules = open_resources("tiny").config.model_dump(mode="json")["expectations"][:1]
    return edit(folder, features={"numeric": ["weight", "distance"]}, expectations=rules, **sections)


def process(key: str, res: Resources, *steps) -> None:
    for step in steps or (INGEST, VALIDATE):
        advance(step, res.ref(key), res)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of the lake but the notes of failures."""
    files = (path for path in (folder / "lake").rglob("*") if path.is_file() and path.suffix != ".failure")
    return {str(path): path.read_bytes() for path in files}


def versions(res: Resources) -> list[tuple[int, str]]:
    return [(v.version, v.first) for v in read_history(res.lake)]


def stamps(res: Resources, stage: Stage = Stage.VALID) -> dict[str, int]:
    return {key: res.lake.done(stage, key).data[KEY] for key in res.lake.keys(stage)}


def test_the_first_validated_partition_publishes_the_contract(tiny):
    res = open_resources("tiny")
    process(FIRST, res, INGEST)
    assert versions(res) == []
    process(FIRST, res, VALIDATE, COLLECT)
    assert versions(res) == [(1, FIRST)]
    columns = read_history(res.lake)[0].contract.columns
    types = {}
    for stage in (Stage.VALID, Stage.LABELS):
        schema = pq.read_schema(res.lake.path(stage, FIRST))
        types |= {n: str(t).removeprefix("large_") for n, t in zip(schema.names, schema.types)}
    assert {name: column.type for name, column in columns.items()} == {name: types[name] for name in columns}


def test_an_undeclared_removal_is_refused_with_the_way_out_and_nothing_is_written(tiny):
    process(FIRST, open_resources("tiny"))
    before = contents(tiny)
    res = without_city(tiny)
    message = (
        r"tiny/model.yaml: breaks version 1 of the published contract.*: column city: feature, string -> removed\. If that is meant, "
        r"raise contract.version to 2 or more; otherwise take the change back\. Nothing was written"
    )
    for key in (FIRST, SECOND):
        with pytest.raises(ContractBroken, match=message):
            process(key, res)
    assert contents(tiny) == before
    assert "ContractBroken" in res.lake.failure(Stage.RAW, SECOND)


def test_a_declared_change_is_a_new_version_and_old_partitions_keep_theirs_until_they_are_computed_again(tiny):
    res = open_resources("tiny")
    process(FIRST, res), process(SECOND, res)
    res = without_city(tiny, contract={"version": 2})
    process(THIRD, res)
    assert versions(res) == [(1, FIRST), (2, THIRD)]
    assert stamps(res) == {FIRST: 1, SECOND: 1, THIRD: 2}
    process(FIRST, res)
    assert stamps(res) == stamps(res, Stage.RAW) == {FIRST: 2, SECOND: 1, THIRD: 2}
    assert versions(res) == [(1, FIRST), (2, THIRD)]


def test_a_weaker_expectation_is_refused_by_validation_although_the_raw_rows_are_fresh(tiny):
    process(FIRST, open_resources("tiny"))
    res = edit(tiny, expectations=[])
    process(FIRST, res, INGEST)
    with pytest.raises(ContractBroken, match=r"weight: values to be between .*, critical -> removed"):
        process(FIRST, res, VALIDATE)


def test_a_changed_outcome_is_refused_when_labels_are_collected(tiny):
    process(FIRST, open_resources("tiny"))
    res = edit(tiny, target={"column": "late", "kind": "binary", "delay": "2D"})
    with pytest.raises(ContractBroken, match=r"target\.delay: 1D -> 2D"):
        process(FIRST, res, COLLECT)


def test_a_new_column_is_added_under_the_same_version_and_then_promised_too(tiny):
    process(FIRST, open_resources("tiny"))
    sql, features = tiny / "configs" / "tiny" / "source.sql", {"categorical": ["city"]}
    before = sql.read_text()
    sql.write_text(before.replace("distance,", "distance, weight * 2 AS heavy,"))
    res = edit(tiny, features=features | {"numeric": ["weight", "distance", "heavy"]})
    process(SECOND, res)
    assert versions(res) == [(1, FIRST)]
    sql.write_text(before)
    res = edit(tiny, features=features | {"numeric": ["weight", "distance"]})
    with pytest.raises(ContractBroken, match="column heavy: feature, double -> removed"):
        process(THIRD, res)


def test_a_lower_version_than_the_published_one_is_refused(tiny):
    process(FIRST, edit(tiny, contract={"version": 3}))
    res = edit(tiny, contract={"version": 2})
    with pytest.raises(
        ContractBroken, match=r"contract.version: is 2, but version 3 is published since 2024-03-04.*write 3"
    ):
        process(SECOND, res)


def test_a_lake_from_before_contracts_adopts_the_present_one(tiny):
    res = open_resources("tiny")
    process(FIRST, res), process(SECOND, res)
    (res.lake.root / FILE).unlink()
    res = edit(tiny, contract={"version": 5})
    process(THIRD, res)
    assert versions(res) == [(5, FIRST)]


def test_a_blocked_partition_publishes_nothing(tiny):
    res = edit(tiny, expectations=[{"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}}])
    process(FIRST, res)
    record = res.lake.record(Stage.VALID, FIRST)
    assert record
    assert (record.status, KEY in record.data) == ("blocked", False)
    assert versions(res) == []


def test_a_variant_neither_breaks_nor_writes_the_contract(tiny):
    process(FIRST, open_resources("tiny"))
    before = read_history(open_resources("tiny").lake)
    override = {"expectations": [], "target": {"delay": "3D"}, "partition": {"timezone": "Europe/Berlin"}}
    other = open_resources("tiny", variant=Variant(override))
    process(FIRST, other)
    process(SECOND, other)
    assert KEY not in other.lake.done(Stage.VALID, FIRST).data
    assert not (other.lake.root / FILE).is_file()
    assert read_history(open_resources("tiny").lake) == before


def test_of_two_processes_that_publish_at_once_the_second_one_sees_the_version_of_the_first(tiny):
    process(FIRST, open_resources("tiny"))
    res = edit(tiny, contract={"version": 2})
    process(SECOND, res, INGEST)
    errors: list[Exception] = []

    def validate() -> None:
        try:
            process(SECOND, res, VALIDATE)
        except ContractBroken as error:
            errors.append(error)

    with Claims(load_settings().database, "tiny: contract").hold(KEY):
        thread = threading.Thread(target=validate)
        thread.start()
        thread.join(1)
        assert thread.is_alive(), "it waits for the claim"
        newer = edit(tiny, contract={"version": 3})
        history = read_history(res.lake)
        write_history(res.lake, updated_history(history, newer.config, THIRD, history[0].recorded_at))
    thread.join()
    assert "is 2, but version 3 is published" in str(errors[0])
    assert versions(res) == [(1, FIRST), (3, THIRD)]
    assert res.lake.record(Stage.VALID, SECOND) is None
