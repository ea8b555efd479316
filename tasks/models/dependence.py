"""Measured dependence: the lag-1 autocorrelation of block means, and how much it raises the standard error of a mean.

Blocks of time resemble their neighbours. For an AR(1) series with autocorrelation r, the standard error of a mean is larger than that of
independent blocks by about sqrt((1 + r) / (1 - r)). r is not known, and its estimate is uncertain. So the factor has a distribution,
and a quantile of a statistic is that of the mixture over it: with few blocks the mixture has heavier tails.

Estimate. The sample autocorrelation about the mean is too small by (1 + 4r) / n on average (Marriott and Pope 1954; Kendall 1954). With a
mean for each of S samples of together n blocks it is (S + 2r(S + 1)) / n, by the same argument. `lag_one` inverts it.

Uncertainty. arcsin(r) is approximately normal with variance 1 / n, because the variance of r is (1 - r^2) / n (Bartlett 1946) and the
derivative of arcsin(r) is (1 - r^2)^(-1/2).

Standard error given r. The estimates of r and of the innovations' variance are asymptotically independent, those of r and of the blocks'
variance are not (Brockwell and Davis 1991, 8.8). So `error_factor` keeps the innovations that the estimate gives, for each r.

Several series. The estimates of many columns are shrunk to their mean by empirical Bayes (random effects: DerSimonian and Laird 1986), but
none by more than one standard error downwards (limited translation: Efron and Morris 1972).

Only positive autocorrelation counts. A negative one would make bounds narrower.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_AUTOCORRELATION = 0.97
"""Larger autocorrelations cannot be distinguished from a trend with some tens of blocks."""

MIN_SIGNAL = 0.5
"""Sampling noise is taken out of the autocorrelation up to this share. With more noise the rest cannot be estimated."""
GRID = np.sin(np.linspace(0.0, np.arcsin(MAX_AUTOCORRELATION), 200))
"""Autocorrelations at which factors of standard errors are computed. Between them they are interpolated."""


class Autocorrelation(NamedTuple):
    """Estimates of one or several series: r, and mean and standard deviation of the normal distribution of arcsin(r)."""

    r: np.ndarray
    angle: np.ndarray
    deviation: np.ndarray

    def quantiles(self, probabilities: np.ndarray) -> np.ndarray:
        """Return quantiles of r within 0 and `MAX_AUTOCORRELATION`, float64 `(..., probabilities)`."""
        from scipy.special import ndtri

        angles = self.angle[..., None] + self.deviation[..., None] * ndtri(probabilities)
        return np.sin(np.clip(angles, 0.0, np.arcsin(MAX_AUTOCORRELATION)))


def lag_one(deviations: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> Autocorrelation:
    """Estimate the lag-1 autocorrelation of block means, corrected for bias.

    A block with more rows has a larger weight, the square root of its rows in each product.

    Args:
        deviations: For each sample, the deviations of its block means from its mean, `(..., blocks)`, oldest first.
        rows: For each sample, the rows of its blocks, `(blocks,)`.
    """
    used = [(d * np.sqrt(w), np.sqrt(w)) for d, w in zip(deviations, rows, strict=True) if len(w) > 1]
    count, samples = sum(len(w) for _, w in used), len(used)
    if not used:
        zero = np.zeros(np.shape(deviations[0])[:-1])
        return Autocorrelation(zero, zero, zero + 1.0)
    squares = sum((d**2).sum(axis=-1) for d, _ in used) / sum((w**2).sum() for _, w in used)
    products = sum((d[..., 1:] * d[..., :-1]).sum(axis=-1) for d, _ in used) / sum(w[1:] @ w[:-1] for _, w in used)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(squares > 0, products * (count - samples) / (squares * count), 0.0)
    r = (count * ratio + samples) / max(count - 2 * samples - 2, 1)
    r = np.where(squares > 0, np.clip(r, -MAX_AUTOCORRELATION, MAX_AUTOCORRELATION), 0.0)
    return Autocorrelation(r, np.arcsin(r), np.full(r.shape, count**-0.5))


def shrink(estimates: Autocorrelation, similarity: np.ndarray) -> Autocorrelation:
    """Shrink the estimates of several series to their mean, as far as they do not differ by more than their errors.

    Args:
        estimates: Of all series, each array `(series,)`.
        similarity: Squared correlation of each two series, `(series, series)`. It is that of their estimates of r, so similar
            series count as fewer than they are.
    """
    count = len(estimates.r)
    if count < 2:
        return estimates
    error = estimates.deviation**2
    noise = float(error.mean())
    similar = np.clip(
        similarity - noise, 0.0, 1.0
    )  # the squared correlation of independent series is 1 / blocks on average
    np.fill_diagonal(similar, 1.0)
    shared = (similar.sum() - count) / (count * (count - 1))
    between = max(float(estimates.angle.var(ddof=1)) - noise * (1 - shared), 0.0)
    mean, weight = estimates.angle.mean(), between / (between + error)
    angle = np.maximum(weight * estimates.angle + (1 - weight) * mean, estimates.angle - estimates.deviation)
    mean_error = (noise + between) * similar.sum() / count**2
    return Autocorrelation(estimates.r, angle, np.sqrt(weight * error + (1 - weight) ** 2 * mean_error))


def error_factor(
    rows: Sequence[np.ndarray], r: np.ndarray, estimate: np.ndarray, signal: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return by how much dependence raises the standard error of a mean, or of the difference of the means of two samples.

    Args:
        rows: For each sample, the rows of its blocks, `(blocks,)`.
        r: Autocorrelations to compute the factor for.
        estimate: The estimate of r, broadcast with `r`.
        signal: Share of the variance of block means that is not the sampling noise of their rows, broadcast with `r`. Noise has no
            autocorrelation, so that of the rest is r / signal. Values below `MIN_SIGNAL` count as that.

    Returns:
        float64 with the shape of `r`: the factor of the standard error that blocks without dependence would have.
    """
    estimate, signal = np.clip(estimate, 0.0, MAX_AUTOCORRELATION), np.maximum(signal, MIN_SIGNAL)
    innovations = (1 + r**2 - 2 * r * estimate) / (1 - r**2)
    at, grid = np.arcsin(np.minimum(r / signal, MAX_AUTOCORRELATION)), np.arcsin(GRID)
    mean, lost = (1 + signal * (np.interp(at, grid, x) - 1) for x in _variance_ratios(rows, GRID))
    count, samples = (
        sum(map(len, rows)),
        len(rows),
    )  # the sample variance of dependent blocks is too small, as `lost` says
    return np.asarray(np.sqrt(mean * innovations * (count - samples) / np.maximum(count - samples * lost, 1e-9)))


def _variance_ratios(rows: Sequence[np.ndarray], r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of the mean (or difference) over that of independent blocks, and its average over samples without weights."""
    variances = [variance_of_sum(w, r) / w.sum() ** 2 for w in rows]
    independent = sum(float(w @ w) / w.sum() ** 2 for w in rows)
    plain = [variance_of_sum(np.ones(len(w)), r) / len(w) for w in rows]
    return np.sum(variances, axis=0) / independent, np.mean(plain, axis=0)


def variance_of_sum(weights: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return the variance of a weighted sum of an AR(1) series with variance 1: the sum of w_s w_t r^|s - t|."""
    total, running = np.zeros(np.shape(r)), np.zeros(np.shape(r))
    for weight in weights:
        running = running * r + weight
        total += weight * (2 * running - weight)
    return total


def effective_blocks(count: int, r: float) -> float:
    """Return the number of independent blocks whose mean has the same standard error: n (1 - r) / (1 + r)."""
    return count * (1 - r) / (1 + r)
