"""What a row must be: the columns of a version with their types, and the expectations of model.yaml that a single row can break.

A row is refused here where a partition would put it into quarantine: by the critical and the warning expectations of its own
columns, whatever `mostly` tolerates. What needs more than a row (counts, shares, uniqueness) is left to `process`.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from configs.schema import Features, ModelConfig
from serving.envelope import Table
from serving.problems import SHOWN, Fault, refused_rows

EXACT = 2**53
"""The first whole number whose successor float64 does not have."""
AHEAD = timedelta(days=1)
"""How far in the future a row's time may lie: clocks differ, and some predictions are of what is scheduled."""
LONGEST_KEY = 200
TRUTHS = {"true": 1.0, "false": 0.0}
PLAIN_TYPES = {float, int, bool, type(None)}

Values = np.ndarray | list[Any]
Rule = tuple[Callable[[Values], np.ndarray], str]
"""Which values break it, as a mask; and what is said of them."""


@dataclass(frozen=True)
class Field:
    """One column of a request."""

    name: str
    kind: str
    """`number`, `text`, `key` or `time`."""
    required: bool
    nullable: bool
    rules: tuple[Rule, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    """Of numbers: the least and the greatest that is allowed. Rules apart, since most columns have no other."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The same as JSON Schema, for the documentation."""


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
        layout = self.layout(tuple(table.columns))
        if layout.strange:
            raise refused_rows(layout.strange, table.rows)
        found: dict[str, Values] = {}
        faults: list[Fault] = []
        matrix = None if table.text else _screened(layout, [table.columns[own.name] for own in layout.numbers])
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
        return Layout(tuple(self._strange(names)), numbers, others, low, high, never_null)

    def _strange(self, names: tuple[str, ...]) -> Iterator[Fault]:
        for name, own in self.fields.items():
            if own.required and name not in names:
                yield Fault(None, name, None, "is missing; send null where it is not known")
        for name in names:
            if name not in self.fields:
                yield Fault(None, name, None, f"is no column of this model; it takes {', '.join(self.fields)}")


def _screened(layout: Layout, columns: Sequence[list[Any]]) -> np.ndarray | None:
    """The numbers of a request, float64 `(numbers, rows)`; None where one of them may not be allowed, without telling which.

    All at once, since to look at them one by one takes longer than to predict.
    """
    if not {type(value) for column in columns for value in column} <= PLAIN_TYPES:
        return None
    try:
        found = np.array(columns, dtype="float64").reshape(len(columns), -1)
    except OverflowError:
        return None
    null = np.isnan(found)
    bad = (found < layout.low) | (found > layout.high) | (np.abs(found) >= EXACT) | (null & layout.never_null)
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
            if one.type == "expect_column_values_to_not_be_null":
                if kwargs.get("mostly", 1) == 1:
                    never_null.add(column)
            elif one.type == BETWEEN and kinds.get(str(column)) == "number" and _knows(kwargs):
                bounds.setdefault(str(column), []).append(kwargs)
            elif column and one.type in RULES and _knows(kwargs):
                rules.setdefault(column, []).append(RULES[one.type](kwargs))
            else:
                unchecked.append(f"{one.type}({column})" if column else one.type)
    whole = set(config.features.whole)
    fields = {}
    for name, kind in kinds.items():
        found = [(_whole(), {"type": "integer"})] if name in whole else []
        found += rules.get(name, [])
        nullable = name not in never_null or kind in ("key", "time")  # one that was not sent is made here
        low, high = _limits(bounds.get(name, ()))
        schema: dict[str, Any] = {"minimum": low} if low > -np.inf else {}
        schema |= {"maximum": high} if high < np.inf else {}
        schema |= {k: v for _, part in found for k, v in part.items()}
        required, own = name in features.all, tuple(rule for rule, _ in found)
        fields[name] = Field(name, kind, required, nullable, own, low, high, schema)
    return Contract(fields, config.key, config.time, tuple(dict.fromkeys(unchecked)))


def _limits(bounds: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """The least and the greatest number that all of some checks allow; what must be above a bound is at least the next number."""
    low, high = -np.inf, np.inf
    for kwargs in bounds:
        if (least := kwargs.get("min_value")) is not None:
            low = max(low, np.nextafter(least, np.inf) if kwargs.get("strict_min") else least)
        if (most := kwargs.get("max_value")) is not None:
            high = min(high, np.nextafter(most, -np.inf) if kwargs.get("strict_max") else most)
    return float(low), float(high)


def _kinds(config: ModelConfig, features: Features) -> dict[str, str]:
    """Every column that a request may have, the version's own first."""
    kinds = dict.fromkeys(features.numeric, "number") | dict.fromkeys(features.categorical, "text")
    others = dict.fromkeys(config.features.numeric, "number") | dict.fromkeys(config.features.categorical, "text")
    others |= dict.fromkeys(config.groups, "text")
    return kinds | {n: k for n, k in others.items() if n not in kinds} | {config.key: "key", config.time: "time"}


# Values by their types: each reader returns them with the faults of those that have another.


def _numbers(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    if text:
        values = [_parsed(value) for value in values]
    faults = [Fault(at, own.name, value, why) for at, value in enumerate(values) if (why := _no_number(value))]
    return (np.empty(0) if faults else np.array(values, dtype="float64")), faults


def _parsed(text: str) -> Any:
    """A number of CSV; the text itself where it is none."""
    if not text:
        return None
    if (truth := TRUTHS.get(text.lower())) is not None:
        return truth
    try:
        return int(text) if re.fullmatch(r"[+-]?\d{1,30}", text, re.ASCII) else float(text)
    except ValueError:
        return text


def _no_number(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if abs(value) < EXACT else "is a whole number too large for float64 to have it exactly"
    if isinstance(value, float):
        return "" if np.isfinite(value) else "is no finite number"
    return "is no number"


def _texts(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    if text:
        return [value or None for value in values], []
    if set(map(type, values)) <= {str, type(None)}:
        return list(values), []
    odd = ((at, value) for at, value in enumerate(values) if value is not None and not isinstance(value, str))
    return [], [Fault(at, own.name, value, "is no text") for at, value in odd]


def _keys(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    """Texts, or whole numbers as texts. A key that is null has a row made for it."""
    found = [str(value) if type(value) is int else value or None for value in values]
    faults = [
        Fault(at, own.name, value, f"is no key: a text of at most {LONGEST_KEY} characters, or a whole number")
        for at, value in enumerate(found)
        if value is not None and not (isinstance(value, str) and len(value) <= LONGEST_KEY)
    ]
    return found, faults


def _times(own: Field, values: Sequence[Any], text: bool, now: datetime) -> tuple[Values, list[Fault]]:
    found: list[datetime | None] = []
    faults = []
    for at, value in enumerate(values):
        if value is None or value == "":
            found.append(None)
            continue
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            faults.append(Fault(at, own.name, value, "is no time; write it like 2013-05-14T10:30:00-04:00"))
            continue
        if moment.tzinfo is None:
            faults.append(Fault(at, own.name, value, "has no time zone; write it like 2013-05-14T10:30:00-04:00"))
        elif moment > now + AHEAD:
            faults.append(
                Fault(at, own.name, value, f"lies more than a day in the future; it is {now:%Y-%m-%dT%H:%M}Z")
            )
        else:
            found.append(moment.astimezone(UTC))
    return found, faults


READERS = {"number": _numbers, "text": _texts, "key": _keys, "time": _times}


def _unfit(own: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Values of the right type that are not allowed."""
    if not own.nullable:
        for at in np.flatnonzero(_null(values))[:SHOWN]:
            yield Fault(int(at), own.name, None, "must not be null")
    if own.kind == "number" and (own.low > -np.inf or own.high < np.inf):
        assert isinstance(values, np.ndarray)
        for at in np.flatnonzero((values < own.low) | (values > own.high))[:SHOWN]:
            yield Fault(int(at), own.name, sent[at], f"must be {_between(own.low, own.high)}")
    yield from _broken(own.rules, own, sent, values)


def _between(low: float, high: float) -> str:
    if low == -np.inf:
        return f"at most {high:g}"
    return f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"


def _broken(rules: Iterable[Rule], own: Field, sent: Sequence[Any], values: Values) -> Iterator[Fault]:
    """Values that break a rule. A null breaks none, as for Great Expectations."""
    for breaks, problem in rules:
        for at in np.flatnonzero(breaks(values) & ~_null(values))[:SHOWN]:
            yield Fault(int(at), own.name, sent[at], problem)


def _null(values: Values) -> np.ndarray:
    return (
        np.isnan(values)
        if isinstance(values, np.ndarray)
        else np.array([value is None for value in values], dtype=bool)
    )


# Great Expectations' checks, of one column and row by row.


def _in_set(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    allowed = list(kwargs["value_set"])
    known = set(allowed)
    shown = ", ".join(map(str, allowed[:20])) + (" ..." if len(allowed) > 20 else "")
    return (lambda values: np.array([v not in known for v in _plain(values)], dtype=bool), f"must be one of {shown}"), {
        "enum": allowed
    }


def _not_in_set(kwargs: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    barred = list(kwargs["value_set"])
    known = set(barred)
    told = f"must be none of {', '.join(map(str, barred[:20]))}"
    return (lambda values: np.array([v in known for v in _plain(values)], dtype=bool), told), {"not": {"enum": barred}}


def _lengths(low: int | None, high: int | None) -> tuple[Rule, dict[str, Any]]:
    def breaks(values: Values) -> np.ndarray:
        lengths = np.array([len(v) if isinstance(v, str) else 0 for v in values])
        return (lengths < (low or 0)) | (lengths > (high if high is not None else np.inf))

    told = f"{low}" if low == high else " to ".join(str(n) for n in (low or 0, high) if n is not None)
    schema = {"minLength": low, "maxLength": high}
    return (breaks, f"must have {told} characters"), {k: v for k, v in schema.items() if v is not None}


def _matches(kwargs: Mapping[str, Any], wanted: bool) -> tuple[Rule, dict[str, Any]]:
    pattern = re.compile(kwargs["regex"])

    def breaks(values: Values) -> np.ndarray:
        return np.array([isinstance(v, str) and bool(pattern.search(v)) is not wanted for v in values], dtype=bool)

    told = f"must {'' if wanted else 'not '}match {kwargs['regex']}"
    return (breaks, told), ({"pattern": kwargs["regex"]} if wanted else {})


def _whole() -> Rule:
    return (lambda values: values != np.floor(values)), "must be a whole number"


def _plain(values: Values) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


BETWEEN = "expect_column_values_to_be_between"
RULES: Mapping[str, Callable[[Mapping[str, Any]], tuple[Rule, dict[str, Any]]]] = {
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_value_lengths_to_equal": lambda kwargs: _lengths(kwargs["value"], kwargs["value"]),
    "expect_column_value_lengths_to_be_between": lambda kwargs: _lengths(
        kwargs.get("min_value"), kwargs.get("max_value")
    ),
    "expect_column_values_to_match_regex": lambda kwargs: _matches(kwargs, True),
    "expect_column_values_to_not_match_regex": lambda kwargs: _matches(kwargs, False),
}
PLAIN = {"column", "mostly", "min_value", "max_value", "strict_min", "strict_max", "value_set", "value", "regex"}


def _knows(kwargs: Mapping[str, Any]) -> bool:
    """Whether every argument is one that changes nothing here but what it says, such as no `row_condition`."""
    return not set(kwargs) - PLAIN
