"""How far out a score is among the scores of chance: a tail model that puts all signals on one scale."""

import numpy as np


def beyond_the_others(scores: np.ndarray) -> np.ndarray:
    """For each score under chance, the probability of one at least as large by the tail of all the others.

    The real score is held against a tail that it is no part of; so must each deal's be, or the level would be too easy to pass.
    """
    from scipy.stats import pearson3

    count, centred = len(scores) - 1, scores - scores.mean()
    sums = [(centred**power).sum() - centred**power for power in (1, 2, 3)]
    mean = sums[0] / count
    second, third = sums[1] / count, sums[2] / count
    variance = np.maximum(second - mean**2, 0.0)
    spread = np.sqrt(variance)
    flat = ~(spread > 1e-12 * max(1.0, abs(float(scores.mean()))))
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = (third - 3 * mean * second + 2 * mean**3) / spread**3
    safe = np.where(flat, 1.0, spread)
    found = pearson3.sf(centred, np.where(flat, 0.0, skewness), mean, safe)
    return np.where(flat, np.where(centred > mean + 1e-9, 0.0, 1.0), found)


class Tail:
    """The tail of a signal's scores under chance: Pearson III with their mean, deviation and skewness."""

    def __init__(self, scores: np.ndarray) -> None:
        from scipy.stats import skew

        self.mean, self.spread = float(scores.mean()), float(scores.std())
        self.flat = not self.spread > 1e-12 * max(1.0, abs(self.mean))
        self.skewness = 0.0 if self.flat else float(skew(scores))

    def beyond(self, scores: np.ndarray) -> np.ndarray:
        """The probability of a score at least as large."""
        from scipy.stats import pearson3

        if self.flat:
            return np.where(scores > self.mean + 1e-9, 0.0, 1.0)
        return np.asarray(pearson3.sf(scores, self.skewness, self.mean, self.spread))

    def at(self, level: float) -> float:
        """The score that is passed with probability `level`."""
        from scipy.stats import pearson3

        return self.mean if self.flat else float(pearson3.isf(level, self.skewness, self.mean, self.spread))
