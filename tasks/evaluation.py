"""Challenger and champion on one holdout: metrics, and the gain with its uncertainty."""

from typing import TYPE_CHECKING

import numpy as np
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import Comparison, Interval, Promotion, Scorecard, Version, Window
from tasks.features import predict
from tasks.performance import measure
from tasks.resources import Resources
from tasks.window import read_rows

if TYPE_CHECKING:
    import pandas as pd


NO_CHAMPION = "there is no champion yet"


def row_loss(outcome: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Log loss of each row, natural logarithm; probabilities are clipped at the smallest float64 step as scikit-learn does."""
    p = np.clip(prediction, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return -np.where(outcome == 1, np.log(p), np.log1p(-p))


def paired_gain(
    champion: np.ndarray, challenger: np.ndarray, blocks: np.ndarray, confidence: float, resamples: int, seed: int
) -> Interval:
    """Mean of champion's loss minus challenger's, with one-sided bounds from a bootstrap that draws whole blocks.

    `champion` and `challenger` are losses of the same rows, `blocks` names each row's block.
    Blocks are drawn with replacement and rows weigh alike (Efron and Tibshirani 1993, 8.6;
    Davison and Hinkley 1997, 2.4). Each bound holds by itself with probability `confidence`,
    by percentiles, which is somewhat optimistic for few blocks.
    """
    _, index = np.unique(blocks, return_inverse=True)
    sums = np.bincount(index, weights=champion - challenger)
    rows = np.bincount(index)
    draws = np.random.default_rng(seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
    gains = (draws @ sums) / (draws @ rows)
    lower, upper = np.quantile(gains, [1 - confidence, confidence])
    return Interval(float(sums.sum() / rows.sum()), float(lower), float(upper))


def compare(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    """Score the holdout with both, and with the prior that predicts the challenger's training base rate.

    Both trainings must end before the holdout starts; a version that has seen the answers
    cannot be compared.
    """
    config = res.config
    rows = read_rows(res, window, window.holdout_start, window.end)
    outcome = rows[config.target.column].to_numpy()
    days = rows[config.time].dt.tz_convert(config.partition.timezone).dt.date.to_numpy()
    blocks = len(set(days))
    mine = _predictions(challenger.version, rows, res)
    card = Scorecard(challenger.version, len(rows), measure(outcome, mine))
    prior = Scorecard("prior", len(rows), measure(outcome, np.full(len(rows), challenger.base_rate)))
    for version in (challenger, champion):
        if version and version.window_end > window.holdout_start:
            why = (
                f"version {version.version} learned from rows up to {version.window_end:%Y-%m-%d}, "
                f"the holdout starts {window.holdout_start:%Y-%m-%d}"
            )
            return Comparison(card, None, prior, None, blocks, why)
    if champion is None:
        return Comparison(card, None, prior, None, blocks, NO_CHAMPION)
    theirs = _predictions(champion.version, rows, res)
    other = Scorecard(champion.version, len(rows), measure(outcome, theirs))
    if blocks < config.gate.min_blocks:
        why = f"{blocks} days with labels in the holdout, gate.min_blocks is {config.gate.min_blocks}"
        return Comparison(card, other, prior, None, blocks, why)
    gate = config.gate
    gain = paired_gain(
        row_loss(outcome, theirs), row_loss(outcome, mine), days, gate.confidence, gate.resamples, config.training.seed
    )
    return Comparison(card, other, prior, gain, blocks)


def _predictions(version: str, rows: "pd.DataFrame", res: Resources) -> np.ndarray:
    return predict(res.registry.load(version), rows, res.config.features)


@task(cache_policy=NO_CACHE, task_run_name="compare v{challenger.version} with the champion")
def compare_versions(challenger: Version, champion: Promotion | None, window: Window, res: Resources) -> Comparison:
    """Run the comparison and leave both scorecards in the run log."""
    comparison = compare(challenger, champion, window, res)
    log = get_run_logger()
    for card in (comparison.challenger, comparison.champion, comparison.prior):
        if card:
            log.info(
                "%s on %d holdout rows: %s", card.version, card.rows, {k: round(v, 4) for k, v in card.metrics.items()}
            )
    return comparison
