"""MLflow's scoring protocol is read in all its forms, and what is no request of it is refused with what is wrong."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input
from mlflow.utils.proto_json_utils import dump_input_data

from serving.envelope import read_table
from serving.problems import Problem

FRAME = pd.DataFrame({"a": [1.5, 2.0, np.nan], "b": [1, 2, 3], "c": ["x", None, 'z, "quoted"']})
ROWS = json.loads(FRAME.to_json(orient="records"))
COLUMNS = {name: [row[name] for row in ROWS] for name in FRAME}
FORMS = {
    "dataframe_split": {"columns": list(FRAME), "data": [list(row.values()) for row in ROWS], "index": [0, 1, 2]},
    "dataframe_records": ROWS,
    "instances": ROWS,
    "inputs": COLUMNS,
}


def read(content: object, kind: str = "application/json"):
    return read_table(content if isinstance(content, bytes) else json.dumps(content).encode(), kind, 100)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_rows_that_mlflow_reads(form):
    found = read({form: FORMS[form]})
    assert found.columns == COLUMNS
    assert found.rows == 3
    theirs = infer_and_parse_data({form: FORMS[form]})
    for name, values in COLUMNS.items():
        read_by_mlflow = np.asarray(theirs[name], dtype=object).tolist()
        assert [None if value != value else value for value in read_by_mlflow] == values


def test_what_mlflows_own_client_sends_is_read():
    """It writes NaN where a frame has nulls, which is no JSON."""
    content = dump_input_data(FRAME).encode()
    assert b"NaN" in content
    assert read(content).columns == COLUMNS


def test_inputs_may_be_rows_too():
    assert read({"inputs": ROWS}).columns == COLUMNS


@pytest.mark.parametrize("index", [False, True])
def test_csv_is_text_with_the_first_line_as_names(index):
    content = FRAME.to_csv(index=index).encode()
    found = read(content, "text/csv; charset=UTF-8")
    assert found.text
    assert found.columns["c"] == ["x", "", 'z, "quoted"']
    assert [float(value or "nan") for value in found.columns["a"]][:2] == [1.5, 2.0]
    assert found.columns["a"][2] == ""
    theirs = parse_csv_input(__import__("io").StringIO(content.decode()))
    assert list(found.columns) == [name for name in theirs if not name.startswith("Unnamed")]


REFUSED = {
    "no JSON": (b"{", 400, "it is no JSON"),
    "no text": (b"\xff\xfe", 400, "it is no JSON"),
    "an infinity": (b'{"inputs": {"a": [Infinity]}}', 400, "Infinity is no JSON and no number"),
    "minus infinity": (b'{"inputs": {"a": [-Infinity]}}', 400, "-Infinity is no JSON"),
    "nested beyond measure": (b"[" * 100_000, 400, "it is no JSON"),
    "half of a character": (b'{"inputs": {"a": ["\\ud800"]}}', 400, "it is no JSON"),
    "half of a character as a name": (b'{"inputs": {"\\udfff": [1]}}', 400, "it is no JSON"),
    "parameters that are none": ({"inputs": COLUMNS, "params": 5}, 400, "params: must be an object .* but is a number"),
    "a list": ([], 400, "must be an object with one of dataframe_split, .* but is a list"),
    "null": (None, 400, "but is null"),
    "no form": ({}, 400, "and has nothing"),
    "two forms": ({"inputs": {}, "instances": []}, 400, "exactly one of .* and has inputs, instances"),
    "another form": ({"columns": ["a"], "data": [[1]]}, 400, "and has columns, data"),
    "parameters": ({"inputs": COLUMNS, "params": {"t": 1}}, 400, "params: these models take none, but there are t"),
    "split without data": ({"dataframe_split": {"columns": ["a"]}}, 400, "must have `columns`, .* and `data`"),
    "split with more": ({"dataframe_split": {"columns": ["a"], "data": [[1]], "dtype": {}}}, 400, "has dtype; only"),
    "a short row": (
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}},
        400,
        "row 1 is 1 values; .* of 2",
    ),
    "a row that is none": ({"dataframe_split": {"columns": ["a"], "data": [3]}}, 400, "row 0 is a number"),
    "a name twice": ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, 400, "a is named twice"),
    "records that are none": ({"dataframe_records": [1]}, 400, "row 0 is a number; each row is an object"),
    "records in an object": ({"instances": {"a": 1}}, 400, "must be a list of objects, .* but is an object"),
    "a column that is no list": ({"inputs": {"a": 1}}, 400, "a is a number; each column is a list"),
    "columns of two lengths": ({"inputs": {"a": [1], "b": [1, 2]}}, 400, "a has 1 values and b 2"),
    "no row": ({"dataframe_records": []}, 400, "there is no row in it"),
    "no row in split": ({"dataframe_split": {"columns": ["a"], "data": []}}, 400, "there is no row in it"),
    "too many rows": ({"inputs": {"a": [1] * 101}}, 413, "101 rows; this server takes 100"),
    "uneven records": ({"instances": [{"a": 1, "b": 2}, {"a": 1}]}, 422, "row 1, b: is missing here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_with_what_is_wrong(name):
    content, status, told = REFUSED[name]
    with pytest.raises(Problem, match=told) as refused:
        read(content)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"", 400, "no line in it"),
        (b"a,b\n1\n", 400, "row 0 has 1 values"),
        (b'a\n"1', 400, "it is no CSV"),
        (b"a,a\n1,2\n", 400, "a is named twice"),
        (b"a\n\xff\n", 400, "it is no UTF-8: invalid start byte at byte 2"),
        (b"a\n", 400, "there is no row"),
    ],
)
def test_what_is_no_csv_is_refused(content, status, told):
    with pytest.raises(Problem, match=told) as refused:
        read(content, "text/csv")
    assert refused.value.status == status


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_another_content_type_is_refused(kind):
    with pytest.raises(Problem, match="Content-Type") as refused:
        read({"inputs": COLUMNS}, kind)
    assert refused.value.status == 415


def test_numbers_of_any_size_are_read_as_they_are():
    found = read(b'{"inputs": {"a": [123456789012345678901234567890, 1e999, 0.1]}}')
    assert found.columns["a"][0] in (123456789012345678901234567890, 1.2345678901234568e29)
    assert math.isinf(found.columns["a"][1])
