"""A row is refused exactly where Great Expectations would put it into quarantine, and for what only a request can have wrong."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import Expectation, ModelConfig
from serving.contract import contract_of
from serving.envelope import Table
from serving.problems import Problem
from tasks.validation.expectations import check
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


def made(**more) -> ModelConfig:
    plain = config().model_dump(exclude={"features"})
    plain |= {"features": {"numeric": ["a", "b"], "categorical": ["c", "d"]}, "expectations": CHECKS} | more
    return ModelConfig.model_validate(plain)


def hold(model: ModelConfig, columns: dict, text: bool = False):
    count = len(next(iter(columns.values())))
    return contract_of(model, model.features).hold(Table(columns, count, text), NOW)


def refused(model: ModelConfig, columns: dict, text: bool = False):
    """The faults of the refusal."""
    with pytest.raises(Problem) as problem:
        hold(model, columns, text)
    assert problem.value.status == 422
    return [(fault.row, fault.field, fault.problem) for fault in problem.value.faults]


numbers = st.one_of(st.none(), st.sampled_from([-2.0, 3.0, 0.0, 5.0, 2.0, 4.0, 1]), st.floats(-10, 10))
texts = st.one_of(st.none(), st.sampled_from(["x", "yy", "zzz", "", "a", "ab", "B", "b"]), st.text(max_size=3))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, texts, texts), min_size=1, max_size=25))
def test_rows_are_refused_where_great_expectations_would_quarantine_them(rows):
    model = made()
    # Uniqueness and counts need more than a row, and what only informs refuses nothing.
    known = [
        Expectation.model_validate(one) for one in CHECKS if "unique" not in one["type"] and "table" not in one["type"]
    ]
    frame = pd.DataFrame(rows, columns=["a", "b", "c", "d"]).astype({"a": "float64", "b": "float64"})
    wrong = set(check(frame.assign(id=np.arange(len(frame)).astype(str)), known, "id").bad)
    for at, row in enumerate(rows):
        columns = {name: [value] for name, value in zip("abcd", row, strict=True)}
        if at in wrong:
            assert refused(model, columns)
        else:
            hold(model, columns)
    together = {name: [row[at] for row in rows] for at, name in enumerate("abcd")}
    if wrong:
        assert {row for row, *_ in refused(model, together)} == wrong
    else:
        assert hold(model, together).rows == len(rows)


GOOD = {"a": [1.0], "b": [1.5], "c": ["x"], "d": ["a"]}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"a": ["1.5"]}, (0, "a", "is no number")),
        ({"a": [[1]]}, (0, "a", "is no number")),
        ({"a": [float("inf")]}, (0, "a", "is no finite number")),
        ({"a": [2**53 + 1]}, (0, "a", "is a whole number too large for float64 to have it exactly")),
        ({"a": [10**400]}, (0, "a", "is a whole number too large for float64 to have it exactly")),
        ({"a": [None]}, (0, "a", "must not be null")),
        ({"a": [3.5]}, (0, "a", "must be from -2 to 3")),
        ({"b": [2]}, (0, "b", "must be none of 2, 4")),
        ({"c": [1]}, (0, "c", "is no text")),
        ({"c": ["y"]}, (0, "c", "must be one of x, yy, zzz, ")),
        ({"d": ["B"]}, (0, "d", "must match ^[a-z]+")),
        ({"at": ["yesterday"]}, (0, "at", "is no time; write it like 2013-05-14T10:30:00-04:00")),
        ({"at": [1.0]}, (0, "at", "is no time; write it like 2013-05-14T10:30:00-04:00")),
        ({"at": ["2024-03-01T10:00:00"]}, (0, "at", "has no time zone; write it like 2013-05-14T10:30:00-04:00")),
        ({"at": ["2024-03-03T10:00:00Z"]}, (0, "at", "lies more than a day in the future; it is 2024-03-01T00:00Z")),
        ({"at": ["0999-01-01T00:00:00Z"]}, (0, "at", "lies before 1900")),
        ({"at": ["0001-01-01T00:00:00+14:00"]}, (0, "at", "lies before 1900")),
        ({"id": [False]}, (0, "id", "is no key: a text of at most 200 characters, or a whole number")),
        ({"id": [[]]}, (0, "id", "is no key: a text of at most 200 characters, or a whole number")),
        ({"d": ["a" * 1001]}, (0, "d", "is longer than 1000 characters")),
        ({"id": [1.5]}, (0, "id", "is no key: a text of at most 200 characters, or a whole number")),
        ({"id": ["x" * 201]}, (0, "id", "is no key: a text of at most 200 characters, or a whole number")),
    ],
)
def test_a_refusal_names_row_field_and_value(changed, fault):
    assert refused(made(), GOOD | changed) == [fault]


def test_missing_and_extra_columns_are_refused():
    given_ = {name: values for name, values in GOOD.items() if name != "b"} | {"e": [1]}
    (_, first, _), (_, second, told) = refused(made(), given_)
    assert (first, second) == ("b", "e")
    assert "it takes a, b, c, d, id, at" in told


def test_whole_numbers_are_asked_for_where_model_yaml_says_so():
    """The complaint about `mlflow models serve` that it takes 1.5 for an integer."""
    plain = made()
    whole = plain.features.model_copy(update={"whole": ("b",)})
    model = plain.model_copy(update={"features": whole})
    assert refused(model, GOOD) == [(0, "b", "must be a whole number")]
    assert hold(model, GOOD | {"b": [3.0]}).values["b"].tolist() == [3.0]
    assert plain.features.model_dump(mode="json") == {
        "numeric": ["a", "b"],
        "categorical": ["c", "d"],
    }  # nothing gets stale


def test_values_come_in_their_types():
    found = hold(made(), GOOD | {"a": [True], "id": [7], "at": ["2024-03-01T10:00:00+02:00"]})
    assert found.values["a"].dtype == np.float64
    assert found.values["a"].tolist() == [1.0]
    assert found.keys == ["7"]
    assert found.times == [datetime(2024, 3, 1, 8, tzinfo=UTC)]
    assert set(found.values) == set("abcd")
    assert hold(made(), GOOD).keys == [None]


def test_text_of_csv_is_read_by_the_columns_types():
    found = hold(made(), {"a": ["1"], "b": ["true"], "c": ["x"], "d": [""]}, text=True)
    assert (found.values["a"].tolist(), found.values["b"].tolist(), found.values["d"]) == ([1.0], [1.0], [None])
    assert refused(made(), {"a": ["one"], "b": ["nan"], "c": ["x"], "d": [""]}, text=True) == [
        (0, "a", "is no number"),
        (0, "b", "is no number"),
    ]


def test_every_faulty_row_is_named_up_to_a_hundred():
    faults = refused(made(), {name: values * 300 for name, values in GOOD.items()} | {"a": [9.0] * 300})
    assert len(faults) == 100
    assert faults[99] == (99, "a", "must be from -2 to 3")


def test_what_needs_more_than_a_row_is_told_to_be_left_out():
    contract = contract_of(made(), made().features)
    assert contract.unchecked == ("expect_column_values_to_be_unique(d)", "expect_table_row_count_to_be_between")


def test_a_refusal_shows_no_more_of_a_value_than_a_person_reads():
    deep = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(Problem) as problem:
        hold(made(), GOOD | {"a": [deep], "d": ["a" * 5000]})
    told = json.loads(problem.value.response().body)["errors"]
    assert [(one["field"], len(one["value"])) for one in told] == [("a", len("a list")), ("d", 203)]


def test_thousands_of_unknown_columns_are_refused_without_being_remembered():
    model = made()
    contract = contract_of(model, model.features)
    columns = GOOD | {f"x{at}": [1] for at in range(50_000)}
    with pytest.raises(Problem) as problem:
        contract.hold(Table(columns, 1), NOW)
    assert len(problem.value.faults) <= 101
    assert contract.layout.cache_info().currsize == 0


def test_a_model_of_texts_alone_is_held_to_them():
    plain = made(expectations=[], features={"categorical": ["c", "d"]})
    assert hold(plain, {"c": ["x", None], "d": ["y", "z"]}).values == {"c": ["x", None], "d": ["y", "z"]}
    assert refused(plain, {"c": [1], "d": ["y"]}) == [(0, "c", "is no text")]


def test_checks_of_some_rows_only_are_left_to_process():
    some = {"column": "a", "row_condition": "b > 1", "condition_parser": "pandas"}
    check_some = {"type": "expect_column_values_to_not_be_null", "kwargs": some}
    model = made(expectations=[check_some])
    assert hold(model, GOOD | {"a": [None]}).rows == 1
    assert contract_of(model, model.features).unchecked == ("expect_column_values_to_not_be_null(a)",)


def test_lengths_may_have_to_be_beyond_a_bound():
    strict = {
        "type": "expect_column_value_lengths_to_be_between",
        "kwargs": {"column": "d", "max_value": 3, "strict_max": True},
    }
    frame = pd.DataFrame({"id": ["1", "2"], "d": ["ab", "abc"]})
    assert set(check(frame, [Expectation.model_validate(strict)], "id").bad) == {1}
    model = made(expectations=[strict])
    twice = {name: values * 2 for name, values in GOOD.items()} | {"d": ["ab", "abc"]}
    assert refused(model, twice) == [(1, "d", "must have 0 to 2 characters")]


def test_a_day_ahead_is_allowed_since_clocks_differ():
    at = (NOW + timedelta(hours=23)).isoformat()
    assert hold(made(), GOOD | {"at": [at]}).times[0] is not None
