"""Files in folders by date (hive layouts), by week and by pattern: they are listed and read, or their absence is explained."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import Model, load_model
from tasks.errors import MissingSource
from tasks.source import files
from tasks.source.extent import available_partitions, fingerprint, why_no_partition
from tasks.source.rows import read_source
from tasks.storage.partitions import partition
from tests.conftest import FIRST, parcels

FEATURES = ["parcel", "sent", "weight", "distance", "city"]


def flat_model(tiny: Path, path: str, every: str | None = "D", period: str = "D", **changes: object) -> Model:
    """Change the tiny model to one flat file with this path."""
    file = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(file.read_text()) | {"partition": {"every": period}, **changes}
    config["source"] = {"file": {"path": path} | ({"every": every} if every else {})}
    file.write_text(yaml.safe_dump(config))
    return load_model("tiny")


def write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)


def read(model: Model, key: str) -> pd.DataFrame:
    return read_source(model, partition(model.config, key)).to_pandas()


@pytest.mark.parametrize(
    "pattern",
    [
        "hive/date=%Y-%m-%d/rows.parquet",
        "hive/year=%Y/month=%m/day=%d/rows.csv",
        "hive/year=%Y/month=%-m/day=%-d/part-*.parquet",
        "by-day/%Y/%m/%Y-%m-%d.parquet",
        "100%%/[new]/%Y%m%d.csv",
    ],
)
def test_dated_folders_are_listed_and_read(tiny, pattern):
    for day in range(4):
        rows, moment = parcels(day), FIRST + pd.Timedelta(day, "D")
        path = tiny / moment.strftime(pattern)
        if "*" in pattern:  # a day in two files, and what Spark leaves beside them
            for part, half in enumerate((rows[100:], rows[:100])):
                write(half, path.with_name(f"part-0000{part}.parquet"))
            path.with_name("_SUCCESS").touch()
        else:
            write(rows, path)
    (tiny / "hive" / "date=__HIVE_DEFAULT_PARTITION__").mkdir(parents=True)
    model = flat_model(tiny, f"{tiny}/{pattern}")
    assert available_partitions(model) == ["2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]
    pd.testing.assert_frame_equal(read(model, "2024-03-03"), parcels(2)[FEATURES], check_dtype=False)
    assert fingerprint(model, partition(model.config, "2024-03-02")) != fingerprint(
        model, partition(model.config, "2024-03-03")
    )
    with pytest.raises(MissingSource, match="2024-03-05"):
        read(model, "2024-03-05")


def test_files_by_iso_week_are_listed_and_read_over_the_turn_of_the_year(tiny):
    monday = pd.Timestamp("2020-12-21", tz="UTC")
    weeks = [
        parcels(week).assign(sent=lambda f, w=week: f["sent"] - f["sent"].min() + monday + pd.Timedelta(7 * w, "D"))
        for week in range(3)
    ]
    for key, rows in zip(("2020-W52", "2020-W53", "2021-W01"), weeks, strict=True):
        write(rows, tiny / "weeks" / f"rows-{key}.parquet")
    model = flat_model(tiny, f"{tiny}/weeks/rows-%G-W%V.parquet", every="W", period="W")
    assert available_partitions(model) == ["2020-W52", "2020-W53", "2021-W01"]
    assert list(read(model, "2020-W53")["weight"]) == list(weeks[1]["weight"])


def test_a_column_of_the_file_is_not_replaced_by_the_folder_of_its_name(tiny):
    """DuckDB would read the folder's date as the time of every row, and the folder's city as that of every row."""
    for day in range(2):
        write(parcels(day), tiny / "hive" / f"sent=2024-03-0{day + 1}" / "City=Rome" / "rows.parquet")
    model = flat_model(tiny, f"{tiny}/hive/sent=%Y-%m-%d/City=Rome/rows.parquet")
    pd.testing.assert_frame_equal(read(model, "2024-03-02"), parcels(1)[FEATURES], check_dtype=False)


def test_a_folder_is_a_column_if_the_file_does_not_have_it(tiny):
    for day in range(2):
        for city in ("Bonn", "Kiel"):
            rows = parcels(day).drop(columns="city").assign(parcel=lambda f, c=city: c + f["parcel"])
            write(rows, tiny / "hive" / f"date=2024-03-0{day + 1}" / f"city={city}" / "rows.parquet")
    model = flat_model(tiny, f"{tiny}/hive/date=%Y-%m-%d/*/rows.parquet")
    assert read(model, "2024-03-02")["city"].value_counts().to_dict() == {"Bonn": 150, "Kiel": 150}


def test_files_without_a_date_may_be_in_folders_by_pattern(tiny):
    for day in range(3):
        write(parcels(day), tiny / "all [x]" / f"region={day % 2}" / f"{day}.parquet")
    model = flat_model(tiny, f"{tiny}/all [x]/*/*.parquet", every=None)
    assert available_partitions(model) == ["2024-03-01", "2024-03-02", "2024-03-03"]
    assert len(read(model, "2024-03-03")) == 150


@pytest.mark.parametrize(
    ("path", "every", "prepare", "part"),
    [
        ("none/date=%Y-%m-%d/rows.parquet", "D", lambda _: None, "matches .*none/date=%Y-%m-%d/rows.parquet for the start of a period"),
        ("data/parcels-%Y-%m.parquet", "M", lambda _: None, r"\(every: M\)"),
        ("none.parquet", None, lambda _: None, "no file matches .*none.parquet"),
        ("empty.parquet", None, lambda folder: write(parcels(0).iloc[:0], folder / "empty.parquet"), "its files have no rows"),
    ],
)  # fmt: skip
def test_a_source_without_any_partition_says_why(tiny, path, every, prepare, part):
    prepare(tiny)
    model = flat_model(tiny, f"{tiny}/{path}", every=every)
    assert available_partitions(model) == []
    with pytest.raises(AssertionError, match=part):
        raise AssertionError(why_no_partition(model))


def test_tables_without_a_common_period_are_named_and_a_source_with_partitions_has_no_message(tiny):
    assert why_no_partition(load_model("tiny")) == ""
    file = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(file.read_text())
    config["source"]["tables"]["vans"] = {"path": f"{tiny}/vans/%Y/%m.parquet", "every": "M"}
    file.write_text(yaml.safe_dump(config))
    assert "no file of table 'vans' matches" in why_no_partition(load_model("tiny"))
    write(parcels(0), tiny / "vans" / "2023" / "01.parquet")
    assert "no period in common" in why_no_partition(load_model("tiny"))
    shutil.rmtree(tiny / "data")
    assert "no file of table 'parcels'" in why_no_partition(load_model("tiny"))


def test_a_path_that_cannot_work_is_refused_when_it_is_loaded(tiny):
    with pytest.raises(ConfigError, match=r"model\.yaml: source\.file: path: .*%U cannot be used"):
        flat_model(tiny, f"{tiny}/%Y-%U.csv", every="W", period="W")


@pytest.mark.parametrize(("name", "other"), [("rows[1].parquet", "rows1.parquet"), ("rows[1].csv", "rows1.csv")])
@pytest.mark.parametrize("kind", ["file", "tables"])
def test_brackets_in_the_name_of_a_file_are_no_pattern_beside_another_file(tiny, name, other, kind):
    folder = tiny / "more" / "2024-03-01"
    write(parcels(0).head(5), folder / name)
    write(parcels(1), folder / other)
    model = flat_model(tiny, f"{tiny}/more/%Y-%m-%d/{name}")
    if kind == "tables":
        file = tiny / "configs" / "tiny" / "model.yaml"
        config = yaml.safe_load(file.read_text())
        config["source"] = {"tables": {"parcels": {"path": f"{tiny}/more/%Y-%m-%d/{name}", "every": "D"}}}
        file.write_text(yaml.safe_dump(config))
        model = load_model("tiny")
    assert list(read(model, "2024-03-01")["parcel"]) == list(parcels(0)["parcel"].head(5))


@pytest.mark.parametrize("name", ["rows.csv.parquet", "rows.txt.parquet"])
def test_the_last_suffix_decides_how_a_file_is_read(tiny, name):
    write(parcels(0), tiny / "more" / name)
    assert len(read(flat_model(tiny, f"{tiny}/more/{name}", every=None), "2024-03-01")) == 150


@pytest.mark.parametrize("pattern", ["*.csv", "a?.csv", "[ab]*.csv", "A*", "none*", "*"])
def test_a_pattern_in_the_last_part_is_matched_as_by_pathlib_and_the_folder_is_read_once(
    tmp_path, monkeypatch, pattern
):
    for name in ("b.csv", "a1.csv", "a2.csv", "A3.csv", ".hidden.csv", "c.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "a4.csv").mkdir()
    (tmp_path / "a5.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "a6.csv").symlink_to(tmp_path / "gone")
    expected = sorted(file for file in tmp_path.glob(pattern) if file.is_file())
    folders, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: folders.append(folder) or scandir(folder))
    assert files.matches(str(tmp_path / pattern)) == expected
    assert folders == [tmp_path]
    assert files.matches(str(tmp_path / "b.csv" / pattern)) == []
    assert files.matches(str(tmp_path / "gone" / pattern)) == []
