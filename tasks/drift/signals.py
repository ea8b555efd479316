"""Signals of a drift check: each column's score, and the shares that the score ignores, with their values in each permutation."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from configs.monitoring import Method
from tasks.drift.block_series import DEGREES, Series, column_series, measure, share_series
from tasks.drift.permutations import (
    assignment_matrix,
    group_starts,
    merge_groups,
    permute_runs,
    permuted_counts,
    sum_over_blocks,
)
from tasks.drift.scores import MAX_DISTINCT_VALUES, score
from tasks.drift.sketches import Sketch

MISSING, NEW, OUTSIDE = "missing", "new categories", "outside range"


class Signal(NamedTuple):
    """One signal of one column: its score, its effect size, and its scores under the null, float64 `(permutations,)`."""

    column: str
    kind: str
    score: float
    effect: float
    null_scores: np.ndarray


class Sides(NamedTuple):
    """The blocks of both sides, and their permutations.

    Attributes:
        pooled: Both sides, as observed.
        matched: `pooled` with the block sizes to use for the current side and for the reference.
        is_current: bool `(blocks,)`.
        assignments: Matrix `(1 + permutations, blocks)`. Its first row is `is_current`.
    """

    pooled: Sketch
    matched: tuple[Sketch, Sketch]
    is_current: np.ndarray
    assignments: Any

    def counts(self, name: str, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a column's counts of the current side and of the reference, each float64 `(1 + permutations, groups)`."""
        as_current, as_reference = (side.columns[name] for side in self.matched)
        return permuted_counts(as_current, as_reference, starts, self.assignments)

    def with_runs(self, length: int, seed: int) -> "Sides":
        """Return the sides with permutations of runs of blocks instead of single blocks."""
        n_blocks, n_current = len(self.is_current), int(self.is_current.sum())
        drawn = permute_runs(n_blocks, n_current, self.assignments.shape[0] - 1, min(length, n_current), seed)
        positions = np.concatenate([np.flatnonzero(self.is_current)[None, :], drawn])
        return self._replace(assignments=assignment_matrix(positions, n_blocks))


def dependent_signals(
    sides: Sides, methods: Mapping[str, Method], effects: Mapping[str, float], seed: int
) -> list[Signal]:
    """Return all signals, with null scores that take the autocorrelation of the blocks into account: see `tasks/drift/block_series.py`."""
    rows = sides.pooled.rows
    series: dict[tuple[str, str], Series] = {}
    for name, method in methods.items():
        column = sides.pooled.columns[name]
        series[name, method.method] = column_series(column, group_starts(column), method.method)
        if column.other.any():
            series[name, MISSING] = share_series(column.other.sum(axis=1), rows)
    if not series:
        return []
    measured = measure(list(series.values()), rows, sides.is_current)
    factors = dict(zip(series, measured.factors(rows, sides.assignments, seed), strict=True))
    length = measured.run_length()
    signals = signals_of(sides, methods, effects, sides.with_runs(length, seed) if length > 1 else sides)
    return [
        s._replace(null_scores=s.null_scores * factors[s.column, s.kind] ** DEGREES.get(s.kind, 1))
        if (s.column, s.kind) in factors
        else s
        for s in signals
    ]


def signals_of(
    sides: Sides, methods: Mapping[str, Method], effects: Mapping[str, float], runs: Sides | None = None
) -> list[Signal]:
    """Return the signals of all columns: the score, the change in the share of unusable values, and the share of unknown values.

    A share that is the same in all permutations and below its effect size is left out.

    Args:
        sides: With permutations of single blocks.
        methods: The statistic of each column, and its effect size.
        effects: Effect sizes of the shares.
        runs: The same with the permutations for the share of unknown values, if they are other ones.
    """
    signals = []
    for name, method in methods.items():
        starts = group_starts(sides.pooled.columns[name])
        counts = sides.counts(name, starts)
        observed, null_scores = _scores(name, sides, starts, counts, method)
        signals.append(Signal(name, method.method, observed, method.threshold, null_scores))
        unknown = (
            _unknown(name, sides, counts)
            if runs is None or runs is sides
            else _unknown(name, runs, runs.counts(name, starts))
        )
        shares = {MISSING: _missing(name, sides), OUTSIDE if sides.pooled.columns[name].numeric else NEW: unknown}
        signals += [
            Signal(name, kind, float(x[0]), effects[kind], x[1:])
            for kind, x in shares.items()
            if len(x) == 1 or x.min() < x.max() or x[0] >= effects[kind]
        ]
    return signals


def _scores(
    name: str, sides: Sides, starts: np.ndarray, counts: tuple[np.ndarray, np.ndarray], method: Method
) -> tuple[float, np.ndarray]:
    """Return the exact score of the observed sides, and the scores of the permutations, float64 `(permutations,)`."""
    column, is_current, n_permutations = sides.pooled.columns[name], sides.is_current, sides.assignments.shape[0] - 1
    reference, current = (column.counts[side].sum(axis=0).astype("float64") for side in (~is_current, is_current))
    if not reference.sum() or not current.sum():
        return float("nan"), np.zeros(n_permutations)
    observed = float(score(method.method, column.values, reference, current))
    if not n_permutations:
        return observed, np.empty(0)
    by_value = bool(not column.numeric or (reference > 0).sum() <= MAX_DISTINCT_VALUES)
    if method.method in ("jensenshannon", "psi") and len(starts) < len(column.values):
        starts = np.arange(len(column.values))  # bins of equal width need single values
        counts = sides.counts(name, starts)
    permuted_current, permuted_reference = (side[1:] for side in counts)
    merged = merge_groups(column, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        null_scores = score(method.method, merged.values, permuted_reference, permuted_current, by_value, merged.total)
    return observed, np.nan_to_num(null_scores)  # a side without values scores 0


def _missing(name: str, sides: Sides) -> np.ndarray:
    """Return the change in the share of unusable values, float64 `(1 + permutations,)`."""
    as_current, as_reference = (side.columns[name].other.sum(axis=1) for side in sides.matched)
    current_rows, reference_rows = (side.rows for side in sides.matched)
    unusable, rows = (sum_over_blocks(sides.assignments, x) for x in (as_current, current_rows))
    others, other_rows = (x.sum() - sum_over_blocks(sides.assignments, x) for x in (as_reference, reference_rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.abs(unusable / rows - others / other_rows))


def _unknown(name: str, sides: Sides, counts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the share of values that the reference does not have, float64 `(1 + permutations,)`."""
    current, reference = counts
    in_reference = reference > 0
    if sides.pooled.columns[name].numeric:  # everything between the smallest and the largest value is in range
        in_reference = (
            np.maximum.accumulate(in_reference, axis=1) & np.maximum.accumulate(in_reference[:, ::-1], axis=1)[:, ::-1]
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = sum_over_blocks(sides.assignments, sides.matched[0].rows)
        return np.nan_to_num(np.where(in_reference, 0, current).sum(axis=1) / rows)
