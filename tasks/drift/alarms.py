"""Permutation test for drift: scores of a partition against a reference, with thresholds that keep a stated error rate.

The null distribution. Rows of one day depend on each other, days much less so. Therefore the test permutes whole blocks of time (days by
default): the blocks of both sides are pooled, as many as the partition has are assigned to it, the others to the reference, and every
signal of every column is scored again. 2,000 permutations are drawn, the same for all columns, or all are enumerated if there are not more.
The test is exact if blocks are exchangeable, whatever their size and whatever the dependence within them (Lehmann and Romano 2005, section
15.2; with drawn permutations, Phipson and Smyth 2010). If one side has larger blocks, they are subsampled, so that fewer rows do not count
as drift. The test is then approximate, because each column is subsampled on its own.

Multiple testing. A check tests many signals. Each one's null scores are put on one scale by a tail model of its own (Pearson III with the
mean, deviation and skewness of its null scores). The smallest tail probability of each permutation, among the signals that reach their
effect size in it, gives the level for all (Westfall and Young 1993, single-step minP). So the probability of any false alarm is `alpha`,
whatever the correlation of the columns. It does not depend on the tail model, which only distributes it among them. The number of
permutations therefore need not grow with the number of columns, as it must if each column has a p-value of its own. A signal's threshold is
its score at that level, or the effect size of model.yaml if that is larger.

Few blocks allow few permutations. With fewer than 2 / alpha of them no threshold has the stated error rate: the check is "not calibrated"
and raises no alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, comb
from typing import Any, NamedTuple

import numpy as np

from configs.monitoring import Method
from tasks.drift.permutations import (
    assignment_matrix,
    group_starts,
    merge_groups,
    permute_blocks,
    permuted_counts,
    subsample_larger_side,
    sum_over_blocks,
)
from tasks.drift.scores import MAX_DISTINCT_VALUES, score
from tasks.drift.sketches import Column, Sketch, union
from tasks.drift.tails import Tail, leave_one_out_sf

MISSING, NEW, OUTSIDE = "missing", "new categories", "outside range"
MIN_TAIL_PERMUTATIONS = 2
"""Possible permutations times alpha that a calibrated check needs."""


class Signal(NamedTuple):
    """One signal of one column: its score, its effect size, and its scores under the null, float64 `(permutations,)`."""

    column: str
    kind: str
    score: float
    effect: float
    null_scores: np.ndarray


@dataclass(frozen=True)
class Alarm:
    """A tested signal, with its threshold in the unit of the score. NaN stands for a number that does not exist.

    `drifted`: the score reaches the threshold, which is never below the effect size.

    `p_value` is corrected for the number of signals: the share of permutations (the observed one included) in which any
    signal that reaches its effect size has at most the tail probability of this score.
    """

    column: str
    kind: str
    score: float
    effect: float
    threshold: float
    p_value: float
    drifted: bool


@dataclass(frozen=True)
class Check:
    """The tested signals of one comparison. `note` is why it is not calibrated, empty if it is."""

    alarms: tuple[Alarm, ...]
    reference_blocks: int
    current_blocks: int
    note: str = ""


def check(
    reference: Sketch,
    current: Sketch,
    methods: Mapping[str, Method],
    effects: Mapping[str, float],
    *,
    alpha: float,
    resamples: int,
    seed: int = 0,
) -> Check:
    """Score every column of the current sketch against the reference, and test the scores.

    Args:
        reference: Must not share a block with `current`.
        current: The partition.
        methods: The statistic of each column, and its effect size.
        effects: Effect sizes of the signals `missing`, `new categories` and `outside range`.
        alpha: Probability of any false alarm in the check.
        resamples: Permutations to draw. More are drawn if `alpha` needs them.
        seed: Makes the permutations repeatable.

    Raises:
        ValueError: the two sides share a block.
    """
    if shared := set(reference.blocks) & set(current.blocks):
        raise ValueError(
            f"reference and partition share {len(shared)} blocks, the first {min(shared)}; compare different blocks"
        )
    names, n_current = tuple(methods), len(current.blocks)
    pooled = union([reference.select_columns(names), current.select_columns(names)])
    is_current = np.isin(pooled.blocks, current.blocks)
    matched = subsample_larger_side(pooled, is_current, seed)
    note = uncalibrated_reason(len(pooled.blocks) - n_current, n_current, alpha)
    n_permutations = max(resamples, ceil(MIN_TAIL_PERMUTATIONS / alpha))
    permutations = (
        np.empty((0, n_current), "int64")
        if note
        else permute_blocks(len(pooled.blocks), n_current, n_permutations, seed)
    )
    observed = np.flatnonzero(is_current)[None, :]
    positions = np.concatenate([observed, permutations]) if n_current else np.empty((1, 0), "int64")
    assignments = assignment_matrix(positions, len(pooled.blocks))
    signals = [
        signal
        for name, method in methods.items()
        for signal in _signals(name, pooled, matched, is_current, assignments, method, effects)
    ]
    alarms = tuple(_uncalibrated(s) for s in signals) if note else tuple(_tested(signals, alpha))
    return Check(alarms, len(reference.blocks), n_current, note)


def uncalibrated_reason(reference: int, current: int, alpha: float) -> str:
    """Return why these numbers of blocks do not allow a calibrated check, empty if they do."""
    if not reference or not current:
        return f"not calibrated: {'the partition' if reference else 'the reference'} has no rows"
    needed, possible = MIN_TAIL_PERMUTATIONS / alpha, comb(reference + current, current)
    if possible >= needed:
        return ""
    return (
        f"not calibrated: {current} current and {reference} reference blocks allow {possible:,} permutations, alpha "
        f"{alpha:g} needs {needed:,.0f}; use a longer reference, or a shorter monitoring.block"
    )


def _signals(
    name: str,
    pooled: Sketch,
    matched: tuple[Sketch, Sketch],
    is_current: np.ndarray,
    assignments: Any,
    method: Method,
    effects: Mapping[str, float],
) -> list[Signal]:
    """Return a column's signals: its score, and the shares that the score ignores.

    Args:
        name: The column.
        pooled: Both sides, as observed.
        matched: `pooled` with the block sizes to use for the current side and for the reference.
        is_current: bool `(blocks,)`.
        assignments: Matrix `(1 + permutations, blocks)`. Its first row is `is_current`.
        method: The column's statistic.
        effects: Effect sizes of the shares.
    """
    as_current, as_reference = (side.columns[name] for side in matched)
    starts = group_starts(pooled.columns[name])
    counts = permuted_counts(as_current, as_reference, starts, assignments)
    observed, null_scores = _scores(
        pooled.columns[name], as_current, as_reference, starts, counts, is_current, assignments, method
    )
    return [
        Signal(name, method.method, observed, method.threshold, null_scores),
        *_share_signals(name, pooled, matched, counts, assignments, effects),
    ]


def _scores(
    column: Column,
    as_current: Column,
    as_reference: Column,
    starts: np.ndarray,
    counts: tuple[np.ndarray, np.ndarray],
    is_current: np.ndarray,
    assignments: Any,
    method: Method,
) -> tuple[float, np.ndarray]:
    """Return the exact score of the observed sides, and the scores of the permutations, float64 `(permutations,)`."""
    reference, current = (column.counts[side].sum(axis=0).astype("float64") for side in (~is_current, is_current))
    if not reference.sum() or not current.sum():
        return float("nan"), np.zeros(assignments.shape[0] - 1)
    observed = float(score(method.method, column.values, reference, current))
    if assignments.shape[0] == 1:
        return observed, np.empty(0)
    by_value = bool(not column.numeric or (reference > 0).sum() <= MAX_DISTINCT_VALUES)
    if method.method in ("jensenshannon", "psi") and len(starts) < len(column.values):
        starts = np.arange(len(column.values))  # bins of equal width need single values
        counts = permuted_counts(as_current, as_reference, starts, assignments)
    permuted_current, permuted_reference = (side[1:] for side in counts)
    merged = merge_groups(column, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        null_scores = score(method.method, merged.values, permuted_reference, permuted_current, by_value, merged.total)
    return observed, np.nan_to_num(null_scores)  # a side without values scores 0


def _share_signals(
    name: str,
    pooled: Sketch,
    matched: tuple[Sketch, Sketch],
    counts: tuple[np.ndarray, np.ndarray],
    assignments: Any,
    effects: Mapping[str, float],
) -> list[Signal]:
    """Return the change in the share of unusable values, and the share of values that the reference does not have.

    A signal that is the same in all permutations and below its effect size is left out.
    """
    as_current, as_reference = (side.columns[name] for side in matched)
    numeric = pooled.columns[name].numeric
    reference_unusable, reference_rows = (
        x.sum() - sum_over_blocks(assignments, x) for x in (as_reference.other.sum(axis=1), matched[1].rows)
    )
    current_unusable, current_rows = (
        sum_over_blocks(assignments, x) for x in (as_current.other.sum(axis=1), matched[0].rows)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        missing = np.nan_to_num(np.abs(current_unusable / current_rows - reference_unusable / reference_rows))
    current, reference = counts
    in_reference = reference > 0
    if numeric:  # everything between the smallest and the largest value is in range
        in_reference = (
            np.maximum.accumulate(in_reference, axis=1) & np.maximum.accumulate(in_reference[:, ::-1], axis=1)[:, ::-1]
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        unknown = np.nan_to_num(np.where(in_reference, 0, current).sum(axis=1) / current_rows)
    return [
        Signal(name, kind, float(x[0]), effects[kind], x[1:])
        for kind, x in ((MISSING, missing), (OUTSIDE if numeric else NEW, unknown))
        if assignments.shape[0] == 1 or x.min() < x.max() or x[0] >= effects[kind]
    ]


def _tested(signals: Sequence[Signal], alpha: float) -> list[Alarm]:
    """Return thresholds and corrected p-values of signals that were scored on the same permutations."""
    tails = [Tail(s.null_scores) for s in signals]
    smallest = np.sort(np.min([leave_one_out_sf(s.null_scores, s.effect) for s in signals], axis=0))
    n_permutations = len(smallest)
    level = smallest[int(alpha * (n_permutations + 1)) - 1]
    alarms = []
    for tail, s in zip(tails, signals, strict=True):
        probability = float(tail.sf(np.array([s.score]))[0])
        p_value = (1 + int((smallest <= probability).sum())) / (n_permutations + 1)
        threshold = max(s.effect, float(np.nextafter(tail.isf(level), np.inf)))
        p_value = float("nan") if np.isnan(s.score) else p_value
        alarms.append(Alarm(s.column, s.kind, s.score, s.effect, threshold, p_value, s.score >= threshold))
    return alarms


def _uncalibrated(s: Signal) -> Alarm:
    return Alarm(s.column, s.kind, s.score, s.effect, float("nan"), float("nan"), drifted=False)
