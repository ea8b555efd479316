"""Confidence bounds of means over rows that are not independent, by a bootstrap of whole blocks of time (block bootstrap).

Rows of the same day are correlated, so the sampling unit is a day and not a row. Days resemble their neighbours, which the standard error
takes into account (`tasks/models/dependence.py`). All rows have the same weight.
A block with more rows has a larger weight.
"""

from collections.abc import Sequence

import numpy as np

from tasks.contracts import Interval
from tasks.models.dependence import Autocorrelation, error_factor, lag_one

ERROR_RESERVE = 0.3
"""Share of the nominal error rate that is not used: with few blocks, the tails of their distribution are underestimated."""
MIXTURE = (np.arange(50) + 0.5) / 50
"""Probabilities of the quantiles of the autocorrelation over which bounds are mixed."""
BISECTIONS = 18


def block_sums(values: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the values and the number of rows of each block, in the blocks' sorted order."""
    _, index = np.unique(blocks, return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype("float64")


def draw_blocks(count: int, resamples: int, seed: int) -> np.ndarray:
    """Draw blocks with replacement.

    Returns:
        float64 of shape (resamples, count): how often each block occurs in each resample.
    """
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype("float64")


def mean_bounds(
    sums: np.ndarray,
    rows: np.ndarray,
    confidence: float,
    resamples: int,
    seed: int,
    low: float = -np.inf,
    high: float = np.inf,
) -> Interval:
    """Compute the mean over all rows with two one-sided bounds.

    Percentiles of the resampled means are too narrow for some tens of blocks with skewed and heavy-tailed errors.
    So each bound is the wider of two: the studentised bootstrap's (bootstrap-t: Efron and Tibshirani 1993, 12.5;
    Davison and Hinkley 1997, 5.2.1) and Student's t over blocks. Both are quantiles of a mixture: the standard error has the factor that
    the measured autocorrelation of the block means gives it (`tasks/models/dependence.py`). Both use only a part of the nominal error rate
    (`ERROR_RESERVE`). `benchmarks/gate.py` measures the resulting error rates.

    The standard error is that of a ratio of block sums (Cochran 1977, 2.11). A resample with a standard error of zero
    counts as infinitely far from the mean, so it widens the bounds.

    Args:
        sums: Sum of the values of each block, oldest block first.
        rows: Number of rows of each block.
        confidence: Coverage probability of each bound on its own.
        low: Smallest possible mean.
        high: Largest possible mean.

    Returns:
        Mean and bounds. The bounds are NaN for fewer than two blocks or if a value is not finite.
    """
    count = len(sums)
    if count < 2 or not np.isfinite(sums).all():
        return Interval(float(sums.sum() / rows.sum()) if count else float("nan"), float("nan"), float("nan"))
    mean = sums.sum() / rows.sum()
    error = _standard_error(((sums - mean * rows) ** 2).sum(), count, rows.sum())
    if error == 0:
        return Interval(float(mean), float(mean), float(mean))
    level = 1 - (1 - ERROR_RESERVE) * (1 - confidence)
    dependence = lag_one([sums / rows - mean], [rows])
    factors = error_factor([rows], dependence.quantiles(MIXTURE), dependence.r)
    order = np.random.default_rng(seed).permutation(resamples) % len(factors)
    t = _bootstrap_t(sums, rows, mean, resamples, seed) * factors[order]
    student = _student_quantile(level, count - 1, factors)
    upper = mean - error * min(np.quantile(t, 1 - level, method="lower"), -student)
    lower = mean - error * max(np.quantile(t, level, method="higher"), student)
    return Interval(float(mean), float(max(lower, min(low, mean))), float(min(upper, max(high, mean))))


def _bootstrap_t(sums: np.ndarray, rows: np.ndarray, mean: float, resamples: int, seed: int) -> np.ndarray:
    """Return the studentised means of resamples, float64 `(resamples,)`."""
    count = len(sums)
    draws = draw_blocks(count, resamples, seed)
    weights = draws @ rows
    means = (draws @ sums) / weights
    spread = draws @ sums**2 - 2 * means * (draws @ (sums * rows)) + means**2 * (draws @ rows**2)
    errors = _standard_error(np.maximum(spread, 0), count, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num((means - mean) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _student_quantile(level: float, degrees: int, factors: np.ndarray) -> float:
    """Return the quantile of Student's t times one of the factors, all equally probable, by bisection of the distribution function."""
    from scipy.special import stdtr, stdtrit

    low, high = (float(stdtrit(degrees, level)) * factor for factor in (factors.min(), factors.max()))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if stdtr(degrees, middle / factors).mean() > level else (middle, high)
    return high


def measured_error_factor(sums: np.ndarray, rows: np.ndarray) -> float:
    """Return the factor by which the measured autocorrelation of block means raises a standard error, as a root mean square.

    For statistics whose resamples cannot be studentised.
    """
    dependence = lag_one([sums / rows - sums.sum() / rows.sum()], [rows])
    factors = error_factor([rows], dependence.quantiles(MIXTURE), dependence.r)
    return float(np.sqrt((factors**2).mean()))


def common_dependence(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> Autocorrelation:
    """Estimate the autocorrelation of block means over several samples, each `sums` and `rows` of its blocks, oldest first."""
    deviations = [sums / rows - sums.sum() / rows.sum() for sums, rows in samples]
    return lag_one(deviations, [rows for _, rows in samples])


def mean_variance(sums: np.ndarray, rows: np.ndarray, dependence: Autocorrelation) -> float:
    """Return the sampling variance of the mean over all rows of dependent blocks; NaN for fewer than two blocks.

    Args:
        sums: Sum of the values of each block, oldest block first.
        rows: Number of rows of each block.
        dependence: The autocorrelation of block means. A few blocks cannot show it themselves.
    """
    if len(sums) < 2:
        return float("nan")
    squares = ((sums - sums.sum() / rows.sum() * rows) ** 2).sum()
    factors = error_factor([rows], dependence.quantiles(MIXTURE), dependence.r)
    return float(_standard_error(squares, len(sums), rows.sum()) ** 2 * (factors**2).mean())


def _standard_error(squares: np.ndarray, count: int, weight: np.ndarray) -> np.ndarray:
    return np.sqrt(squares * count / (count - 1)) / weight


def paired_gain(
    champion: np.ndarray, challenger: np.ndarray, blocks: np.ndarray, confidence: float, resamples: int, seed: int
) -> Interval:
    """Compute the mean of the champion's loss minus the challenger's, with one-sided bounds as in `mean_bounds`.

    Losses are not negative, so the gain is at most the champion's largest loss, and at least minus the challenger's.

    Args:
        champion: Loss of each row.
        challenger: Loss of each of the same rows.
        blocks: Block of each row.
    """
    sums, rows = block_sums(champion - challenger, blocks)
    low, high = -challenger.max(initial=0.0), champion.max(initial=0.0)
    return mean_bounds(sums, rows, confidence, resamples, seed, low, high)
