"""CSV files as dated tables: SQL sees types that fit all rows, and texts of model.yaml as they are in the files."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.load import Model, load_model
from tasks.errors import SourceMismatch
from tasks.source.rows import read_source
from tasks.storage.partitions import partition
from tests.conftest import parcels

SECOND = "2024-03-02"


def csv_model(tiny: Path, *days: dict[str, list[str]], lookback: str = "1D", select: str = "") -> Model:
    """The tiny model with a CSV file of two rows for each day, in which these texts replace columns."""
    for day, changes in enumerate(days):
        rows = parcels(day).head(2).astype({"late": object}).assign(late="1", **changes)
        rows.to_csv(tiny / "data" / f"parcels-2024-03-0{day + 1}.csv", index=False)
    path = tiny / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text().replace(".parquet", ".csv"))
    config["source"]["lookback"] = lookback
    path.write_text(yaml.safe_dump(config))
    sql = tiny / "configs" / "tiny" / "source.sql"
    text = sql.read_text().replace("SELECT parcel", "SELECT CAST(parcel AS VARCHAR) AS parcel")
    sql.write_text(text.replace("city", select or "CAST(city AS VARCHAR) AS city"))
    return load_model("tiny")


def read(model: Model, key: str = SECOND) -> pd.DataFrame:
    return read_source(model, partition(model.config, key)).to_pandas()


@pytest.mark.parametrize("lookback", ["0D", "1D"])
@pytest.mark.parametrize("column", ["parcel", "city"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["001", "002"], ["123", "124"]),
        (["12", "13"], ["007", "B7"]),
        (["01/02/2024", "02/02/2024"], ["03/02/2024", "B"]),
        (["A", "B"], ["01/02/2024", "02/02/2024"]),
        (["12:30", "12:45"], ["12:30", "12:45"]),
        (["True", "False"], ["False", "True"]),
        (["1.50", "2.25"], ["1.50", "2.00"]),
        (["1", "2"], ["2024-03-01", "2024-03-02"]),
        (["3", "2"], ["12345678901234567891", "12345678901234567892"]),
    ],
)
def test_keys_and_categories_keep_their_text(tiny, column, first, second, lookback):
    model = csv_model(tiny, {column: first}, {column: second}, lookback=lookback)
    assert sorted(read(model)[column]) == sorted(second)


def test_whole_numbers_stay_numbers_for_sql(tiny):
    model = csv_model(tiny, {"city": ["3", "4"]}, {"city": ["7", "9"]}, select="CAST(city // 2 AS VARCHAR) AS city")
    assert sorted(read(model)["city"]) == ["3", "4"]


def test_a_column_that_model_yaml_does_not_have_is_text_if_its_files_disagree(tiny):
    days = {"batch": ["7", "8"]}, {"batch": ["B1", "B2"]}
    model = csv_model(tiny, *days, select="CAST(batch AS VARCHAR) AS city")
    assert list(read(model)["city"]) == ["B1", "B2"]


def test_text_in_a_number_of_another_day_is_refused_with_both_files(tiny):
    model = csv_model(tiny, {"weight": ["heavy", "1"]}, {"weight": ["2", "3"]})
    with pytest.raises(SourceMismatch, match=r"'weight' is VARCHAR in .*03-01\.csv and BIGINT in .*03-02\.csv"):
        read(model)


def test_a_whole_number_that_floating_point_does_not_have_is_refused_with_its_line(tiny):
    model = csv_model(tiny, {}, {"weight": ["0.5", "9007199254740993"]})
    with pytest.raises(
        SourceMismatch, match=r"03-02\.csv: line 3: column 'weight': '9007199254740993' would be rounded"
    ):
        read(model)


@pytest.mark.parametrize(
    "values", [["0x10", "0x11"], ["0b1", "0b0"], ["1_000", "2_000"], ["0.5", "1_000"], ["1", "heavy"]]
)
def test_text_in_a_column_of_numbers_is_refused_with_its_line(tiny, values):
    model = csv_model(tiny, {}, {"weight": values}, lookback="0D")
    line = 2 if values[0][:2] in ("0x", "0b", "1_") else 3
    with pytest.raises(SourceMismatch, match=rf"03-02\.csv: line {line}: column 'weight': '{values[line - 2]}'"):
        read(model)


def test_empty_lines_before_the_names_are_skipped(tiny):
    model = csv_model(tiny, {}, {"weight": ["0.5", "9007199254740993"]})
    path = tiny / "data" / "parcels-2024-03-02.csv"
    path.write_text("\n\n" + path.read_text())
    with pytest.raises(SourceMismatch, match=r"line 5: column 'weight': '9007199254740993' would be rounded"):
        read(model)
    path.write_text(path.read_text().replace("9007199254740993", "2"))
    assert list(read(model)["weight"]) == [0.5, 2.0]


def test_an_apostrophe_is_no_quotation_mark(tiny):
    model = csv_model(tiny, {}, {"city": ["'Anna'", "Bonn, S"]})
    assert list(read(model)["city"]) == ["'Anna'", "Bonn, S"]


def test_a_key_of_another_name_that_is_a_whole_number_with_a_point_is_refused(tiny):
    csv_model(tiny, {}, {"id": ["1.0", "2.0"]})
    path = tiny / "data" / "parcels-2024-03-02.csv"
    pd.read_csv(path, dtype=str).drop(columns="parcel").to_csv(path, index=False)
    sql = tiny / "configs" / "tiny" / "source.sql"
    sql.write_text(sql.read_text().replace("CAST(parcel AS", "CAST(id AS"))
    file = tiny / "configs" / "tiny" / "model.yaml"
    file.write_text(file.read_text().replace("lookback: 1D", "lookback: 0D"))
    with pytest.raises(
        SourceMismatch, match=r"source\.sql: the key 'parcel' is a whole number.* all 2 rows.*CAST\(CAST\("
    ):
        read(load_model("tiny"))
