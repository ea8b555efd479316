"""The kind of target, its classes, and which value of a binary target counts as 1."""

import re
from typing import TYPE_CHECKING

from ops.profiling.describe import top_values
from ops.profiling.values import Choice, Column, TargetChoice, UnusableData
from tasks.source.values import is_integer

if TYPE_CHECKING:
    import duckdb

POSITIVE = re.compile(
    r"^(1|y|yes|true|t|positive|pos|bad|fraud|churn(ed)?|default(ed)?|late|fail(ed)?|up|won|win|converted|returned|cancell?ed|delayed|sick|spam|>.*)$",
    re.IGNORECASE,
)
TRUTHS = ({"0", "1"}, {"true", "false"})
"""Values of a binary target that need no SQL."""
MOST_WHOLE = 10
"""Different whole numbers up to which they are classes."""
MOST_CLASSES = 50
LEAST = 20
"""Rows that a class must have."""
RARE = 0.005
"""Share of rows up to which classes with fewer rows are left out together."""


def choose_kind(con: "duckdb.DuckDBPyConnection", column: Column, choice: Choice) -> TargetChoice:
    """Return the target with its kind.

    Raises:
        UnusableData: It is constant, has too many classes, or a class has too few rows.
    """
    name = column.name
    if column.type not in ("number", "text"):
        raise UnusableData(
            f"TARGET={name}: its values are {column.type}, but a target has numbers, or text with a few classes; choose another column"
        )
    if column.distinct < 2:
        raise UnusableData(
            f"TARGET={name}: it has {column.distinct} different values, so there is nothing to predict; choose another column"
        )
    values = dict(top_values(con, name)) if column.distinct <= MOST_CLASSES else {}
    if column.distinct == 2:
        return _binary(name, values, choice)
    if column.type == "text" and not values:
        raise UnusableData(
            f"TARGET={name}: text with {column.distinct:,} different values, more than {MOST_CLASSES} classes; choose another column"
        )
    if column.type == "text" or (column.whole and column.distinct <= MOST_WHOLE):
        return _multiclass(column, values, choice)
    if column.rows - column.nulls < 10 * LEAST:
        raise UnusableData(_too_few(name, column.rows - column.nulls, 10 * LEAST, "rows with an outcome"))
    return TargetChoice(
        name, "regression", choice.reason, f"numbers with {column.distinct:,} different values", choice.sure
    )


def _binary(name: str, values: dict[str, int], choice: Choice) -> TargetChoice:
    named = [value for value in values if POSITIVE.match(value)]
    rare = list(values)[-1]
    if {value.lower() for value in values} in TRUTHS:
        positive, one = "", next(value for value in values if value.lower() in ("1", "true"))
        reason = f"two values: {' and '.join(sorted(values))}"
    elif all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values):
        positive = one = max(values, key=float)
        reason = f"two values; {one}, the greater one, counts as 1"
    else:
        positive = one = named[0] if len(named) == 1 else rare
        reason = f"two values; {one!r} counts as 1, {'by its name' if len(named) == 1 else 'the less frequent one'}"
    count, other = values[one], sum(values.values()) - values[one]
    if min(count, other) < 2 * LEAST:
        raise UnusableData(
            _too_few(
                name,
                min(count, other),
                2 * LEAST,
                f"rows of its less frequent value, of {count + other:,} with an outcome",
            )
        )
    share = f"{100 * count / (count + other):.2g} % of {count + other:,} rows are 1"
    return TargetChoice(
        name,
        "binary",
        choice.reason,
        f"{reason}; {share}",
        choice.sure,
        positive=positive,
        counts={"1": count, "0": other},
    )


def _multiclass(column: Column, values: dict[str, int], choice: Choice) -> TargetChoice:
    total = sum(values.values())
    few = [value for value, count in values.items() if count < LEAST]
    kept = [value for value in values if value not in few]
    if sum(values[value] for value in few) > RARE * total or len(kept) < 3:
        name = few[0] if few else ""
        raise UnusableData(
            f"TARGET={column.name}: class {name!r} has {values.get(name, 0)} rows, but at least {LEAST} are needed for each of three "
            f"or more classes; merge rare classes, remove them, or give more data"
        )
    numbers = is_integer(column.stored) or all(re.fullmatch(r"-?\d+", value) for value in kept)
    ordered = sorted(kept, key=float) if numbers else kept
    reason = f"{'whole numbers' if numbers else 'text'} with {column.distinct} different values"
    return TargetChoice(
        column.name,
        "multiclass",
        choice.reason,
        reason,
        choice.sure,
        tuple(ordered),
        left_out=tuple(few),
        counts={v: values[v] for v in ordered},
    )


def _too_few(name: str, count: int, least: int, what: str) -> str:
    return f"TARGET={name}: {count:,} {what}, but at least {least} are needed to train and to judge a model; give more data"
