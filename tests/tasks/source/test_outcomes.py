"""Outcomes of any type: whole numbers or text as classes, text or booleans as numbers, NaN and null as not known."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import load_model
from tasks.contracts import Stage
from tasks.errors import SourceMismatch
from tasks.resources import open_resources
from tasks.source.rows import read_labels
from tasks.steps.collect import COLLECT
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.storage.partitions import partition
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.long

DAY = "2024-03-01"
MULTICLASS, BINARY = {"kind": "multiclass", "classes": [0, 1, 2]}, {"kind": "binary"}


def configure(folder, target: dict, values, form: str) -> None:
    """Write the outcomes, one per row, as a flat file, or as a day's file that labels.sql reads."""
    model = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(model.read_text())
    config["target"] = {"column": "late", "delay": "1D"} | target
    loss = "squared_error" if target["kind"] == "regression" else "log_loss"
    config["gate"] |= {"floor": {loss: 1.0}}
    rows = parcels(0).head(len(values)).assign(late=values)
    if form == "labels.sql":
        rows.to_parquet(day_file(folder, 0), index=False)
    else:
        path = folder / "data" / f"flat.{form}"
        config["source"] = {"file": {"path": str(path)}}
        rows.to_parquet(path, index=False) if form == "parquet" else rows.to_csv(path, index=False)
    model.write_text(yaml.safe_dump(config))


def outcomes(folder, target: dict, values, form: str) -> list:
    configure(folder, target, values, form)
    model = load_model("tiny")
    labels = read_labels(model, partition(model.config, DAY)).to_pandas().sort_values("parcel")
    assert list(labels["parcel"]) == list(parcels(0)["parcel"].head(len(values)))
    return list(labels["late"])


def collect():
    """The labels of the day, and their record."""
    res = open_resources("tiny")
    advance(INGEST, res.ref(DAY), res)
    return advance(COLLECT, res.ref(DAY), res), res


CLASSES = {
    "int64": [0, 2, 1],
    "int8": np.array([0, 2, 1], "int8"),
    "uint64": np.array([0, 2, 1], "uint64"),
    "float64": [0.0, 2.0, 1.0],
    "float32": np.array([0, 2, 1], "float32"),
    "decimal": [Decimal("0.00"), Decimal("2.00"), Decimal("1.00")],
    "text": ["0", "2", "1"],
    "categorical": pd.Categorical([0, 2, 1]),
}


@pytest.mark.parametrize("form", ["parquet", "csv", "labels.sql"])
@pytest.mark.parametrize("kind", CLASSES)
def test_classes_may_be_whole_numbers_of_any_type(tiny, form, kind):
    assert outcomes(tiny, MULTICLASS, CLASSES[kind], form) == ["0", "2", "1"]


ZERO_ONE = {
    "int64": [0, 1, 1],
    "bool": [False, True, True],
    "text": ["0", "1", "1"],
    "text with a point": ["0.0", "1.0", "1"],
    "text of booleans": ["False", "true", "TRUE"],
    "float32": np.array([0, 1, 1], "float32"),
    "decimal": [Decimal("0.0"), Decimal("1.0"), Decimal("1.0")],
    "categorical": pd.Categorical(["0", "1", "1"]),
}


@pytest.mark.parametrize("form", ["parquet", "csv", "labels.sql"])
@pytest.mark.parametrize("kind", ZERO_ONE)
def test_a_binary_outcome_may_be_text_or_boolean(tiny, form, kind):
    assert outcomes(tiny, BINARY, ZERO_ONE[kind], form) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_numbers_of_a_regression_may_be_text(tiny, form):
    assert outcomes(tiny, {"kind": "regression"}, ["1", "-2.5", "1e3"], form) == [1, -2.5, 1000]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(("target", "known"), [(MULTICLASS, "1"), (BINARY, 1), ({"kind": "regression"}, 1)])
def test_nan_and_null_of_a_flat_file_are_not_known_yet(tiny, form, target, known):
    import pyarrow as pa
    import pyarrow.parquet as pq

    configure(tiny, target, [1.0, 1.0, 1.0], form)
    path = tiny / "data" / f"flat.{form}"
    rows = parcels(0).head(3)
    table = pa.Table.from_pandas(rows.drop(columns="late")).append_column("late", pa.array([1.0, float("nan"), None]))
    if form == "parquet":
        pq.write_table(table, path)
    else:
        rows.assign(late=["1.0", "nan", ""]).to_csv(path, index=False)
    record, res = collect()
    assert record.status == "done", record.reason
    counts = {name: record.data[name] for name in ("mature", "never", "pending", "faulty")}
    assert counts == {"mature": 1, "never": 0, "pending": 2, "faulty": 0}
    assert list(res.lake.read(Stage.LABELS, DAY)["late"]) == [known]


@pytest.mark.parametrize("form", ["parquet", "labels.sql"])
@pytest.mark.parametrize("values", [[1.0, np.nan, 1.0], [np.nan, 1.0, 0.0], [0.0, 1.0, np.nan], [np.nan] * 3])
@pytest.mark.parametrize("target", [MULTICLASS, BINARY, {"kind": "regression"}])
def test_nan_of_a_parquet_file_is_missing_whatever_its_statistics_are(tiny, form, values, target):
    """Statistics ignore NaN: with 1 and NaN both the lowest and the highest value are 1. pandas writes null, so Arrow writes this file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    configure(tiny, target, values, form)
    table = pa.Table.from_pandas(parcels(0).head(3).drop(columns="late"), preserve_index=False)
    path = day_file(tiny, 0) if form == "labels.sql" else tiny / "data" / "flat.parquet"
    pq.write_table(table.append_column("late", pa.array(values)), path)
    model = load_model("tiny")
    found = read_labels(model, partition(model.config, DAY)).column("late").to_pylist()
    known = [None if np.isnan(v) else str(int(v)) if target is MULTICLASS else v for v in values]
    assert found == (known if form == "labels.sql" else [value for value in known if value is not None])


def test_a_class_that_is_a_number_with_a_point_stays_as_it_is(tiny):
    names = ["0.0", "1.0", "nan"]
    assert outcomes(tiny, MULTICLASS | {"classes": names}, names, "parquet") == names


@pytest.mark.parametrize("form", ["parquet", "labels.sql"])
def test_the_error_for_an_outcome_of_another_type_names_the_file(tiny, form):
    configure(tiny, BINARY, pd.to_datetime(["2024-03-01"] * 3), form)
    file = "labels.sql" if form == "labels.sql" else "flat.parquet"
    with pytest.raises(
        SourceMismatch, match=f"{file}: column 'late' is TIMESTAMP.*, but must be a number or text; cast it$"
    ):
        read_labels(load_model("tiny"), partition(load_model("tiny").config, DAY))


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_text_that_is_no_number_is_refused_with_file_column_and_value(tiny, kind):
    configure(tiny, {"kind": kind}, ["1", "often", "0"], "parquet")
    with pytest.raises(
        SourceMismatch, match=r"flat\.parquet: column 'late': 'often' is not a number; correct it"
    ) as error:
        read_labels(load_model("tiny"), partition(load_model("tiny").config, DAY))
    assert "SQL" not in str(error.value)
    assert "stored rows" not in str(error.value)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_empty_text_is_a_missing_outcome(tiny, form, kind):
    configure(tiny, {"kind": kind}, ["1", "", "0"], form)
    model = load_model("tiny")
    assert read_labels(model, partition(model.config, DAY)).column("late").to_pylist() == [1, 0]


@pytest.mark.parametrize(
    ("form", "place"), [("parquet", r"flat\.parquet$"), ("labels.sql", r"labels\.sql or its tables$")]
)
def test_faulty_labels_name_the_first_row_and_where_it_comes_from(tiny, form, place):
    configure(tiny, MULTICLASS, [0, 7, 1], form)
    record, _ = collect()
    assert record.status == "blocked"
    assert pd.Series([record.reason]).str.contains(rf"1 of 3 .*parcel '00-001' and late 7\. Fix .*{place}").all()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["yes", True, "maybe"], r"classes\.1: YAML reads yes, no.*quotation marks.*True"),
        ([0, "0", 1, 2], "classes: named twice: 0"),
        ([0, 1], "at least three"),
        ([0.5, 1, 2], r"classes\.0: .*string.*0\.5"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(tiny, classes, message):
    configure(tiny, {"kind": "multiclass", "classes": classes}, [0, 1, 2], "parquet")
    with pytest.raises(ConfigError, match=message):
        load_model("tiny")
