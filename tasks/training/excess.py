"""How much more than the champion a challenger breaks a limit that both break on the same rows, with bounds over blocks of time.

A limit on the version itself must not keep a worse champion in place. So where the champion breaks it too, a challenger is refused only
if it breaks it more, beyond chance.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from configs.kinds import HIGHER_IS_BETTER
from configs.schema import ModelConfig
from tasks.contracts import Comparison, Interval
from tasks.models.bootstrap import draw_blocks, measured_error_factor
from tasks.models.fairness import group_gap, measure_gap
from tasks.models.metrics import calibration_error, measure, row_loss
from tasks.models.targets import outcomes
from tasks.storage.blocks import labelled_blocks

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 200
Excess = Callable[[np.ndarray, np.ndarray], float]
"""How much a prediction of the rows at some positions breaks a limit: higher is worse."""


def measure_excess(
    comparison: Comparison, predictions: tuple[np.ndarray, np.ndarray], rows: "pd.DataFrame", config: ModelConfig
) -> Mapping[str, Interval]:
    """Return the excess of the challenger by rule, for the rules whose limit both versions break.

    Args:
        comparison: The scorecards of both, and the challenger's fairness.
        predictions: Of the version that stands for the champion, and of the challenger.
        rows: The labelled rows that they predict.
        config: The model's config.
    """
    assert comparison.champion
    theirs, mine = comparison.champion.metrics, comparison.challenger.metrics
    outcome, target, gate = outcomes(rows, config.target), config.target, config.gate
    broken: dict[str, Excess] = {}
    for name, bound in gate.floor.items():
        sign = -1 if name in HIGHER_IS_BETTER else 1
        if sign * mine.get(name, np.nan) > sign * bound and sign * theirs.get(name, np.nan) > sign * bound:
            broken[f"floor: {name}"] = _metric(name, sign, outcome, config)
    loss = target.eval_loss
    prior = comparison.prior.metrics.get(loss, np.nan)
    if mine.get(loss, np.nan) >= prior and theirs.get(loss, np.nan) >= prior:
        broken[f"better than the prior: {loss}"] = _metric(loss, 1, outcome, config)
    limit, error = gate.calibration, "calibration_error"
    if limit and mine.get(error, np.nan) > limit.at_most and theirs.get(error, np.nan) > limit.at_most:
        broken["calibration error"] = lambda p, at: calibration_error(outcome[at], p[at], target)
    broken |= _fairness(comparison, predictions[0], rows, config)
    if not broken:
        return {}
    totals, counts = np.array([(gain, count) for _, count, gain in comparison.gains]).T
    settings = gate.refresh.confidence, config.training.seed, measured_error_factor(totals, counts)
    blocks = labelled_blocks(rows, config)
    return {name: excess_bounds(of, predictions, blocks, *settings) for name, of in broken.items()}


def _metric(name: str, sign: int, outcome: np.ndarray, config: ModelConfig) -> Excess:
    """Return the excess by a metric. The loss is computed directly, since all metrics together take a hundred times as long."""
    target = config.target
    if name == target.eval_loss:
        return lambda p, at: float(row_loss(outcome[at], p[at], target).mean())
    return lambda p, at: sign * measure(outcome[at], p[at], target)[name]


def _fairness(
    comparison: Comparison, champion: np.ndarray, rows: "pd.DataFrame", config: ModelConfig
) -> dict[str, Excess]:
    outcome, broken = outcomes(rows, config.target), dict[str, Excess]()
    for rule, measured in zip(config.gate.fairness, comparison.fairness, strict=True):
        theirs = measure_gap(rule, rows, outcome, champion, config)
        if measured.gap > rule.at_most and theirs.gap > rule.at_most:
            groups = rows[rule.column].astype(object).where(rows[rule.column].notna(), "(null)")

            def gap(p: np.ndarray, at: np.ndarray, rule=rule, groups=groups) -> float:  # type: ignore[no-untyped-def]
                return group_gap(rule, groups.iloc[at], outcome[at], p[at], config)

            broken[f"fairness: {rule.metric} by {rule.column}"] = gap
    return broken


def excess_bounds(
    excess: Excess,
    predictions: tuple[np.ndarray, np.ndarray],
    blocks: np.ndarray,
    confidence: float,
    seed: int,
    factor: float = 1.0,
) -> Interval:
    """Return the challenger's excess minus the champion's, with one-sided bounds by a bootstrap of whole blocks.

    The bounds are Student's t times the standard deviation of the resampled differences. They are NaN for fewer than two blocks.

    Args:
        factor: By how much dependence between blocks raises the standard error.
    """
    from scipy.special import stdtrit

    theirs, mine = predictions
    _, index = np.unique(blocks, return_inverse=True)
    every, count = np.arange(len(blocks)), int(index.max()) + 1 if len(index) else 0
    value = excess(mine, every) - excess(theirs, every)
    if count < 2:
        return Interval(value, np.nan, np.nan)
    draws = draw_blocks(count, RESAMPLES, seed).astype(int)
    resampled = (np.repeat(every, weights[index]) for weights in draws)
    spread = float(np.nanstd([excess(mine, at) - excess(theirs, at) for at in resampled], ddof=1))
    reach = float(stdtrit(count - 1, confidence)) * spread * factor
    return Interval(value, value - reach, value + reach)
