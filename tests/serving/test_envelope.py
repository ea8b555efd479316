"""All forms of MLflow's scoring protocol are parsed, and invalid requests are refused with the reason."""

import io
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
def test_every_json_form_is_parsed_like_mlflow_does(form):
    table = read({form: FORMS[form]})
    assert table.columns == COLUMNS
    assert table.rows == 3
    parsed_by_mlflow = infer_and_parse_data({form: FORMS[form]})
    for name, values in COLUMNS.items():
        read_by_mlflow = np.asarray(parsed_by_mlflow[name], dtype=object).tolist()
        assert [None if value != value else value for value in read_by_mlflow] == values


def test_requests_of_the_mlflow_client_are_parsed():
    """The client writes NaN for nulls, which is not valid JSON."""
    content = dump_input_data(FRAME).encode()
    assert b"NaN" in content
    assert read(content).columns == COLUMNS


def test_inputs_may_be_a_list_of_rows():
    assert read({"inputs": ROWS}).columns == COLUMNS


@pytest.mark.parametrize("index", [False, True])
def test_csv_values_are_texts_and_the_first_line_has_the_names(index):
    content = FRAME.to_csv(index=index).encode()
    table = read(content, "text/csv; charset=UTF-8")
    assert table.text
    assert table.columns["c"] == ["x", "", 'z, "quoted"']
    assert [float(value or "nan") for value in table.columns["a"]][:2] == [1.5, 2.0]
    assert table.columns["a"][2] == ""
    parsed_by_mlflow = parse_csv_input(io.StringIO(content.decode()))
    assert list(table.columns) == [name for name in parsed_by_mlflow if not name.startswith("Unnamed")]


REFUSED = {
    "invalid JSON": (b"{", 400, "it is not valid JSON"),
    "invalid UTF-8": (b"\xff\xfe", 400, "it is not valid JSON"),
    "infinity": (b'{"inputs": {"a": [Infinity]}}', 400, "Infinity is neither valid JSON nor a valid input"),
    "minus infinity": (b'{"inputs": {"a": [-Infinity]}}', 400, "-Infinity is neither valid JSON"),
    "nested too deeply": (b"[" * 100_000, 400, "it is not valid JSON"),
    "lone surrogate": (b'{"inputs": {"a": ["\\ud800"]}}', 400, "it is not valid JSON"),
    "lone surrogate as a name": (b'{"inputs": {"\\udfff": [1]}}', 400, "it is not valid JSON"),
    "params not an object": ({"inputs": COLUMNS, "params": 5}, 400, "params: must be an empty object, not a number"),
    "a list": ([], 400, "must be an object with one of dataframe_split, .* not a list"),
    "null": (None, 400, "not null"),
    "no form": ({}, 400, "but has nothing"),
    "two forms": ({"inputs": {}, "instances": []}, 400, "exactly one of .* but has inputs, instances"),
    "unknown form": ({"columns": ["a"], "data": [[1]]}, 400, "but has columns, data"),
    "parameters": ({"inputs": COLUMNS, "params": {"t": 1}}, 400, "params: models have no parameters, remove t"),
    "split without data": ({"dataframe_split": {"columns": ["a"]}}, 400, "must have `columns`, .* and `data`"),
    "split with more": (
        {"dataframe_split": {"columns": ["a"], "data": [[1]], "dtype": {}}},
        400,
        "has dtype; remove all but",
    ),
    "a short row": (
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}},
        400,
        "row 1 must be a list with 2 values, not a list with 1",
    ),
    "a row that is a number": (
        {"dataframe_split": {"columns": ["a"], "data": [3]}},
        400,
        "row 0 must be a list .* not a number",
    ),
    "a name twice": ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, 400, "a occur more than once"),
    "records that are numbers": ({"dataframe_records": [1]}, 400, "row 0 must be an object .* not a number"),
    "records in an object": ({"instances": {"a": 1}}, 400, "must be a list of objects, .* not an object"),
    "a column that is a number": ({"inputs": {"a": 1}}, 400, "a must be a list .* not a number"),
    "columns of two lengths": ({"inputs": {"a": [1], "b": [1, 2]}}, 400, "a has 1 values and b has 2"),
    "no rows": ({"dataframe_records": []}, 400, "it has no rows"),
    "no rows in split": ({"dataframe_split": {"columns": ["a"], "data": []}}, 400, "it has no rows"),
    "too many rows": ({"inputs": {"a": [1] * 101}}, 413, "101 rows; this server accepts up to 100"),
    "records with different columns": ({"instances": [{"a": 1, "b": 2}, {"a": 1}]}, 422, "row 1, b: is missing, but"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_requests_are_refused_with_the_reason(name):
    content, status, message = REFUSED[name]
    with pytest.raises(Problem, match=message) as refused:
        read(content)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "it is empty"),
        (b"a,b\n1\n", 400, "row 0 has 1 values"),
        (b'a\n"1', 400, "it is not valid CSV"),
        (b"a,a\n1,2\n", 400, "a occur more than once"),
        (b"a\n\xff\n", 400, "it is not valid UTF-8: invalid start byte at byte 2"),
        (b"a\n", 400, "it has no rows"),
    ],
)
def test_invalid_csv_is_refused(content, status, message):
    with pytest.raises(Problem, match=message) as refused:
        read(content, "text/csv")
    assert refused.value.status == status


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_unsupported_content_types_are_refused(kind):
    with pytest.raises(Problem, match="Content-Type") as refused:
        read({"inputs": COLUMNS}, kind)
    assert refused.value.status == 415


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "UTF8", '"utf-8"', '"Utf8"'])
def test_every_name_of_utf_8_is_accepted(charset):
    assert read({"inputs": {"a": ["é"]}}, f"application/json; charset={charset}").columns == {"a": ["é"]}


@pytest.mark.parametrize("number", ["1", "NaN"])  # orjson does not parse NaN, so another parser does
def test_the_last_value_of_a_name_that_occurs_twice_counts(number):
    table = read(b'{"dataframe_records": [{"a": 1, "b": %s, "a": 2}]}' % number.encode())
    assert table.columns["a"] == [2]
    assert read(b'{"inputs": {"a": [1], "b": [%s], "a": [2]}}' % number.encode()).columns["a"] == [2]


def test_numbers_of_any_size_are_parsed():
    table = read(b'{"inputs": {"a": [123456789012345678901234567890, 1e999, 0.1]}}')
    assert table.columns["a"][0] in (123456789012345678901234567890, 1.2345678901234568e29)
    assert math.isinf(table.columns["a"][1])
