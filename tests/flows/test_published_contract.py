"""The published contract over flows: an undeclared break stops `process`, a declared one is a version that `load` returns."""

from pathlib import Path

import pytest
import yaml

from flows.backfill import backfill
from flows.process import process
from flows.replay import replay
from ops.check import broken_contracts
from tasks.catalogue import load
from tasks.contracts import Stage
from tasks.resources import open_resources
from tasks.storage.published_contract import FILE, KEY
from tests.flows.test_features_change import change

DAY, NEXT = "2024-03-11", "2024-03-12"
RETIRED = "features: {numeric: [weight, distance], categorical: [city], retired: [distance]}"
WITHOUT = "features: {numeric: [weight], categorical: [city]}"


def declare(folder: Path, **contract) -> None:
    path = folder / "configs" / "tiny" / "model.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"contract": contract}))


def lake_files(folder: Path) -> dict[str, bytes]:
    files = (path for path in (folder / "lake").rglob("*") if path.is_file() and path.suffix != ".failure")
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_retired_feature_is_published_until_its_removal_is_declared(champion):
    change(champion, RETIRED)
    process(model="tiny", partition=DAY)
    assert "distance" in load("tiny", "valid", DAY, DAY)
    text = (champion / "configs" / "tiny" / "model.yaml").read_text()
    (champion / "configs" / "tiny" / "model.yaml").write_text(text.replace(RETIRED, WITHOUT))
    sql = champion / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text().replace(", distance", ""))
    (problem,) = broken_contracts(["tiny"])
    assert (
        "column distance: feature, double -> removed. If that is meant, raise contract.version to 2 or more" in problem
    )
    before = lake_files(champion)
    state = process(model="tiny", partition=NEXT, return_state=True)
    assert state.is_failed()
    assert "ContractBroken: " in state.message
    assert problem in state.message
    assert lake_files(champion) == before
    declare(champion, owner="logistics", version=2)
    assert list(broken_contracts(["tiny"])) == []
    backfill(model="tiny", start=NEXT, end=NEXT, stages=["ingest", "validate"])
    assert about("valid", "2024-03-10", NEXT) == {
        "model": "tiny",
        "stage": "valid",
        "owner": "logistics",
        "version": None,
        "versions": [
            {"version": 1, "first": "2024-03-10", "last": DAY},
            {"version": 2, "first": NEXT, "last": NEXT},
        ],
    }


def about(stage: str = "valid", first: str = "", last: str = "") -> dict:
    return load("tiny", stage, first, last).attrs["contract"]


def test_load_describes_the_contract_of_each_dataset(processed, tmp_path):
    frame = load("tiny", "predictions", "2024-03-11", "2024-03-12")
    expected = {"version": 1, "versions": [{"version": 1, "first": "2024-03-11", "last": "2024-03-12"}]}
    assert frame.attrs["contract"] == {"model": "tiny", "stage": "predictions", "owner": ""} | expected
    assert about("labels", "2024-03-11", "2024-03-11")["version"] == 1
    assert about("valid")["versions"][0]["first"] == "2024-03-01"
    frame.to_parquet(tmp_path / "rows.parquet")  # pandas stores the attributes with the rows, as JSON


@pytest.mark.slow
def test_replays_and_backfills_with_another_config_do_not_touch_the_contract(champion):
    lake = open_resources("tiny").lake
    before = (lake.root / FILE).read_bytes()
    override = {"expectations": [], "target": {"delay": "2D"}}
    state = backfill(model="tiny", start="2024-03-05", end="2024-03-06", override=override, return_state=True)
    assert state.is_completed(), state.message
    path = champion / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("grace: 1D", "grace: 2D"))
    assert list(broken_contracts(["tiny"])), "a replay of a change that is not declared yet is how it is tested"
    state = replay(model="tiny", start="2024-03-09", end="2024-03-10", policies=["never"], return_state=True)
    assert state.is_completed(), state.message
    assert (lake.root / FILE).read_bytes() == before
    assert not list(lake.root.glob(f"*/**/{FILE}"))
    assert {lake.done(Stage.VALID, key).data[KEY] for key in lake.keys(Stage.VALID)} == {1}
