"""Mean of several periods with the spread between them, and what a further period may have (random-effects meta-analysis).

The losses of two fortnights differ by more than their rows explain. So the variance between periods counts beside the sampling variance
within each. The between variance is that of Paule and Mandel (1982). A further period lies within the prediction interval of Higgins,
Thompson and Spiegelhalter (2009), for which the sampling variance of the further period is added.
"""

from typing import NamedTuple

import numpy as np

STEPS = 60


class Pooled(NamedTuple):
    """The mean of periods, the variance of its estimate, the variance between periods, and the number of periods."""

    mean: float
    variance: float
    between: float
    periods: int

    def prediction_error(self, variance: float, blocks: int, level: float) -> float:
        """Return by how much a further period may differ from the mean to one side with probability `level`.

        The degrees of freedom are those of Satterthwaite (1946): of the variance between periods, and of that within the further one.

        Args:
            variance: Sampling variance of the further period.
            blocks: Number of blocks that it has, at least 2.
            level: One-sided probability.
        """
        from scipy.special import stdtrit

        if self.periods < 2:
            return float("inf")
        between, total = self.between + self.variance, self.between + self.variance + variance
        degrees = total**2 / (between**2 / (self.periods - 1) + variance**2 / (blocks - 1))
        return float(stdtrit(degrees, level) * total**0.5)


def pool(values: np.ndarray, variances: np.ndarray) -> Pooled:
    """Pool the values of periods.

    Args:
        values: One of each period, float64 `(periods,)`.
        variances: Their sampling variances, above 0.
    """
    between = _between(values, variances)
    weights = 1 / (variances + between)
    return Pooled(
        float((weights * values).sum() / weights.sum()), float(1 / weights.sum()), float(between), len(values)
    )


def _between(values: np.ndarray, variances: np.ndarray) -> float:
    """Return the variance between periods for which the weighted squares about the mean are as expected; 0 if they are less without it."""

    def excess(between: float) -> float:
        weights = 1 / (variances + between)
        mean = (weights * values).sum() / weights.sum()
        return float((weights * (values - mean) ** 2).sum()) - (len(values) - 1)

    low, high = 0.0, float(((values - values.mean()) ** 2).sum())
    if len(values) < 2 or excess(low) <= 0:
        return 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
