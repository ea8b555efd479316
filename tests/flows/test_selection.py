"""Three models of one file in one run: each has a run of its own, an error of one does not stop the others, and a table has the results."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.backfill import backfill
from flows.train import train
from tasks.contracts import Stage
from tasks.orchestration.selection import run_each
from tasks.reports.artifacts import publish_selection
from tasks.resources import open_resources
from tests.conftest import use_folder
from tests.fleet import sales, write_stores
from tests.flows.test_pages import latest

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]
START, END = "2024-03-01", "2024-03-13"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> tuple[Path, Any, Any]:
    """Three stores whose data come from one file. Store c needs more rows for a training than it has."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(folder, folder / "configs", f"sqlite:///{folder}/mlflow.db", patch)
        frame = sales(["a", "b", "c"])
        frame.to_parquet(folder / "sales.parquet", index=False)
        write_stores(folder / "configs", ["a", "b", "c"], str(folder / "sales.parquet"))
        own = folder / "configs" / "store-c" / "model.yaml"
        own.parent.mkdir()
        own.write_text("extends: ../store/model.yaml\ntraining: {window: {min_rows: 100000}}\n")
        first = backfill(models="store-*", start=START, end=END, return_state=True)
        second = train(models="store-a, store-c", return_state=True)
    return folder, first, second


@pytest.fixture
def stores(scored: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    use_folder(scored[0], scored[0] / "configs", f"sqlite:///{scored[0]}/mlflow.db", monkeypatch)
    return scored[0]


def test_each_model_has_its_own_rows(stores: Path) -> None:
    for name in ("store-a", "store-b", "store-c"):
        rows = open_resources(name).lake.read(Stage.VALID, START)
        assert set(rows["sale"].str[0]) == {name[-1]}
        assert len(rows) == 60


def test_the_message_names_who_did_not_complete(scored: tuple[Path, Any, Any]) -> None:
    _, first, second = scored
    assert first.is_completed()
    assert first.message == "backfill: 3 of 3 models completed."
    assert second.is_failed()
    assert second.message == "train: 1 of 2 models completed; not store-c."


def test_each_model_has_a_run_of_its_own_and_a_line_in_the_table(scored: tuple[Path, Any, Any], stores: Path) -> None:
    page = latest("models-train")["data"]
    lines = [line for line in page.splitlines() if "store" in line and line.startswith("|")]
    assert [("store-c" in line, "store-a" in line) for line in lines] == [(True, False), (False, True)], (
        "failed ones first"
    )
    assert "| Failed |" in lines[0]
    assert "fewer than training.window.min_rows" in lines[0] or "NotEnoughData" in lines[0]
    run = lines[1].partition("/flow-run/")[2].partition(")")[0]
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(run)
    assert own.name.startswith("train store-a as of the newest partition")
    assert open_resources("store-a").ledger.champion() is not None


def test_one_of_model_and_models_is_required(stores: Path) -> None:
    state = train(return_state=True)
    assert state.is_failed()
    assert "give either `model`, or patterns of several as `models`" in str(state.message)
    state = train(model="store-a", models="store-*", return_state=True)
    assert state.is_failed()
    assert "give one of them" in str(state.message)
    state = train(models="shop-*", return_state=True)
    assert state.is_failed()
    assert "no model matches 'shop-*'; there are: store-a, store-b, store-c" in str(state.message)


def test_a_selection_that_is_stopped_has_its_table(stores: Path) -> None:
    @flow(name="stopped")
    def each(model: str = "", models: str = "") -> str:
        if models:
            return str(run_each(each, models, publish_selection))
        if model == "store-b":
            raise KeyboardInterrupt
        return model

    with pytest.raises(BaseException):  # noqa: B017, PT011  (Prefect's own, by how the run was stopped)
        each(models="store-*")
    table = latest("models-stopped")["data"]
    assert "stopped: 1 of 3 models completed; not store-b, store-c." in table.replace("\\", "")
    rows = {
        line.split("|")[1].strip().strip("[").partition("]")[0]: line
        for line in table.splitlines()
        if "store" in line and line[0] == "|"
    }
    assert "| Completed |" in rows["store-a"]
    assert "| Not ended |" in rows["store-b"]
    assert "| Not started |" in rows["store-c"]


def test_rows_of_another_store_do_not_change_a_model(stores: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(stores / "sales.parquet")
    before = {name: plan_of(name) for name in ("store-a", "store-b")}
    assert before == {"store-a": "nothing to do", "store-b": "nothing to do"}
    shutil.copy(stores / "sales.parquet", tmp_path / "sales.parquet")
    frame.loc[frame["store"] == "b", "size"] += 1
    frame.to_parquet(stores / "sales.parquet", index=False)
    assert plan_of("store-a") == "nothing to do"
    assert plan_of("store-b") != "nothing to do"


def plan_of(name: str) -> str:
    state = backfill(
        model=name, start=START, end=END, mode="stale", stages=["ingest", "validate"], dry_run=True, return_state=True
    )
    return "nothing to do" if "nothing to do" in str(state.message) else str(state.message)
