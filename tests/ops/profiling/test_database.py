"""`make model FROM=connection:table`: an unseen table of PostgreSQL and of SQLite becomes a model that reads its rows."""

import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from ops.new_model import model_from_data
from ops.profiling import database
from ops.profiling.plan import Options
from ops.profiling.values import UnusableData
from ops.workable import warnings
from tasks.errors import SourceRefused
from tasks.resources import open_resources
from tasks.source.rows import read_labels, read_source
from tests.ops.profiling.test_from_data import made
from tests.tasks.source.databases import ADDRESS, load, new_database, run
from tests.unseen import CATEGORICAL, NOT_USED, NUMERIC, orders


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with new_database(request.param, tmp_path) as url:
        monkeypatch.setenv(ADDRESS, url)
        yield url


def table(kind: str) -> pd.DataFrame:
    """Return orders as a database has them: times with a zone, no column without a type."""
    frame = orders(kind).drop(columns=["nothing"])
    for name in ("ordered_at", "loaded_at"):
        frame[name] = frame[name].dt.tz_localize("UTC")
    return frame


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_a_table_becomes_a_model_without_sql_that_reads_its_rows(root: Path, address: str, kind: str) -> None:
    frame = table(kind)
    load(address, frame, "orders")
    plan, config = made(root, "warehouse:orders")
    source = config.source.file
    assert source
    assert (source.connection, source.table, source.time, config.key) == (
        "warehouse",
        "orders",
        "ordered_at",
        "order_id",
    )
    assert (set(config.features.numeric), set(config.features.categorical)) == ({*NUMERIC}, {*CATEGORICAL})
    assert set(plan.features.excluded) == {*NOT_USED} - {"nothing"}
    res = open_resources("unseen")
    key = plan.periods.keys[3]
    rows, labels = read_source(res.model, res.ref(key)).to_pandas(), read_labels(res.model, res.ref(key)).to_pandas()
    own = frame[frame["ordered_at"].dt.strftime("%G-W%V") == key].set_index("order_id").sort_index()
    rows = rows.set_index("order_id").sort_index()
    assert rows.index.tolist() == own.index.tolist()
    assert rows["price"].tolist() == pytest.approx(own["price"].tolist())
    assert rows["colour"].tolist() == own["colour"].tolist()
    outcomes = [part["target"].astype(str if kind == "multiclass" else float) for part in (labels, own)]
    assert sorted(outcomes[0]) == sorted(outcomes[1])
    assert list(warnings(res)) == []


def test_the_address_is_in_no_file_and_its_absence_is_an_error_with_the_variable(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    with pytest.raises(SourceRefused, match=f"set {ADDRESS} for the worker"):
        made(root, "warehouse:orders")
    assert not (root / "configs" / "unseen").exists()


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S"),
        ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S"),
        ("epoch", "epoch"),
        ("epoch_ms", "epoch_ms"),
    ],
)
def test_the_stored_form_of_times_is_declared(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: str,
    form: str,
) -> None:
    frame = orders("binary").drop(columns=["nothing", "day", "loaded_at"])
    seconds = frame["ordered_at"].astype("datetime64[s]").astype("int64")
    stored = {"epoch": seconds, "epoch_ms": seconds * 1000}
    frame["ordered_at"] = stored[values] if values in stored else frame["ordered_at"].dt.strftime(values)
    with sqlite3.connect(tmp_path / "shop.db") as con:
        frame.to_sql("orders", con, index=False)
    monkeypatch.setenv("EVERGREEN_CONNECTION_SHOP", f"sqlite:///{tmp_path}/shop.db")
    plan, config = made(root, "shop:orders")
    assert config.source.file
    assert config.source.file.time_format == form
    assert plan.span.rows == len(frame)


def test_times_that_do_not_sort_as_text_are_refused(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = orders("binary").drop(columns=["nothing", "day", "loaded_at"])
    frame["ordered_at"] = frame["ordered_at"].dt.strftime("%d/%m/%Y %H:%M")
    with sqlite3.connect(tmp_path / "shop.db") as con:
        frame.to_sql("orders", con, index=False)
    monkeypatch.setenv("EVERGREEN_CONNECTION_SHOP", f"sqlite:///{tmp_path}/shop.db")
    with pytest.raises(
        UnusableData,
        match=r"TIME=ordered_at: the table stores it as text in the format %d/%m/%Y %H:%M, which does not sort",
    ):
        made(root, "shop:orders")


def test_columns_that_need_a_type_get_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_database("postgresql", tmp_path) as url:
        monkeypatch.setenv(ADDRESS, url)
        load(url, table("regression"), "loaded")
        run(
            url,
            "CREATE TABLE orders AS SELECT *, round(price::numeric, 3) AS exact_price, (line * 10)::numeric(12, 0) AS code_no, "
            "round(target::numeric, 4) AS paid, '{\"a\": 1}'::json AS doc FROM loaded",
        )
        plan, config = made(root, "warehouse:orders", target="paid")
        assert config.source.file
        assert config.source.file.types == {"code_no": "BIGINT"}, (
            "features and the target have their types by their role"
        )
        assert "exact_price" in config.features.numeric
        assert "neither number nor text" in plan.features.excluded["doc"]


def test_a_large_table_is_looked_at_from_its_newest_rows(
    root: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load(address, table("binary"), "orders")
    monkeypatch.setattr(database, "MOST_ROWS", 2_000)
    with pytest.raises(
        UnusableData,
        match=r"has 3,000 rows, and the newest 2,000 are looked at; give the column with their time as TIME=",
    ):
        made(root, "warehouse:orders")
    plan, config = made(root, "warehouse:orders", time="ordered_at")
    assert "Reading 2,000 of 3,000 rows of table orders" in capsys.readouterr().err
    assert plan.span.rows == 2_000
    assert plan.span.last.replace(tzinfo=None) == orders("binary")["ordered_at"].max()
    assert config.training.window.partitions == len(plan.periods.keys)
    assert "without 1,000 older rows" in (root / "configs" / "unseen" / "model.yaml").read_text()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "warehouse:nowhere",
            "FROM=warehouse:nowhere: table nowhere of connection 'warehouse': .*; give a table or view",
        ),
        ("warehouse:empty", "FROM=warehouse:empty: the table has no rows"),
        ("warehouse:a..b", r"FROM=warehouse:a..b: 'a..b' is not the name of a table; write it as warehouse:orders"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_that_names_it(
    root: Path,
    address: str,
    source: str,
    message: str,
) -> None:
    run(address, "CREATE TABLE empty (a INTEGER)")
    with pytest.raises(UnusableData, match=message):
        model_from_data("unseen", Options(source), root)
