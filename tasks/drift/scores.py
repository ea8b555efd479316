"""Distances between two distributions, from counts: Evidently's definitions of its own four statistics.

Every function takes the values that occur, and how often on either side; the counts may have leading
dimensions, `(..., values)`, and then there is a score for each.
"""

from collections.abc import Callable

import numpy as np

from configs.monitoring import Statistic

LEAST_SPREAD = 0.001
"""Evidently's floor under the standard deviation that a Wasserstein distance is normed by."""
FEW = 20
"""Numbers with no more different values than this in the reference are compared value by value, as Evidently does."""


def score(
    method: Statistic,
    values: np.ndarray,
    reference: np.ndarray,
    current: np.ndarray,
    few: bool | None = None,
    whole: np.ndarray | None = None,
) -> np.ndarray:
    """The score of each pair of counts. NaN where a side is empty. `few` and `whole` as in `binned`.

    `ks` is the distance; `ks_p_value` makes the p-value of it that Evidently shows.
    """
    reference, current = np.asarray(reference, "float64"), np.asarray(current, "float64")
    if method in ("jensenshannon", "psi"):
        measure: Callable[..., np.ndarray] = jensenshannon if method == "jensenshannon" else psi
        return measure(*binned(values, reference, current, few, whole))
    return {"wasserstein": wasserstein, "ks": ks}[method](values, reference, current)


def wasserstein(values: np.ndarray, reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """First Wasserstein distance over the reference's standard deviation, `values` ascending."""
    gaps = _cumulated(reference)
    gaps -= _cumulated(current)  # in place: with thousands of deals, fresh memory costs more than the arithmetic
    gaps = _weighed(np.abs(gaps, out=gaps)[..., :-1], np.diff(values))
    weight = _shares(reference)
    mean = _weighed(weight, values)
    spread = np.sqrt(np.maximum(_weighed(weight, (values - mean.mean()) ** 2) - (mean - mean.mean()) ** 2, 0))
    return gaps / np.maximum(spread, LEAST_SPREAD)


def ks(values: np.ndarray, reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance: the largest difference of the distribution functions."""
    if not len(values):
        return np.full(reference.shape[:-1], np.nan)
    return np.abs(_cumulated(reference) - _cumulated(current)).max(axis=-1)


def ks_p_value(distance: float, reference: float, current: float) -> float:
    """The two-sided p-value of a KS distance for so many independent rows, as scipy's `ks_2samp` has it for many."""
    from scipy.stats import kstwo

    return float(kstwo.sf(distance, max(1, np.round(reference * current / (reference + current)))))


def jensenshannon(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance of shares, with the natural logarithm: the root of the divergence."""
    from scipy.special import rel_entr

    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    return np.sqrt(np.maximum((rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1), 0) / 2)


def psi(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Population stability index. An empty bin counts as 0.0001, or a millionth of the smallest share where that is smaller."""
    p, q = _filled(_shares(reference)), _filled(_shares(current))
    return ((p - q) * np.log(p / q)).sum(axis=-1)


def _filled(share: np.ndarray) -> np.ndarray:
    least = np.where(share > 0, share, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    return np.where(share > 0, share, np.where(least <= 0.0001, least / 1e6, 0.0001)) + 0 * share


def binned(
    values: np.ndarray,
    reference: np.ndarray,
    current: np.ndarray,
    few: bool | None = None,
    whole: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The counts in the bins that Evidently takes for PSI and Jensen-Shannon.

    Text, and numbers of which the reference has at most `FEW` different ones (or as `few` says): each by
    itself. Other numbers: bins of equal width from the smallest to the largest of both sides, as many as
    Sturges (1926) has it (`numpy.histogram_bin_edges`); where `whole` is given, its counts of the values make the bins.
    """
    if few is None:
        few = bool(values.dtype == object or (reference.reshape(-1, len(values)).sum(axis=0) > 0).sum() <= FEW)
    if few:
        return reference, current
    total = (reference + current).reshape(-1, len(values))[0] if whole is None else whole
    used = values[total > 0]
    span = used[-1] - used[0]
    count = max(1, int(np.ceil(span / (span / (np.log2(total.sum()) + 1.0))))) if span > 0 else 1
    edges = np.linspace(used[0], used[-1], count + 1) if span > 0 else np.array([used[0] - 0.5, used[0] + 0.5])
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    into = np.zeros((len(values), len(edges) - 1))
    into[np.arange(len(values)), at] = 1
    return reference @ into, current @ into


def _weighed(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums of rows `(..., values)` times weights `(values,)`, in this thread: not by BLAS, whose others would mostly wait."""
    return np.einsum("...i,i->...", rows, weights)


def _shares(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def _cumulated(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.cumsum(counts, axis=-1, dtype="float64")
        found /= counts.sum(axis=-1, keepdims=True)
        return found
