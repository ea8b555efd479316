"""Confidence bounds of means over rows that are not independent: bootstraps that draw whole blocks of time.

Two rows of one day share its weather, its news and its faults, so a day, not a row, is what
another sample would bring anew. Rows weigh alike; a block with more rows weighs more.
"""

import numpy as np

from tasks.contracts import Interval

HELD_BACK = 0.3
"""Share of the stated error that is kept for what fourteen days cannot tell of their tails."""


def block_sums(values: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of rows of each block, in the blocks' sorted order."""
    _, index = np.unique(blocks, return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype("float64")


def draw_blocks(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of `count` blocks occurs in each resample, `(resamples, count)`; drawn with replacement."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype("float64")


def mean_bounds(sums: np.ndarray, rows: np.ndarray, confidence: float, resamples: int, seed: int) -> Interval:
    """The mean over all rows with one-sided bounds, each of which holds by itself with probability `confidence`.

    Percentiles of the resampled means are too narrow for some tens of blocks whose errors are skewed
    and heavy-tailed, as those of days are. So each bound is the wider of two: the studentised
    bootstrap's (bootstrap-t: Efron and Tibshirani 1993, 12.5; Davison and Hinkley 1997, 5.2.1) and
    Student's t over blocks; and three tenths of the stated error are held back (`HELD_BACK`).
    `benchmarks/gate.py` shows the rates that come of it. The standard error is that of a ratio of
    block sums (Cochran 1977, 2.11). A resample in which every block is the same counts as infinitely
    far away: doubt widens the bounds. NaN for fewer than two blocks or where a value is not finite.
    """
    from scipy.special import stdtrit

    count = len(sums)
    if count < 2 or not np.isfinite(sums).all():
        return Interval(float(sums.sum() / rows.sum()) if count else float("nan"), float("nan"), float("nan"))
    mean = sums.sum() / rows.sum()
    error = _standard_error(((sums - mean * rows) ** 2).sum(), count, rows.sum())
    draws = draw_blocks(count, resamples, seed)
    weights = draws @ rows
    means = (draws @ sums) / weights
    spread = draws @ sums**2 - 2 * means * (draws @ (sums * rows)) + means**2 * (draws @ rows**2)
    errors = _standard_error(np.maximum(spread, 0), count, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.nan_to_num((means - mean) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
    level = 1 - (1 - HELD_BACK) * (1 - confidence)
    student = stdtrit(count - 1, level)
    high = max(np.quantile(t, level, method="higher"), student)
    low = min(np.quantile(t, 1 - level, method="lower"), -student)
    if error == 0:
        return Interval(float(mean), float(mean), float(mean))
    return Interval(float(mean), float(mean - high * error), float(mean - low * error))


def _standard_error(squares: np.ndarray, count: int, weight: np.ndarray) -> np.ndarray:
    return np.sqrt(squares * count / (count - 1)) / weight


def paired_gain(
    champion: np.ndarray, challenger: np.ndarray, blocks: np.ndarray, confidence: float, resamples: int, seed: int
) -> Interval:
    """Mean of the champion's loss minus the challenger's on the same rows, with one-sided bounds.

    `champion` and `challenger` are losses of the same rows, `blocks` names each row's block.
    """
    sums, rows = block_sums(champion - challenger, blocks)
    return mean_bounds(sums, rows, confidence, resamples, seed)
