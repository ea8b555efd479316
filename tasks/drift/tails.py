"""How far out a score is among the scores of chance: a tail model that puts all signals on one scale.

The model is Pearson III, a shifted gamma distribution with a given mean, deviation and skewness (as `scipy.stats.pearson3`, whose
module alone takes longer to import than a check takes; its functions are those of `scipy.special` used here).
"""

import numpy as np

NORMAL = 0.000016
"""Skewness below which it is taken for the normal distribution, as scipy does."""


def exceeding(x: np.ndarray, skewness: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The probability of a value above `x` under Pearson III; the arguments are broadcast against each other."""
    from scipy.special import gammainc, gammaincc, ndtr

    z, skewness = np.broadcast_arrays((x - mean) / spread, skewness)
    straight = np.abs(skewness) < NORMAL
    beta = 2 / np.where(straight, 1.0, skewness)
    alpha = beta**2
    shifted = np.maximum(beta * (z + alpha / beta), 0.0)
    tail = np.where(skewness > 0, gammaincc(alpha, shifted), gammainc(alpha, shifted))
    return np.where(straight, ndtr(-z), tail)


def exceeded(level: float, skewness: float, mean: float, spread: float) -> float:
    """The value that is exceeded with probability `level` under Pearson III."""
    from scipy.special import gammainccinv, gammaincinv, ndtri

    if abs(skewness) < NORMAL:
        return float(mean - spread * ndtri(level))
    beta = 2 / skewness
    alpha = beta**2
    inverse = gammainccinv if skewness > 0 else gammaincinv
    return float(mean + spread * (inverse(alpha, level) / beta - alpha / beta))


def beyond_the_others(scores: np.ndarray, least: float = -np.inf) -> np.ndarray:
    """For each score under chance, the probability of one at least as large by the tail of all the others; 1 for scores below `least`.

    The real score is held against a tail that it is no part of; so must each deal's be, or the level would be too easy to pass.
    """
    count, centred = len(scores) - 1, scores - scores.mean()
    sums = [(centred**power).sum() - centred**power for power in (1, 2, 3)]
    mean = sums[0] / count
    second, third = sums[1] / count, sums[2] / count
    variance = np.maximum(second - mean**2, 0.0)
    spread = np.sqrt(variance)
    flat = ~(spread > 1e-12 * max(1.0, abs(float(scores.mean()))))
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = (third - 3 * mean * second + 2 * mean**3) / spread**3
    found = np.where(centred > mean + 1e-9, 0.0, 1.0)
    asked = ~flat & (scores >= least)
    found[asked] = exceeding(*(x[asked] for x in (centred, skewness, mean, spread)))
    return np.where(scores >= least, found, 1.0)


class Tail:
    """The tail of a signal's scores under chance: Pearson III with their mean, deviation and skewness."""

    def __init__(self, scores: np.ndarray) -> None:
        self.mean, self.spread = float(scores.mean()), float(scores.std())
        self.flat = not self.spread > 1e-12 * max(1.0, abs(self.mean))
        self.skewness = 0.0 if self.flat else float(((scores - self.mean) ** 3).mean() / self.spread**3)

    def beyond(self, scores: np.ndarray) -> np.ndarray:
        """The probability of a score at least as large."""
        if self.flat:
            return np.where(scores > self.mean + 1e-9, 0.0, 1.0)
        return exceeding(scores, np.array(self.skewness), np.array(self.mean), np.array(self.spread))

    def at(self, level: float) -> float:
        """The score that is passed with probability `level`."""
        return self.mean if self.flat else exceeded(level, self.skewness, self.mean, self.spread)
