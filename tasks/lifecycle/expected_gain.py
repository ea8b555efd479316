"""Estimate what the age of the champion has cost since the last training, from the measured staleness of this model. Pure functions.

A champion that is `k` partitions old is expected to lose `rise * k` more per partition than a version that is fitted now. A retraining is
due as soon as the loss that has accumulated in this way since the last training reaches the cost of a retraining: then the next interval
is expected to gain what it costs. If every training gives a new champion, that is at `rise * k**2 / 2 = cost`, after
`sqrt(2 * cost / rise)` partitions. No other interval has a lower sum of loss and cost: the economic order quantity (Harris 1913), and the
marginal value theorem (Charnov 1976) for a loss that grows in proportion to age.

`rise` comes from measurements on matured partitions: the champion's loss minus that of the same recipe, fitted on everything that was
known before the partition. It is estimated in two levels. The rise of all champions is a regression through the origin of the measured
losses on the ages, with a prior: the rise at which the calendar of model.yaml would be right. The rise of the present champion starts
from it and follows its own measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.contracts import ExpectedGain

BETWEEN = 3.0
"""Standard deviation of the rise between champions, in multiples of their common rise: some age slowly, some meet a sudden change.
Chosen on simulated data (benchmarks/policy.py)."""
PRIOR_WEIGHT = 1
"""Measurements that the prior counts as. On simulated data 1, 2 and 4 differ little."""
LAGS = 3
"""Autocovariances of the residuals in the standard error of the common rise (Newey and West 1987)."""
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Staleness:
    """One measurement: by how much a champion's loss on a partition exceeds that of a new fit, and by how much it is older."""

    champion: str
    age: float
    """Difference of the ends of both training windows, in partitions."""
    gain: float
    """Mean loss of the champion minus that of the new fit."""


def expected_gain(
    measured: Sequence[Staleness], champion: str, partitions: int, cost: float, calendar: int, older: int = 0
) -> ExpectedGain:
    """Estimate what a retraining gains, in units of the loss over one partition: what the age has cost since the last training.

    Args:
        measured: The measurements that are known, oldest first, of all champions.
        champion: The current champion's version.
        partitions: Complete partitions since the last training.
        cost: Cost of one retraining, in the same unit.
        calendar: Partitions between retrainings that are assumed to be right before anything is measured.
        older: Age of the champion at the last training, in partitions. Above 0 if that training did not give a new champion.
    """
    common, common_sd = common_rise(measured, calendar, 2 * cost / calendar**2)
    rise, sd = champion_rise([m for m in measured if m.champion == champion], measured, common, common_sd)
    factor = partitions * (older + partitions / 2)
    value, half_width = rise * factor, NORMAL_95 * sd * factor
    interval = float(np.sqrt(older**2 + 2 * cost / rise) - older) if rise > 0 else None
    return ExpectedGain(
        value=value,
        lower=value - half_width,
        upper=value + half_width,
        cost=cost,
        rise=rise,
        partitions=partitions,
        measured=len(measured),
        interval=interval,
    )


def common_rise(measured: Sequence[Staleness], calendar: int, prior: float) -> tuple[float, float]:
    """Return the rise of all champions and its standard error.

    The prior counts as `PRIOR_WEIGHT` measurements at the age `calendar`, so its weight fades at any scale of the loss.
    """
    if not measured:
        return prior, prior
    points = [(calendar, prior * calendar)] * PRIOR_WEIGHT + [(m.age, m.gain) for m in measured]
    age, gain = np.array(points, dtype="float64").T
    squares = (age**2).sum()
    rise = (age * gain).sum() / squares
    scores = age * (gain - rise * age)
    variance = independent = (scores**2).sum()
    for lag in range(1, min(LAGS, len(scores) - 1) + 1):
        variance += 2 * (1 - lag / (LAGS + 1)) * (scores[lag:] * scores[:-lag]).sum()
    error = np.sqrt(max(variance, independent / 2) * len(scores) / (len(scores) - 1)) / squares
    return float(rise), float(error)


def champion_rise(
    own: Sequence[Staleness], measured: Sequence[Staleness], common: float, common_sd: float
) -> tuple[float, float]:
    """Return the posterior mean and standard deviation of one champion's rise, with the common rise as its prior."""
    common = max(common, 0.0)
    spread = BETWEEN * max(common, common_sd)
    if not own:
        return common, float(np.hypot(spread, common_sd))
    age, gain = np.array([(m.age, m.gain) for m in own], dtype="float64").T
    residuals = np.array([m.gain - common * m.age for m in measured])
    noise = float(residuals.std()) if len(residuals) > LAGS else (1 + BETWEEN) * max(common, common_sd)
    squares = (age**2).sum()
    return _combine((age * gain).sum() / squares, noise / np.sqrt(squares), common, spread)


def _combine(value: float, error: float, prior: float, prior_sd: float) -> tuple[float, float]:
    """Return mean and standard deviation of the product of two normal densities."""
    error, prior_sd = max(error, 1e-12), max(prior_sd, 1e-12)
    precision = 1 / error**2 + 1 / prior_sd**2
    return float((value / error**2 + prior / prior_sd**2) / precision), float(precision**-0.5)
