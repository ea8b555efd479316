"""How well one column alone predicts the target: a nearly perfect score means that the column has the outcome in it.

Half of a sample gives the mean outcome of each bin of the column (64 quantiles, or its most frequent values, and missing values). The other
half is predicted by these means. The score is the ROC AUC, the mean over the classes, or R2 for numbers.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from configs.flat import quoted
from ops.profiling.describe import ROWS
from ops.profiling.values import Column, TargetChoice

if TYPE_CHECKING:
    import duckdb

SAMPLE, BINS = 50_000, 64


def single_column_scores(
    con: "duckdb.DuckDBPyConnection", columns: Sequence[Column], target: TargetChoice, outcome: str
) -> Mapping[str, float]:
    """Return the score of each column.

    Args:
        con: A session with the typed rows.
        columns: Columns of numbers and text.
        target: The target.
        outcome: SQL of the outcome: a number, or the text of a class.
    """
    known = f"SELECT *, rowid AS {quoted('row number')}, {outcome} AS {quoted('known outcome')} FROM {ROWS}"  # noqa: S608
    known = f"SELECT * FROM ({known}) WHERE {quoted('known outcome')} IS NOT NULL"  # noqa: S608
    (rows,) = con.execute(f"SELECT count(*) FROM ({known})").fetchall()[0]  # noqa: S608
    step = max(1, rows // SAMPLE)
    names = ", ".join([quoted(column.name) for column in columns] + [quoted("known outcome")])
    sample = con.execute(
        f"SELECT {names} FROM ({known}) WHERE hash({quoted('row number')}) % {step} = 0 ORDER BY {quoted('row number')}"  # noqa: S608
    ).fetchnumpy()
    outcomes = _outcomes(sample["known outcome"], target)
    return {
        column.name: _score(_bins(sample[column.name], column), outcomes, target.kind == "regression")
        for column in columns
    }


def _outcomes(values: np.ndarray, target: TargetChoice) -> np.ndarray:
    """Return the outcomes as float64 of shape (rows, classes)."""
    if target.kind == "multiclass":
        return np.stack([(values == name).astype("float64") for name in target.classes], axis=1)
    return np.asarray(values, dtype="float64").reshape(-1, 1)


def _bins(values: np.ndarray, column: Column) -> np.ndarray:
    """Return the number of each value's bin; 0 is missing."""
    missing = np.ma.getmaskarray(values)
    if column.type == "number":
        numbers = np.ma.filled(values, 0.0).astype("float64")
        edges = (
            np.unique(np.quantile(numbers[~missing], np.linspace(0, 1, BINS + 1)[1:-1]))
            if (~missing).any()
            else np.zeros(0)
        )
        bins = np.searchsorted(edges, numbers, side="left") + 1
    else:
        texts = np.where(missing, "", np.ma.getdata(values)).astype(str)
        _, bins = np.unique(texts, return_inverse=True)
        bins = bins + 1
    return np.where(missing, 0, bins)


def _score(bins: np.ndarray, outcomes: np.ndarray, is_number: bool) -> float:
    half = np.arange(len(bins)) % 2 == 0
    prior = outcomes[half].mean(axis=0)
    sizes = np.bincount(bins[half], minlength=bins.max() + 1)
    scores, weights = [], []
    for at in range(outcomes.shape[1]):
        sums = np.bincount(bins[half], weights=outcomes[half, at], minlength=len(sizes))
        means = (sums + prior[at]) / (sizes + 1)  # one row of the prior, for bins with few rows
        own, predicted = outcomes[~half, at], means[bins[~half]]
        scores.append(_r2(own, predicted) if is_number else _auc(own > 0.5, predicted))
        weights.append(1.0 if is_number else own.mean())
    return float(np.average(scores, weights=weights)) if sum(weights) else 0.5


def _r2(outcome: np.ndarray, predicted: np.ndarray) -> float:
    spread = outcome.var()
    return float(1 - ((outcome - predicted) ** 2).mean() / spread) if spread else 0.0


def _auc(positive: np.ndarray, predicted: np.ndarray) -> float:
    """Return the area under the ROC curve; ties count half."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5
    values, at = np.unique(predicted, return_inverse=True)
    above = np.bincount(at[positive], minlength=len(values))
    below = np.bincount(at[~positive], minlength=len(values))
    return float((above * (np.cumsum(below) - below / 2)).sum() / (ones * zeros))
