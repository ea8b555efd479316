"""The rows of one model of `for_each`, from a flat file and by SQL: only those of its value, whatever the type of the column."""

from pathlib import Path

import pandas as pd
import pytest

from configs.load import load_model
from tasks.errors import MissingSource, SourceMismatch
from tasks.source.extent import available_partitions, table_fingerprint
from tasks.source.rows import read_labels, read_source
from tasks.storage.partitions import partition
from tests.conftest import use_folder
from tests.fleet import sales, write_stores

DAY = "2024-03-02"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_folder(tmp_path, tmp_path / "configs", "sqlite://", monkeypatch)
    return tmp_path


def write(folder: Path, frame: pd.DataFrame, values: list[str], suffix: str = "parquet") -> None:
    path = folder / f"sales.{suffix}"
    frame.to_parquet(path, index=False) if suffix == "parquet" else frame.to_csv(path, index=False)
    write_stores(folder / "configs", values, str(path))


def stores_of(name: str) -> set[str]:
    model = load_model(name)
    ref = partition(model.config, DAY)
    keys = [*read_source(model, ref).column("sale").to_pylist(), *read_labels(model, ref).column("sale").to_pylist()]
    return {key.rpartition("-")[0] for key in keys}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_codes_with_leading_zeros_are_text(folder: Path, suffix: str) -> None:
    write(folder, sales(["07", "7"], days=3), ["'07'", "7"], suffix)
    assert stores_of("store-07") == {"07"}
    assert stores_of("store-7") == {"7"}


@pytest.mark.parametrize("kind", ["int64", "float64", "str"])
def test_a_whole_number_matches_its_column_of_any_type(folder: Path, kind: str) -> None:
    frame = sales(["7", "8"], days=3)
    write(folder, frame.assign(store=frame["store"].astype("int64").astype(kind)), ["7"])
    assert stores_of("store-7") == {"7"}


def test_a_store_that_opens_later_has_later_partitions(folder: Path) -> None:
    frame = sales(["a", "b"], days=4)
    write(folder, frame[(frame["store"] == "a") | (frame["sold_at"] >= "2024-03-03")], ["a", "b"])
    assert available_partitions(load_model("store-a"))[0] == "2024-03-01"
    later = load_model("store-b")
    assert available_partitions(later) == ["2024-03-03", "2024-03-04"]
    with pytest.raises(MissingSource):
        table_fingerprint(later, partition(later.config, DAY))


def test_a_bad_row_of_another_store_does_no_harm(folder: Path) -> None:
    frame = sales(["a", "b"], days=3)
    frame["size"] = frame["size"].astype(str).where(frame["store"] == "a", "broken")
    write(folder, frame, ["a", "b"], "csv")
    assert stores_of("store-a") == {"a"}
    with pytest.raises(SourceMismatch, match="'broken' is not a number"):
        stores_of("store-b")


def test_a_file_without_the_column_is_an_error_with_its_name(folder: Path) -> None:
    write(folder, sales(["a"], days=3).drop(columns="store"), ["a"])
    with pytest.raises(SourceMismatch, match=r"has no column 'store', which model\.yaml declares"):
        stores_of("store-a")


def test_sql_and_a_path_select_rows(folder: Path) -> None:
    write_stores(folder / "configs", ["a", "b"])
    home = folder / "configs" / "store"
    frame = sales(["a", "b"], days=3)
    frame.to_parquet(folder / "all.parquet", index=False)
    frame[frame["store"] == "a"].to_parquet(folder / "only-a.parquet", index=False)
    within = "sold_at >= $start AND sold_at < $end"
    source = "source: {{tables: {{sales: {{path: '{}'}}}}}}\n"
    text = (home / "model.yaml").read_text().partition("source:")[0]
    (home / "model.yaml").write_text(text + source.format(folder / "all.parquet"))
    (home / "source.sql").write_text(
        f"SELECT sale, sold_at, size, discount FROM sales WHERE {within} AND store = $store"
    )
    (home / "labels.sql").write_text(
        f"SELECT sale, amount, sold_at + INTERVAL 1 DAY AS known_at FROM sales WHERE {within} AND store = $store"
    )
    assert [stores_of(name) for name in ("store-a", "store-b")] == [{"a"}, {"b"}]
    (home / "model.yaml").write_text(text + source.format(folder / "only-{store}.parquet"))
    for name in ("source.sql", "labels.sql"):
        (home / name).write_text((home / name).read_text().replace(" AND store = $store", ""))
    assert stores_of("store-a") == {"a"}
