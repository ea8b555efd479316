"""A row is refused if Great Expectations would quarantine it, or if its values have wrong types or columns."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.expectations import Expectation
from configs.features import LARGEST_NUMBER, Features
from configs.schema import ModelConfig
from serving.contract import contract_of
from serving.envelope import Table, read_table
from serving.openapi import example_of, field_schema
from serving.problems import Problem
from serving.versions import booleans_of
from tasks.source.values import number_sql
from tasks.validation.expectations import structural_expectations, validate_frame
from tests.tasks.models.test_estimators import config

NOW = datetime(2024, 3, 1, tzinfo=UTC)
CHECKS = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": -2, "max_value": 3}},
    {"type": "expect_column_values_to_be_between", "severity": "warning", "kwargs": {"column": "b", "min_value": 0, "strict_min": True}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "b", "max_value": 5, "strict_max": True, "mostly": 0.2}},
    {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "b", "value_set": [2, 4]}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "c", "value_set": ["x", "yy", "zzz", ""]}},
    {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "c", "min_value": 1, "max_value": 2}},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "d", "regex": "^[a-z]+"}},
    {"type": "expect_column_values_to_not_match_regex", "kwargs": {"column": "d", "regex": "b$"}},
    {"type": "expect_column_value_lengths_to_equal", "severity": "info", "kwargs": {"column": "d", "value": 1}},
    {"type": "expect_column_values_to_not_be_null", "columns": ["a", "c"]},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "b", "mostly": 0.1}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "d"}},
    {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}},
]  # fmt: skip


def make_config(**more) -> ModelConfig:
    plain = config().model_dump(exclude={"features"})
    plain |= {"features": {"numeric": ["a", "b"], "categorical": ["c", "d"]}, "expectations": CHECKS} | more
    return ModelConfig.model_validate(plain)


def validate(model: ModelConfig, columns: dict, text: bool = False):
    count = len(next(iter(columns.values())))
    return contract_of(model, model.features).validate(Table(columns, count, text), NOW)


def faults_of(model: ModelConfig, columns: dict, text: bool = False):
    """Return the faults of an invalid request."""
    with pytest.raises(Problem) as problem:
        validate(model, columns, text)
    assert problem.value.status == 422
    return [(fault.row, fault.field, fault.problem) for fault in problem.value.faults]


numbers = st.one_of(st.none(), st.sampled_from([-2.0, 3.0, 0.0, 5.0, 2.0, 4.0, 1]), st.floats(-10, 10))
texts = st.one_of(st.none(), st.sampled_from(["x", "yy", "zzz", "", "a", "ab", "B", "b"]), st.text(max_size=3))


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, texts, texts), min_size=1, max_size=25))
def test_rows_are_refused_if_great_expectations_would_quarantine_them(rows):
    model = make_config()
    # Uniqueness and counts need several rows, so they are not checked here. Expectations of severity info refuse nothing.
    expectations = [
        Expectation.model_validate(check_)
        for check_ in CHECKS
        if "unique" not in check_["type"] and "table" not in check_["type"]
    ]
    frame = pd.DataFrame(rows, columns=["a", "b", "c", "d"]).astype({"a": "float64", "b": "float64"})
    invalid = set(validate_frame(frame.assign(id=np.arange(len(frame)).astype(str)), expectations, "id").bad)
    for i, row in enumerate(rows):
        columns = {name: [value] for name, value in zip("abcd", row, strict=True)}
        if i in invalid:
            assert faults_of(model, columns)
        else:
            validate(model, columns)
    columns_of_all = {name: [row[i] for row in rows] for i, name in enumerate("abcd")}
    if invalid:
        assert {row for row, *_ in faults_of(model, columns_of_all)} == invalid
    else:
        assert validate(model, columns_of_all).rows == len(rows)


GOOD = {"a": [1.0], "b": [1.5], "c": ["x"], "d": ["a"]}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"a": ["1.5"]}, (0, "a", "is not a number")),
        ({"a": [[1]]}, (0, "a", "is not a number")),
        ({"a": [float("inf")]}, (0, "a", "is not a finite number")),
        ({"b": [1e39]}, (0, "b", "is larger than float32 can hold (3.40282e+38)")),
        ({"b": [10**39]}, (0, "b", "is larger than float32 can hold (3.40282e+38)")),
        ({"b": [10**400]}, (0, "b", "is larger than float32 can hold (3.40282e+38)")),
        ({"a": [None]}, (0, "a", "must not be null")),
        ({"a": [3.5]}, (0, "a", "must be from -2 to 3")),
        ({"b": [2]}, (0, "b", "must not be one of 2, 4")),
        ({"c": [1]}, (0, "c", "is not a text")),
        ({"c": ["y"]}, (0, "c", "must be one of x, yy, zzz, ")),
        ({"d": ["B"]}, (0, "d", "must match ^[a-z]+")),
        ({"at": ["yesterday"]}, (0, "at", "is not a time; write it like 2013-05-14T10:30:00-04:00")),
        ({"at": [1.0]}, (0, "at", "is not a time; write it like 2013-05-14T10:30:00-04:00")),
        ({"at": ["2024-03-01T10:00:00"]}, (0, "at", "has no time zone; write it like 2013-05-14T10:30:00-04:00")),
        (
            {"at": ["2024-03-03T10:00:00Z"]},
            (0, "at", "is more than a day in the future; the server's time is 2024-03-01T00:00Z"),
        ),
        ({"at": ["0999-01-01T00:00:00Z"]}, (0, "at", "is before 1900")),
        ({"at": ["0001-01-01T00:00:00+14:00"]}, (0, "at", "is before 1900")),
        ({"id": [False]}, (0, "id", "must be a text or a whole number")),
        ({"id": [[]]}, (0, "id", "must be a text or a whole number")),
        ({"id": [1.5]}, (0, "id", "must be a text or a whole number")),
    ],
)
def test_a_fault_names_row_field_and_problem(changed, fault):
    assert faults_of(make_config(), GOOD | changed) == [fault]


def test_missing_and_extra_columns_are_refused():
    columns = {name: values for name, values in GOOD.items() if name != "b"} | {"e": [1]}
    (_, first, _), (_, second, message) = faults_of(make_config(), columns)
    assert (first, second) == ("b", "e")
    assert "this model has the columns a, b, c, d, id, at" in message


def test_whole_features_refuse_fractions():
    """`mlflow models serve` accepts 1.5 for an integer."""
    plain = make_config()
    whole = plain.features.model_copy(update={"whole": ("b",)})
    model = plain.model_copy(update={"features": whole})
    assert faults_of(model, GOOD) == [(0, "b", "must be a whole number")]
    assert validate(model, GOOD | {"b": [3.0]}).values["b"].tolist() == [3.0]
    assert plain.features.model_dump(mode="json") == {
        "numeric": ["a", "b"],
        "categorical": ["c", "d"],
    }  # an empty `whole` does not change the digest of the features


def test_values_are_converted_to_the_types_of_their_columns():
    rows_ = validate(make_config(), GOOD | {"a": [True], "id": [7], "at": ["2024-03-01T10:00:00+02:00"]})
    assert rows_.values["a"].dtype == np.float64
    assert rows_.values["a"].tolist() == [1.0]
    assert rows_.keys == ["7"]
    assert rows_.times == [datetime(2024, 3, 1, 8, tzinfo=UTC)]
    assert set(rows_.values) == set("abcd")
    assert validate(make_config(), GOOD).keys == [None]


def test_csv_texts_are_converted_to_the_types_of_their_columns():
    rows_ = validate(make_config(), {"a": ["1"], "b": ["true"], "c": ["x"], "d": [""]}, text=True)
    assert (rows_.values["a"].tolist(), rows_.values["b"].tolist(), rows_.values["d"]) == ([1.0], [1.0], [None])
    assert faults_of(make_config(), {"a": ["one"], "b": ["1,5"], "c": ["x"], "d": [""]}, text=True) == [
        (0, "a", "is not a number"),
        (0, "b", "is not a number"),
    ]


FREE = {"features": {"numeric": ["a", "b"], "categorical": ["c", "d"]}, "expectations": []}
BIGGEST = "3.4028234663852886e38"
"""The largest number of float32, exactly."""


@pytest.mark.parametrize(
    "line",
    [
        *(
            f"1,{number},x,y"
            for number in ("1e30", "9007199254740993", "-9007199254740995", BIGGEST, "1e31", "nan", "NaN")
        ),
        *(
            f"1,{number},x,y"
            for number in ("340282346638528899811704183484516925440", "-3.5e38", "1e39", "1" * 39, "inf")
        ),
        "NaN,1,NaN,nan",
        f"1,1,{'x' * 1001},{'y' * 100_000}",
    ],
)
def test_a_value_means_the_same_in_a_request_and_in_a_partition(line, tmp_path):
    """A batch reads a CSV file with DuckDB, converts numbers to DOUBLE, and quarantines what every model's expectations refuse."""
    model = make_config(**FREE)
    (tmp_path / "rows.csv").write_text(f"a,b,c,d\n{line}\n2,2,x,y\n")
    a, b = (number_sql(name, "VARCHAR", from_text=True, file="'rows.csv'") for name in "ab")
    table = read_table((tmp_path / "rows.csv").read_bytes(), "text/csv", 10)
    try:
        with duckdb.connect() as con:
            batch = con.sql(
                f"SELECT {a} AS a, {b} AS b, c, d FROM read_csv('{tmp_path}/rows.csv', all_varchar=true)"
            ).df()
    except duckdb.Error as error:
        problem = "rounded" if "would be rounded" in str(error) else "is not a number"
        with pytest.raises(Problem, match=f"{problem}|larger than float32"):
            contract_of(model, model.features).validate(table, NOW)
        return
    frame = batch.assign(id=["1", "2"], at=pd.Timestamp("2024-01-01", tz="UTC"))
    quarantined = validate_frame(frame, structural_expectations(model), "id").bad
    if quarantined:
        with pytest.raises(Problem, match=r"larger than float32|not a (finite )?number"):
            contract_of(model, model.features).validate(table, NOW)
        return
    values = contract_of(model, model.features).validate(table, NOW).values
    for name in "ab":
        assert values[name].tobytes() == batch[name].to_numpy().tobytes(), name
    for name in "cd":
        assert values[name] == batch[name].tolist(), name
    as_json = {name: [None if number != number else number for number in batch[name].tolist()] for name in "ab"}
    as_json |= {name: values[name] for name in "cd"}
    by_json = contract_of(model, model.features).validate(
        read_table(json.dumps({"inputs": as_json}).encode(), "application/json", 10), NOW
    )
    assert by_json.values["b"].tobytes() == values["b"].tobytes()


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 3, 10**30])
def test_a_whole_number_that_float64_does_not_have_is_refused(number):
    columns = {"a": [number, 1], "b": [1, 1], "c": ["x", "x"], "d": ["y", "y"]}
    assert [fault[:2] for fault in faults_of(make_config(**FREE), columns)] == [(0, "a")]
    for text in (str(number), f"{number}.0"):
        table = read_table(f"a,b,c,d\n{text},1,x,y\n".encode(), "text/csv", 10)
        with pytest.raises(Problem, match="rounded"):
            contract_of(make_config(**FREE), make_config(**FREE).features).validate(table, NOW)


@pytest.mark.parametrize("number", [2**53, 2**53 + 2, -(2**60), 1e30])
def test_a_large_number_that_float64_has_is_accepted(number):
    columns = {"a": [number, 1], "b": [1, 1], "c": ["x", "x"], "d": ["y", "y"]}
    assert validate(make_config(**FREE), columns).values["a"].tolist() == [float(number), 1.0]


def test_the_schema_and_example_of_a_boolean_are_boolean():
    flags = [{"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "b", "value_set": [True, False]}}]
    model = make_config(features={"numeric": ["a", "b", "e"], "categorical": ["c"]}, expectations=flags)
    fields = contract_of(model, model.features, ["e"]).fields
    assert example_of(fields["a"]) == 1.5
    assert example_of(fields["b"]) is example_of(fields["e"]) is True
    assert field_schema(fields["b"]) == {"type": ["boolean", "number", "null"], "enum": [True, False, None]}
    assert field_schema(fields["e"])["type"] == ["boolean", "number", "null"]
    assert field_schema(fields["a"]) == {
        "type": ["number", "null"],
        "minimum": -LARGEST_NUMBER,
        "maximum": LARGEST_NUMBER,
    }


def test_features_that_are_0_and_1_in_the_lake_are_boolean():
    features = Features(numeric=("flag", "with_nulls", "constant", "share", "count", "empty"))
    columns = {"flag": [0.0, 1.0, 1.0], "with_nulls": [None, 1.0, 0.0], "constant": [1.0, 1.0, 1.0]}
    columns |= {"share": [0.0, 0.5, 1.0], "count": [0.0, 1.0, 2.0], "empty": [None, None, None]}
    schema = pa.schema([(name, pa.float64()) for name in columns])
    assert booleans_of(pa.table(columns, schema), features) == ["flag", "with_nulls"]
    assert booleans_of(None, features) == []


def test_at_most_100_faults_are_listed():
    faults = faults_of(make_config(), {name: values * 300 for name, values in GOOD.items()} | {"a": [9.0] * 300})
    assert len(faults) == 100
    assert faults[99] == (99, "a", "must be from -2 to 3")


def test_expectations_about_several_rows_are_listed_as_unchecked():
    contract = contract_of(make_config(), make_config().features)
    assert contract.unchecked == ("expect_column_values_to_be_unique(d)", "expect_table_row_count_to_be_between")


def test_long_and_nested_values_are_shortened_in_problems():
    deep = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(Problem) as problem:
        validate(make_config(), GOOD | {"a": [deep], "d": ["A" * 5000]})
    errors = json.loads(problem.value.response().body)["errors"]
    assert [(check_["field"], len(check_["value"])) for check_ in errors] == [("a", len("a list")), ("d", 203)]


def test_unknown_columns_are_refused_and_not_cached():
    model = make_config()
    contract = contract_of(model, model.features)
    columns = GOOD | {f"x{i}": [1] for i in range(50_000)}
    with pytest.raises(Problem) as problem:
        contract.validate(Table(columns, 1), NOW)
    assert len(problem.value.faults) <= 101
    assert contract.layout.cache_info().currsize == 0


def test_a_model_with_categorical_features_only_is_validated():
    plain = make_config(expectations=[], features={"categorical": ["c", "d"]})
    assert validate(plain, {"c": ["x", None], "d": ["y", "z"]}).values == {"c": ["x", None], "d": ["y", "z"]}
    assert faults_of(plain, {"c": [1], "d": ["y"]}) == [(0, "c", "is not a text")]


def test_expectations_with_a_row_condition_are_unchecked():
    some = {"column": "a", "row_condition": "b > 1", "condition_parser": "pandas"}
    check_some = {"type": "expect_column_values_to_not_be_null", "kwargs": some}
    model = make_config(expectations=[check_some])
    assert validate(model, GOOD | {"a": [None]}).rows == 1
    assert contract_of(model, model.features).unchecked == ("expect_column_values_to_not_be_null(a)",)


def test_strict_length_bounds_are_exclusive():
    strict = {
        "type": "expect_column_value_lengths_to_be_between",
        "kwargs": {"column": "d", "max_value": 3, "strict_max": True},
    }
    frame = pd.DataFrame({"id": ["1", "2"], "d": ["ab", "abc"]})
    assert set(validate_frame(frame, [Expectation.model_validate(strict)], "id").bad) == {1}
    model = make_config(expectations=[strict])
    twice = {name: values * 2 for name, values in GOOD.items()} | {"d": ["ab", "abc"]}
    assert faults_of(model, twice) == [(1, "d", "must have 0 to 2 characters")]


def test_times_less_than_a_day_ahead_are_accepted():
    i = (NOW + timedelta(hours=23)).isoformat()
    assert validate(make_config(), GOOD | {"at": [i]}).times[0] is not None
