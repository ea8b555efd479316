"""Permutation test for drift: scores of a partition against a reference, with thresholds that keep a stated error rate.

The null distribution. Rows of one day depend on each other, days much less so. Therefore the test permutes whole blocks of time (days by
default): the blocks of both sides are pooled, as many as the partition has are assigned to it, the others to the reference, and every
signal of every column is scored again. 2,000 permutations are drawn, the same for all columns, or all are enumerated if there are not more.
The test is exact if blocks are exchangeable, whatever their size and whatever the dependence within them (Lehmann and Romano 2005, section
15.2; with drawn permutations, Phipson and Smyth 2010). Blocks that resemble their neighbours are not exchangeable, so null scores are
adjusted to the measured autocorrelation (`tasks/drift/block_series.py`). If one side has larger blocks, they are subsampled, so that fewer
rows do not count as drift. The test is then approximate, because each column is subsampled on its own.

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

import numpy as np

from configs.monitoring import Method
from tasks.drift.permutations import assignment_matrix, permute_blocks, subsample_larger_side
from tasks.drift.signals import MISSING, NEW, OUTSIDE, Sides, Signal, dependent_signals, signals_of
from tasks.drift.sketches import Sketch, union
from tasks.drift.tails import Tail, leave_one_out_sf

__all__ = ["MISSING", "NEW", "OUTSIDE", "Alarm", "Check", "check", "uncalibrated_reason"]

MIN_TAIL_PERMUTATIONS = 2
"""Possible permutations times alpha that a calibrated check needs."""


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
    sides = Sides(pooled, matched, is_current, assignment_matrix(positions, len(pooled.blocks)))
    signals = signals_of(sides, methods, effects) if note else dependent_signals(sides, methods, effects, seed)
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
