"""Tail model of null scores: it puts all signals of a check on one scale.

The model is Pearson III, a shifted gamma distribution with a given mean, standard deviation and skewness. `scipy.stats.pearson3` is the
same, but its import alone takes longer than a check. The functions of `scipy.special` used here are the ones that it calls.
"""

import numpy as np

NORMAL_SKEWNESS = 0.000016
"""Skewness below which the distribution is taken as normal, as SciPy does."""


def pearson3_sf(x: np.ndarray, skewness: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Survival function of Pearson III: the probability of a value above `x`. The arguments are broadcast."""
    from scipy.special import gammainc, gammaincc, ndtr

    z, skewness = np.broadcast_arrays((x - mean) / std, skewness)
    normal = np.abs(skewness) < NORMAL_SKEWNESS
    beta = 2 / np.where(normal, 1.0, skewness)
    alpha = beta**2
    shifted = np.maximum(beta * (z + alpha / beta), 0.0)
    tail = np.where(skewness > 0, gammaincc(alpha, shifted), gammainc(alpha, shifted))
    return np.where(normal, ndtr(-z), tail)


def pearson3_isf(level: float, skewness: float, mean: float, std: float) -> float:
    """Inverse survival function of Pearson III: the value that is exceeded with probability `level`."""
    from scipy.special import gammainccinv, gammaincinv, ndtri

    if abs(skewness) < NORMAL_SKEWNESS:
        return float(mean - std * ndtri(level))
    beta = 2 / skewness
    alpha = beta**2
    inverse = gammainccinv if skewness > 0 else gammaincinv
    return float(mean + std * (inverse(alpha, level) / beta - alpha / beta))


def leave_one_out_sf(null_scores: np.ndarray, minimum: float = -np.inf) -> np.ndarray:
    """Tail probability of each null score, by the tail model of all the others.

    The observed score is compared with a tail that does not include it. The null scores must be compared in the same way, or the level
    would be too easy to reach.

    Args:
        null_scores: float64 `(permutations,)`.
        minimum: Scores below it have probability 1.

    Returns:
        float64 `(permutations,)`.
    """
    n_others, centred = len(null_scores) - 1, null_scores - null_scores.mean()
    first, second, third = (((centred**power).sum() - centred**power) / n_others for power in (1, 2, 3))
    std = np.sqrt(np.maximum(second - first**2, 0.0))
    constant = ~(std > 1e-12 * max(1.0, abs(float(null_scores.mean()))))
    with np.errstate(invalid="ignore", divide="ignore"):
        skewness = (third - 3 * first * second + 2 * first**3) / std**3
    probabilities = np.where(centred > first + 1e-9, 0.0, 1.0)
    modelled = ~constant & (null_scores >= minimum)
    probabilities[modelled] = pearson3_sf(*(x[modelled] for x in (centred, skewness, first, std)))
    return np.where(null_scores >= minimum, probabilities, 1.0)


class Tail:
    """The tail of a signal's null scores: Pearson III with their mean, standard deviation and skewness."""

    def __init__(self, null_scores: np.ndarray) -> None:
        self.mean, self.std = float(null_scores.mean()), float(null_scores.std())
        self.constant = not self.std > 1e-12 * max(1.0, abs(self.mean))
        self.skewness = 0.0 if self.constant else float(((null_scores - self.mean) ** 3).mean() / self.std**3)

    def sf(self, scores: np.ndarray) -> np.ndarray:
        """Survival function: the probability of a null score at least as large."""
        if self.constant:
            return np.where(scores > self.mean + 1e-9, 0.0, 1.0)
        return pearson3_sf(scores, np.array(self.skewness), np.array(self.mean), np.array(self.std))

    def isf(self, level: float) -> float:
        """Inverse survival function: the score that is exceeded with probability `level`."""
        return self.mean if self.constant else pearson3_isf(level, self.skewness, self.mean, self.std)
