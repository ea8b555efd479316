"""Distances between two distributions, from counts. The definitions are Evidently's.

All functions take the values that occur, and their counts on either side, as arrays `(..., values)`. They return one score for each
leading index.
"""

from collections.abc import Callable

import numpy as np

from configs.monitoring import Statistic

MIN_STD = 0.001
"""Lower bound of the standard deviation that a Wasserstein distance is divided by, as in Evidently."""
MAX_DISTINCT_VALUES = 20
"""Numbers with at most so many distinct values in the reference are compared value by value, as in Evidently."""


def score(
    method: Statistic,
    values: np.ndarray,
    reference: np.ndarray,
    current: np.ndarray,
    by_value: bool | None = None,
    bin_counts: np.ndarray | None = None,
) -> np.ndarray:
    """Score each pair of counts. `ks` is the distance; `ks_p_value` gives the p-value that Evidently shows.

    Args:
        method: The statistic.
        values: `(values,)`, ascending.
        reference: Counts `(..., values)`.
        current: Counts `(..., values)`.
        by_value: See `binned`.
        bin_counts: See `binned`.

    Returns:
        float64 `(...)`, NaN where a side is empty.
    """
    reference, current = np.asarray(reference, "float64"), np.asarray(current, "float64")
    if method in ("jensenshannon", "psi"):
        measure: Callable[..., np.ndarray] = jensenshannon if method == "jensenshannon" else psi
        return measure(*binned(values, reference, current, by_value, bin_counts))
    return {"wasserstein": wasserstein, "ks": ks}[method](values, reference, current)


def wasserstein(values: np.ndarray, reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """First Wasserstein distance, divided by the standard deviation of the reference. `values` must ascend."""
    gaps = _cdf(reference)
    gaps -= _cdf(current)  # in place: with thousands of permutations, allocating memory costs more than the arithmetic
    distance = _weighted_sums(np.abs(gaps, out=gaps)[..., :-1], np.diff(values))
    shares = _shares(reference)
    mean = _weighted_sums(shares, values)
    variance = _weighted_sums(shares, (values - mean.mean()) ** 2) - (mean - mean.mean()) ** 2
    return distance / np.maximum(np.sqrt(np.maximum(variance, 0)), MIN_STD)


def ks(values: np.ndarray, reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance: the largest difference between the distribution functions."""
    if not len(values):
        return np.full(reference.shape[:-1], np.nan)
    return np.abs(_cdf(reference) - _cdf(current)).max(axis=-1)


def ks_p_value(distance: float, reference: float, current: float) -> float:
    """Two-sided p-value of a KS distance for these numbers of independent rows, as scipy's `ks_2samp` for large samples."""
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, max(1, np.round(reference * current / (reference + current)))))


def jensenshannon(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance: the square root of the divergence, with the natural logarithm."""
    from scipy.special import rel_entr

    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    return np.sqrt(np.maximum((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1), 0) / 2)


def psi(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Population stability index. An empty bin counts as 0.0001, or a millionth of the smallest share if that is smaller."""
    p, q = _fill_empty_bins(_shares(reference)), _fill_empty_bins(_shares(current))
    return ((p - q) * np.log(p / q)).sum(axis=-1)


def _fill_empty_bins(share: np.ndarray) -> np.ndarray:
    smallest = np.where(share > 0, share, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    return np.where(share > 0, share, np.where(smallest <= 0.0001, smallest / 1e6, 0.0001)) + 0 * share


def binned(
    values: np.ndarray,
    reference: np.ndarray,
    current: np.ndarray,
    by_value: bool | None = None,
    bin_counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts in the bins that Evidently uses for PSI and Jensen-Shannon.

    Text, and numbers with at most `MAX_DISTINCT_VALUES` distinct values in the reference: one bin for each value. Other numbers: bins of
    equal width over the range of both sides, their number from Sturges (1926), as `numpy.histogram_bin_edges` computes it.

    Args:
        values: `(values,)`, ascending.
        reference: Counts `(..., values)`.
        current: Counts `(..., values)`.
        by_value: Whether every value has its own bin. None decides from the reference.
        bin_counts: Counts `(values,)` that determine the bins. None takes both sides, of the first leading index.
    """
    if by_value is None:
        by_value = values.dtype == object or bool(
            (reference.reshape(-1, len(values)).sum(axis=0) > 0).sum() <= MAX_DISTINCT_VALUES
        )
    if by_value:
        return reference, current
    total = (reference + current).reshape(-1, len(values))[0] if bin_counts is None else bin_counts
    used = values[total > 0]
    width = used[-1] - used[0]
    n_bins = max(1, int(np.ceil(width / (width / (np.log2(total.sum()) + 1.0))))) if width > 0 else 1
    edges = np.linspace(used[0], used[-1], n_bins + 1) if width > 0 else np.array([used[0] - 0.5, used[0] + 0.5])
    position = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    into = np.zeros((len(values), len(edges) - 1))
    into[np.arange(len(values)), position] = 1
    return reference @ into, current @ into


def _weighted_sums(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows `(..., values)` times weights `(values,)`. Not by BLAS: its threads would wait longer than they work."""
    return np.einsum("...i,i->...", rows, weights)


def _shares(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def _cdf(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        cumulative = np.cumsum(counts, axis=-1, dtype="float64")
        cumulative /= counts.sum(axis=-1, keepdims=True)
        return cumulative
