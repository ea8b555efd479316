"""Which columns become features, and why the others do not."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.features import LARGEST_NUMBER
from configs.flat import quoted
from ops.profiling.describe import ROWS, scalar
from ops.profiling.roles import IDENTIFIER
from ops.profiling.scores import single_column_scores
from ops.profiling.values import Column, TargetChoice

if TYPE_CHECKING:
    import duckdb

MOST_CATEGORIES = 1_000
LEAST_ROWS = 20
"""Rows that a category has on average, at least."""
LEAKS = {"binary": 0.98, "multiclass": 0.98, "regression": 0.97}
"""Score of a single column from which on it has the outcome in it: ROC AUC, or R2."""
CLOSE = {"binary": 0.9, "multiclass": 0.9, "regression": 0.85}
"""Score from which on a person should check the column."""


@dataclass(frozen=True)
class Features:
    """Features by type, excluded columns with the reason, and notes about features to check."""

    numeric: tuple[Column, ...]
    categorical: tuple[Column, ...]
    excluded: Mapping[str, str]
    notes: Mapping[str, str]
    scores: Mapping[str, float]

    @property
    def all(self) -> tuple[Column, ...]:
        """All features."""
        return self.numeric + self.categorical


def choose_features(
    con: "duckdb.DuckDBPyConnection",
    columns: Sequence[Column],
    taken: Collection[str],
    target: TargetChoice,
    outcome: str,
    differing: Mapping[str, str],
) -> Features:
    """Return the features of a model.

    Args:
        con: A session with the typed rows.
        columns: All columns.
        taken: Columns with another role.
        target: The target.
        outcome: SQL of the outcome.
        differing: Columns that differ between the files, each with what differs.
    """
    excluded: dict[str, str] = {}
    able = []
    for column in columns:
        if column.name in taken:
            continue
        reason = differing.get(column.name) or unusable(column) or _known_with_outcome(con, column, target)
        if reason:
            excluded[column.name] = reason
        else:
            able.append(column)
    metric = "R2" if target.kind == "regression" else "ROC AUC"
    scores = single_column_scores(con, able, target, outcome)
    notes = {}
    for column in list(able):
        score = scores[column.name]
        if score >= LEAKS[target.kind]:
            excluded[column.name] = f"has the outcome in it: alone it predicts {target.name} with {metric} {score:.3f}"
            able.remove(column)
        elif score >= CLOSE[target.kind]:
            notes[column.name] = (
                f"alone it predicts {target.name} with {metric} {score:.3f}: is it known at the prediction time?"
            )
    numeric = tuple(column for column in able if not is_category(column))
    return Features(numeric, tuple(c for c in able if is_category(c)), excluded, notes, scores)


def is_category(column: Column) -> bool:
    """Whether a feature is a category: text, or numbers with the name of an identifier."""
    return column.type == "text" or (column.type == "number" and column.whole and bool(IDENTIFIER.search(column.name)))


def unusable(column: Column) -> str:
    """Return why a column can be no feature by its own values, empty if it can be one."""
    if column.type == "other":
        return f"its type {column.stored[:40]} is neither number nor text"
    if column.type == "empty" or column.nulls == column.rows:
        return "no row has a value"
    if column.type == "time":
        return "a time; to use it, compute a number in source.sql, such as the days since then"
    if column.distinct == 1 and not column.nulls:
        return "constant: all rows have the same value"
    if column.type == "number" and max(map(abs, column.numbers)) > LARGEST_NUMBER:
        return "has numbers beyond those of float32, in which the estimators compute"
    unique = column.distinct > 0.9 * (column.rows - column.nulls) and column.distinct > 100
    if unique and (column.type == "text" or (column.whole and IDENTIFIER.search(column.name))):
        return "identifies the row: (almost) each has a value of its own"
    if (
        unique
        and column.whole
        and column.numbers[-1] - column.numbers[0] < 1.2 * column.rows
        and column.distinct > 1000
    ):
        return "numbers the rows: (almost) each has a whole number of its own"
    if is_category(column) and column.distinct > min(MOST_CATEGORIES, max(column.rows // LEAST_ROWS, 2)):
        return f"text or identifiers with {column.distinct:,} different values, too many for a category"
    return ""


def _known_with_outcome(con: "duckdb.DuckDBPyConnection", column: Column, target: TargetChoice) -> str:
    """Return that a column gets its values together with the outcome: it is empty where the outcome is, or hardly elsewhere."""
    if not column.nulls:
        return ""
    own, outcome = quoted(column.name), quoted(target.name)
    query = (
        f"SELECT count(*) FILTER (WHERE {outcome} IS NULL), count(*) FILTER (WHERE {outcome} IS NULL AND {own} IS NULL), "  # noqa: S608
        f"count(*) FILTER (WHERE {outcome} IS NOT NULL AND {own} IS NULL), count(*) FILTER (WHERE {outcome} IS NOT NULL) FROM {ROWS}"
    )
    open_rows, both, only_own, known = con.execute(query).fetchall()[0]
    always = both >= 0.99 * open_rows and only_own < 0.5 * known
    nowhere_else = both >= 0.5 * open_rows and only_own <= 0.01 * both
    if open_rows >= 20 and (always or nowhere_else):
        return f"known only with the outcome: empty in {both:,} of {open_rows:,} rows without {target.name}, in {only_own:,} others"
    return ""


def closed_set(con: "duckdb.DuckDBPyConnection", column: Column, time: str) -> list[str]:
    """Return the categories of a column if it has at most 20 and all of them occur in the first half of the rows by time; else none."""
    if column.distinct > 20:
        return []
    name, moment = quoted(column.name), quoted(time)
    middle = f"(SELECT quantile_disc({moment}, 0.5) FROM {ROWS})"  # noqa: S608
    early = int(scalar(con, f"SELECT count(DISTINCT {name}) FROM {ROWS} WHERE {moment} <= {middle}"))  # noqa: S608
    if early < column.distinct:
        return []
    return [
        str(v)
        for (v,) in con.execute(f"SELECT DISTINCT {name} FROM {ROWS} WHERE {name} IS NOT NULL ORDER BY 1").fetchall()  # noqa: S608
    ]
