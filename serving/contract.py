"""What a row must be: the columns of a version with their types, and the expectations of model.yaml that a single row can break.

A row is refused here where a partition would put it into quarantine: by the critical and the warning expectations of its own
columns, whatever `mostly` tolerates. What needs more than a row (counts, shares, uniqueness) is left to `process`.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np

from configs.features import Features
from configs.schema import ModelConfig
from serving.envelope import Table
from serving.problems import SHOWN, Fault, refused_rows
from serving.rules import BETWEEN, NOT_NULL, RULES, Rule, Values, knows, limits
from serving.values import EXACT, READERS, Field

PLAIN_TYPES = {float, int, bool, type(None)}


@dataclass(frozen=True)
class Given:
    """Rows that a model takes: numbers as float64 arrays, texts as lists with None for null, times as aware datetimes."""

    values: Mapping[str, Values]
    rows: int
    keys: list[str | None]
    times: list[datetime | None]


@dataclass(frozen=True)
class Layout:
    """What is known of a request by the names of its columns alone. Bounds are of its numbers, `(numbers, 1)`."""

    strange: tuple[Fault, ...]
    numbers: tuple[Field, ...]
    others: tuple[Field, ...]
    low: np.ndarray
    high: np.ndarray
    never_null: np.ndarray
    whole: np.ndarray


class Contract:
    """The columns that a version takes."""

    def __init__(self, fields: Mapping[str, Field], key: str, time: str, unchecked: Sequence[str] = ()) -> None:
        self.fields, self.key, self.time = fields, key, time
        self.unchecked = tuple(unchecked)
        """Expectations that no single row can break, or that are not known here."""
        self.layout = functools.lru_cache(maxsize=64)(self._layout)

    def hold(self, table: Table, now: datetime) -> Given:
        """The values of rows that were sent, by their types.

        Raises:
            Problem: a column is missing or unknown, or a value is not allowed; naming row, field and value.
        """
        if not table.columns.keys() <= self.fields.keys():
            raise refused_rows(self._strange(table.columns), table.rows)
        layout = self.layout(tuple(table.columns))
        if layout.strange:
            raise refused_rows(layout.strange, table.rows)
        found: dict[str, Values] = {}
        faults: list[Fault] = []
        matrix = (
            None if table.text else _screened(layout, [table.columns[own.name] for own in layout.numbers], table.rows)
        )
        if matrix is not None:
            found = {own.name: row for own, row in zip(layout.numbers, matrix, strict=True)}
            for own in layout.numbers:
                faults += _broken(own.rules, own, table.columns[own.name], found[own.name]) if own.rules else ()
        for own in layout.others if matrix is not None else (*layout.numbers, *layout.others):
            sent = table.columns[own.name]
            found[own.name], wrong = READERS[own.kind](own, sent, table.text, now)
            faults += wrong or _unfit(own, sent, found[own.name])
            if len(faults) > SHOWN:
                break
        if faults:
            raise refused_rows(sorted(faults, key=lambda fault: fault.row or 0), table.rows)
        none: list[Any] = [None] * table.rows
        keys, times = found.pop(self.key, none), found.pop(self.time, none)
        return Given(found, table.rows, list(keys), list(times))

    def _layout(self, names: tuple[str, ...]) -> Layout:
        known = [self.fields[name] for name in names if name in self.fields]
        numbers = tuple(own for own in known if own.kind == "number")
        others = tuple(own for own in known if own.kind != "number")
        low = np.array([own.low for own in numbers]).reshape(-1, 1)
        high = np.array([own.high for own in numbers]).reshape(-1, 1)
        never_null = np.array([not own.nullable for own in numbers], dtype=bool).reshape(-1, 1)
        whole = np.array([own.whole for own in numbers], dtype=bool).reshape(-1, 1)
        return Layout(tuple(self._strange(names)), numbers, others, low, high, never_null, whole)

    def _strange(self, names: Iterable[str]) -> Iterator[Fault]:
        for name, own in self.fields.items():
            if own.required and name not in names:
                yield Fault(None, name, None, "is missing; send null where it is not known")
        for name in names:
            if name not in self.fields:
                yield Fault(None, name[:100], None, f"is no column of this model; it takes {', '.join(self.fields)}")


def _screened(layout: Layout, columns: Sequence[list[Any]], rows: int) -> np.ndarray | None:
    """The numbers of a request, float64 `(numbers, rows)`; None where one of them may not be allowed, without telling which.

    All at once, since to look at them one by one takes longer than to predict.
    """
    if not PLAIN_TYPES.issuperset(map(type, chain.from_iterable(columns))):
        return None
    try:
        found = np.array(columns, dtype="float64").reshape(len(columns), rows)
    except OverflowError:
        return None
    null = np.isnan(found)
    bad = (found < layout.low) | (found > layout.high) | (np.abs(found) >= EXACT) | (null & layout.never_null)
    bad |= layout.whole & ~null & (found != np.floor(found))
    return None if bad.any() else found


def contract_of(config: ModelConfig, features: Features) -> Contract:
    """What a version with these features takes; key, time, groups and the other columns of the model may come along."""
    rules: dict[str, list[tuple[Rule, dict[str, Any]]]] = {}
    bounds: dict[str, list[Mapping[str, Any]]] = {}
    never_null, unchecked = set(), []
    kinds = _kinds(config, features)
    for one in config.expectations:
        for kwargs in one.each() if one.severity != "info" else ():
            column = kwargs.get("column")
            if one.type == NOT_NULL and knows(kwargs):
                if kwargs.get("mostly", 1) == 1:
                    never_null.add(column)
            elif one.type == BETWEEN and kinds.get(str(column)) == "number" and knows(kwargs):
                bounds.setdefault(str(column), []).append(kwargs)
            elif column and one.type in RULES and knows(kwargs):
                rules.setdefault(column, []).append(RULES[one.type](kwargs))
            else:
                unchecked.append(f"{one.type}({column})" if column else one.type)
    whole = set(config.features.whole)
    fields = {}
    for name, kind in kinds.items():
        found = rules.get(name, [])
        nullable = name not in never_null or kind in ("key", "time")  # one that was not sent is made here
        low, high = limits(bounds.get(name, ()))
        schema: dict[str, Any] = {"minimum": low} if low > -np.inf else {}
        schema |= {"maximum": high} if high < np.inf else {}
        schema |= {"type": "integer"} if name in whole else {}
        schema |= {k: v for _, part in found for k, v in part.items()}
        required, own = name in features.all, tuple(rule for rule, _ in found)
        fields[name] = Field(name, kind, required, nullable, own, low, high, name in whole, schema)
    return Contract(fields, config.key, config.time, tuple(dict.fromkeys(unchecked)))


def _kinds(config: ModelConfig, features: Features) -> dict[str, str]:
    """Every column that a request may have, the version's own first."""
    kinds = dict.fromkeys(features.numeric, "number") | dict.fromkeys(features.categorical, "text")
    others = dict.fromkeys(config.features.numeric, "number") | dict.fromkeys(config.features.categorical, "text")
    others |= dict.fromkeys(config.groups, "text")
    return kinds | {n: k for n, k in others.items() if n not in kinds} | {config.key: "key", config.time: "time"}


def _unfit(own: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Values of the right type that are not allowed."""
    if not own.nullable:
        for at in np.flatnonzero(_null(values))[:SHOWN]:
            yield Fault(int(at), own.name, None, "must not be null")
    if own.kind == "number" and (own.low > -np.inf or own.high < np.inf):
        assert isinstance(values, np.ndarray)
        for at in np.flatnonzero((values < own.low) | (values > own.high))[:SHOWN]:
            yield Fault(int(at), own.name, sent[at], f"must be {_between(own.low, own.high)}")
    if own.whole:
        assert isinstance(values, np.ndarray)
        for at in np.flatnonzero(~np.isnan(values) & (values != np.floor(values)))[:SHOWN]:
            yield Fault(int(at), own.name, sent[at], "must be a whole number")
    yield from _broken(own.rules, own, sent, values)


def _between(low: float, high: float) -> str:
    if low == -np.inf:
        return f"at most {high:g}"
    return f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"


def _broken(rules: Iterable[Rule], own: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Values that break a rule. A null breaks none, as for Great Expectations."""
    for breaks, problem in rules:
        if (broken := breaks(values)).any():
            for at in np.flatnonzero(broken & ~_null(values))[:SHOWN]:
                yield Fault(int(at), own.name, sent[at], problem)


def _null(values: Values) -> np.ndarray:
    return (
        np.isnan(values)
        if isinstance(values, np.ndarray)
        else np.array([value is None for value in values], dtype=bool)
    )
