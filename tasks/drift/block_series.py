"""The null scores of a drift check for blocks of time that resemble their neighbours.

A permutation has the spread of independent blocks. Days are not independent: the mean of a month of similar days differs more from that of
other months. So each null score is multiplied by two factors, from a series that has one number for each block:

- The studentising factor: the standard deviation within the two sides as observed, over that within the sides of the permutation. It
  makes the test one of the studentised score (Janssen 1997; Chung and Romano 2013), so that a change of the column does not hide itself by
  raising the spread of the blocks. With exchangeable blocks this test is exact.
- The factor of the standard error for an autocorrelation (`tasks/models/dependence.py`). Each permutation has another quantile of the
  autocorrelation's distribution, so that the null scores include the uncertainty of its estimate.

The shares of values that the reference does not have are no distances. Their null distribution comes from permutations of runs of blocks
instead (Kuensch 1989): as many blocks in a row as the autocorrelation calls for.

The series of a column is the first principal component of its blocks' distributions, because the largest component determines the tail of a
distance. Distributions are compared as the scores do: numbers by distribution functions, categories by shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from configs.monitoring import Statistic
from tasks.drift.permutations import group_counts, sum_over_blocks
from tasks.drift.sketches import Column
from tasks.models.dependence import MAX_AUTOCORRELATION, Autocorrelation, error_factor, lag_one, shrink

POWER_ITERATIONS = 12
DEGREES = {"psi": 2}
"""Powers of a difference that statistics grow with; 1 unless given."""


class Series(NamedTuple):
    """A number for each block, and the variance of its sampling noise: that of independent rows. Both float64 `(blocks,)`."""

    values: np.ndarray
    noise: np.ndarray


def column_series(column: Column, starts: np.ndarray, method: Statistic) -> Series:
    """Return the first principal component of the distributions of a column by block.

    Args:
        column: The column, of both sides.
        starts: Where groups of values begin.
        method: The column's statistic.
    """
    counts = group_counts(column, starts).astype("float64")
    rows, total = counts.sum(axis=1), counts.sum(axis=0)
    if not total.sum():
        return Series(np.zeros(len(counts)), np.zeros(len(counts)))
    pooled = total / total.sum()
    shares = np.where(rows[:, None] > 0, counts / np.maximum(rows, 1)[:, None], pooled)
    if column.numeric:
        scale = np.sqrt(np.append(np.diff(column.values[starts]) if method == "wasserstein" else pooled[:-1], 0.0))
        direction = _principal_direction(np.cumsum(shares - pooled, axis=1) * scale, np.sqrt(rows))
        scores = np.cumsum((scale * direction)[::-1])[::-1]
    else:
        scale = 1 / np.sqrt(np.where(pooled > 0, pooled, 1.0))
        scores = scale * _principal_direction((shares - pooled) * scale, np.sqrt(rows))
    scores = scores - pooled @ scores
    values = shares @ scores
    return Series(values, _noise(shares @ scores**2 - values**2, rows))


def share_series(count: np.ndarray, rows: np.ndarray) -> Series:
    """Return the share of some rows in each block."""
    share = count / np.maximum(rows, 1)
    return Series(share, _noise(share * (1 - share), rows))


def _noise(variance: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the variance of the mean of each block's rows; 0 for a single row, whose variance is not known."""
    return np.where(rows > 1, np.maximum(variance, 0.0) / np.maximum(rows - 1, 1), 0.0)


def _principal_direction(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the direction in which the vectors have the largest weighted variance, by power iteration."""
    weighted = vectors * weights[:, None]
    norms = (weighted**2).sum(axis=1)
    direction = weighted[norms.argmax()]
    if not norms.any():
        return np.asarray(direction)
    for _ in range(POWER_ITERATIONS):
        direction = (weighted @ (direction / np.linalg.norm(direction))) @ weighted
    return np.asarray(direction / np.linalg.norm(direction))


@dataclass(frozen=True)
class Measured:
    """The series of a check, and what was estimated from them: autocorrelations, and shares of variance that are not sampling noise."""

    values: np.ndarray
    autocorrelation: Autocorrelation
    signal: np.ndarray
    sides: Sequence[np.ndarray]

    def run_length(self) -> int:
        """Return the length of runs of blocks to permute, for the series with the largest autocorrelation (Carlstein 1986, for AR(1))."""
        r = float(np.clip(np.sin(self.autocorrelation.angle).max(), 0.0, MAX_AUTOCORRELATION))
        return max(1, round((6**0.5 * r / (1 - r**2)) ** (2 / 3) * self.values.shape[1] ** (1 / 3)))

    def factors(self, rows: np.ndarray, assignments: Any, seed: int) -> np.ndarray:
        """Return the factor of each null score of each series, float64 `(series, permutations)`.

        Args:
            rows: Rows of each block, `(blocks,)`.
            assignments: Matrix `(1 + permutations, blocks)`. Its first row is the observed one.
            seed: Makes the assignment of quantiles to permutations repeatable.
        """
        n_permutations = assignments.shape[0] - 1
        probabilities = (np.arange(n_permutations) + 0.5) / n_permutations
        quantiles = np.random.default_rng(seed).permuted(self.autocorrelation.quantiles(probabilities), axis=1)
        spread = np.stack([_spread_within(y, rows, assignments) for y in self.values])
        ratio = np.divide(spread[:, :1], spread[:, 1:], out=np.ones_like(spread[:, 1:]), where=spread[:, 1:] > 0)
        return ratio * error_factor(self.sides, quantiles, self.autocorrelation.r[:, None], self.signal[:, None])


def measure(series: Sequence[Series], rows: np.ndarray, is_current: np.ndarray) -> Measured:
    """Estimate the autocorrelation of each series within the two sides, shrunk to the mean of all series.

    Args:
        series: Of all signals, oldest block first.
        rows: Rows of each block, `(blocks,)`.
        is_current: bool `(blocks,)`.
    """
    values = np.stack([s.values for s in series])
    sides = [rows[side].astype("float64") for side in (~is_current, is_current)]
    parts = [values[:, side] for side in (~is_current, is_current)]
    deviations = [y - (y @ w / w.sum())[:, None] for y, w in zip(parts, sides, strict=True)]
    scaled = np.concatenate([d * np.sqrt(w) for d, w in zip(deviations, sides, strict=True)], axis=1)
    squares = np.maximum((scaled**2).sum(axis=1), 1e-300)
    noise = np.stack([s.noise for s in series]) @ rows * max(len(rows) - 2, 1) / len(rows)
    scaled /= np.sqrt(squares)[:, None]
    return Measured(values, shrink(lag_one(deviations, sides), (scaled @ scaled.T) ** 2), 1 - noise / squares, sides)


def _spread_within(y: np.ndarray, rows: np.ndarray, assignments: Any) -> np.ndarray:
    """Return the standard deviation of a series about the means of the sides, for each assignment."""
    centred = y - y @ rows / rows.sum()
    weight, total = (sum_over_blocks(assignments, x) for x in (rows.astype("float64"), rows * centred))
    between = total**2 / weight + total**2 / (rows.sum() - weight)  # the sides' totals add up to 0
    squares = rows @ centred**2
    return np.sqrt(np.where(squares - between > 1e-9 * squares, squares - between, 0.0))
