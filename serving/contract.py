"""The input contract of a version: its columns with their types, and the expectations of model.yaml that apply to a single row.

A request is refused for the rows that `process` would quarantine in a partition: those that violate a critical or warning expectation
of a column, whatever `mostly` tolerates. Expectations about several rows (counts, shares, uniqueness) are checked by `process` only.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np

from configs.features import LARGEST_NUMBER, Features
from configs.schema import ModelConfig
from serving.envelope import Table
from serving.problems import MAX_FAULTS, Fault, invalid_rows
from serving.rules import BETWEEN, NOT_NULL, RULES, Rule, Values, allowed_range, is_supported
from serving.values import EXACT, READERS, Field
from tasks.storage.personal import hider

PLAIN_TYPES = {float, int, bool, type(None)}


@dataclass(frozen=True)
class InputRows:
    """Validated rows of a request: numbers as float64 arrays, texts as lists with None for null, times as aware datetimes."""

    values: Mapping[str, Values]
    rows: int
    keys: list[str | None]
    times: list[datetime | None]


@dataclass(frozen=True)
class Layout:
    """What depends only on the column names of a request. The arrays have the shape (number columns, 1)."""

    column_faults: tuple[Fault, ...]
    number_fields: tuple[Field, ...]
    other_fields: tuple[Field, ...]
    low: np.ndarray
    high: np.ndarray
    never_null: np.ndarray
    whole: np.ndarray


class Contract:
    """The columns that a version accepts, with their types and limits."""

    def __init__(
        self,
        fields: Mapping[str, Field],
        key: str,
        time: str,
        unchecked: Sequence[str] = (),
        show: Callable[[str, Any], Any] = lambda _, value: value,
    ) -> None:
        self.fields, self.key, self.time = fields, key, time
        self.show = show
        """Returns what an error may show of a column's value."""
        self.unchecked = tuple(unchecked)
        """Expectations that are not checked here, because they need several rows or are not supported."""
        self.layout = functools.lru_cache(maxsize=64)(self._layout)

    def validate(self, table: Table, now: datetime) -> InputRows:
        """Return the rows of a request with their values converted to the types of the columns.

        Raises:
            Problem: A column is missing or unknown, or a value is not allowed. It names row, field and value.
        """
        if not table.columns.keys() <= self.fields.keys():
            raise invalid_rows(self._column_faults(table.columns))
        layout = self.layout(tuple(table.columns))
        if layout.column_faults:
            raise invalid_rows(layout.column_faults)
        values: dict[str, Values] = {}
        faults: list[Fault] = []
        numbers = [table.columns[field.name] for field in layout.number_fields]
        matrix = None if table.text else _valid_matrix(layout, numbers, table.rows)
        if matrix is not None:
            values = {field.name: row for field, row in zip(layout.number_fields, matrix, strict=True)}
            for field, sent in zip(layout.number_fields, numbers, strict=True):
                faults += _rule_faults(field.rules, field, sent, values[field.name]) if field.rules else ()
        for field in layout.other_fields if matrix is not None else (*layout.number_fields, *layout.other_fields):
            sent = table.columns[field.name]
            values[field.name], type_faults = READERS[field.kind](field, sent, table.text, now)
            faults += type_faults or _value_faults(field, sent, values[field.name])
            if len(faults) > MAX_FAULTS:
                break
        if faults:
            hidden = [replace(fault, value=self.show(fault.field, fault.value)) for fault in faults]
            raise invalid_rows(sorted(hidden, key=lambda fault: fault.row or 0))
        nulls: list[Any] = [None] * table.rows
        keys, times = values.pop(self.key, nulls), values.pop(self.time, nulls)
        return InputRows(values, table.rows, list(keys), list(times))

    def _layout(self, names: tuple[str, ...]) -> Layout:
        fields = [self.fields[name] for name in names if name in self.fields]
        number_fields = tuple(field for field in fields if field.kind == "number")
        other_fields = tuple(field for field in fields if field.kind != "number")
        low = np.array([field.low for field in number_fields]).reshape(-1, 1)
        high = np.array([field.high for field in number_fields]).reshape(-1, 1)
        never_null = np.array([not field.nullable for field in number_fields], dtype=bool).reshape(-1, 1)
        whole = np.array([field.whole for field in number_fields], dtype=bool).reshape(-1, 1)
        return Layout(tuple(self._column_faults(names)), number_fields, other_fields, low, high, never_null, whole)

    def _column_faults(self, names: Iterable[str]) -> Iterator[Fault]:
        for name, field in self.fields.items():
            if field.required and name not in names:
                yield Fault(None, name, None, "is missing; send null if the value is not known")
        for name in names:
            if name not in self.fields:
                yield Fault(None, name[:100], None, f"is unknown; this model has the columns {', '.join(self.fields)}")


def _valid_matrix(layout: Layout, columns: Sequence[list[Any]], rows: int) -> np.ndarray | None:
    """Return the numbers of a request, float64 (number columns, rows), or None if any of them may be invalid.

    All values are checked at once, since checking them one by one takes longer than predicting. The caller finds out which one is invalid.
    """
    if not PLAIN_TYPES.issuperset(map(type, chain.from_iterable(columns))):
        return None
    try:
        matrix = np.array(columns, dtype="float64").reshape(len(columns), rows)
    except OverflowError:
        return None
    null = np.isnan(matrix)
    invalid = (matrix < layout.low) | (matrix > layout.high) | (np.abs(matrix) > LARGEST_NUMBER)
    invalid |= np.abs(matrix) >= EXACT  # a whole number may have been rounded
    invalid |= (null & layout.never_null) | (layout.whole & ~null & (matrix != np.floor(matrix)))
    return None if invalid.any() else matrix


def contract_of(config: ModelConfig, features: Features, booleans: Iterable[str] = ()) -> Contract:
    """Return the contract of a version with these features. Key, time, groups and other columns of the model are optional.

    Args:
        booleans: Features that are true or false in the data. It is only documented: 1, 0 and other numbers are accepted too.
    """
    rules: dict[str, list[tuple[Rule, dict[str, Any]]]] = {}
    bounds: dict[str, list[Mapping[str, Any]]] = {}
    never_null, unchecked = set(), []
    kinds = _column_kinds(config, features)
    for expectation in config.expectations:
        check = expectation.type
        for kwargs in expectation.checks() if expectation.severity != "info" else ():
            column = kwargs.get("column")
            if check == NOT_NULL and is_supported(kwargs):
                if kwargs.get("mostly", 1) == 1:
                    never_null.add(column)
            elif check == BETWEEN and kinds.get(str(column)) == "number" and is_supported(kwargs):
                bounds.setdefault(str(column), []).append(kwargs)
            elif column and check in RULES and is_supported(kwargs):
                rules.setdefault(column, []).append(RULES[check](kwargs))
            else:
                unchecked.append(f"{check}({column})" if column else check)
    whole = set(config.features.whole)
    fields = {}
    for name, kind in kinds.items():
        column_rules = rules.get(name, [])
        nullable = name not in never_null or kind in ("key", "time")  # the server fills these in if they are null
        low, high = allowed_range(bounds.get(name, ()))
        schema: dict[str, Any] = {"minimum": low} if low > -np.inf else {}
        schema |= {"maximum": high} if high < np.inf else {}
        schema |= {"type": "integer"} if name in whole else {}
        schema |= {k: v for _, part in column_rules for k, v in part.items()}
        if name in booleans or (schema.get("enum") and all(isinstance(value, bool) for value in schema["enum"])):
            schema["type"] = "boolean"
        required, checks = name in features.all, tuple(rule for rule, _ in column_rules)
        fields[name] = Field(name, kind, required, nullable, checks, low, high, name in whole, schema)
    return Contract(fields, config.key, config.time, tuple(dict.fromkeys(unchecked)), hider(config))


def _column_kinds(config: ModelConfig, features: Features) -> dict[str, str]:
    """Return the kind of every column that a request may have, the version's features first."""
    kinds = dict.fromkeys(features.numeric, "number") | dict.fromkeys(features.categorical, "text")
    others = dict.fromkeys(config.features.numeric, "number") | dict.fromkeys(config.features.categorical, "text")
    others |= dict.fromkeys(config.groups, "text")
    return kinds | {n: k for n, k in others.items() if n not in kinds} | {config.key: "key", config.time: "time"}


def _value_faults(field: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Yield the values that have the right type and are not allowed."""
    if not field.nullable:
        for at in np.flatnonzero(_is_null(values))[:MAX_FAULTS]:
            yield Fault(int(at), field.name, None, "must not be null")
    if field.kind == "number" and (field.low > -np.inf or field.high < np.inf):
        assert isinstance(values, np.ndarray)
        for at in np.flatnonzero((values < field.low) | (values > field.high))[:MAX_FAULTS]:
            yield Fault(int(at), field.name, sent[at], f"must be {_range_text(field.low, field.high)}")
    if field.whole:
        assert isinstance(values, np.ndarray)
        for at in np.flatnonzero(~np.isnan(values) & (values != np.floor(values)))[:MAX_FAULTS]:
            yield Fault(int(at), field.name, sent[at], "must be a whole number")
    yield from _rule_faults(field.rules, field, sent, values)


def _range_text(low: float, high: float) -> str:
    if low == -np.inf:
        return f"at most {high:g}"
    return f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"


def _rule_faults(rules: Iterable[Rule], field: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Yield the values that violate a rule. Nulls violate none, as in Great Expectations."""
    for violates, problem in rules:
        if (invalid := violates(values)).any():
            for at in np.flatnonzero(invalid & ~_is_null(values))[:MAX_FAULTS]:
                yield Fault(int(at), field.name, sent[at], problem)


def _is_null(values: Values) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return np.isnan(values)
    return np.array([value is None for value in values], dtype=bool)
