"""Skill: by how much a loss is lower than that of the best constant prediction of the same rows.

    skill = 1 - loss / loss of the rows' own prior

The prior is that of the evaluated rows, not of the training rows. So the skill does not move when only the base rate does: a month with
fewer positives has a lower log loss, and a lower loss of its prior. Of log loss it is McFadden's pseudo R-squared (1974), against the
rows' own class frequencies. Of squared error it is R-squared. Of absolute error the prior is the rows' own median.

The prior of pooled blocks of time follows from a summary of the outcomes of each block:

    binary           number of positives
    multiclass       number of each class
    squared error    mean and variance
    absolute error   means of 20 equal shares of the sorted outcomes; the prior's loss is exact but for the share with the median
"""

from collections.abc import Sequence

import numpy as np

from configs.target import Target

SHARES = 20


def summarise_outcomes(outcome: np.ndarray, blocks: np.ndarray, target: Target) -> list[list[float]]:
    """Summarise the outcomes of each block as in the table above, oldest block first.

    Args:
        outcome: Outcomes as in `tasks/models/targets.py`.
        blocks: Block of each row.
    """
    numbers, index = np.unique(blocks, return_inverse=True)
    if target.kind != "regression":
        classes = np.zeros((len(numbers), max(2, len(target.classes))))
        np.add.at(classes, (index, outcome), 1)
        return (classes if target.kind == "multiclass" else classes[:, 1:]).tolist()
    parts = np.split(outcome[np.argsort(index, kind="stable")], np.cumsum(np.bincount(index))[:-1])
    if target.eval_loss == "squared_error":
        return [[float(part.mean()), float(part.var())] for part in parts if len(part)]
    return [_share_means(np.sort(part)).tolist() for part in parts if len(part)]


def prior_losses(rows: np.ndarray, summaries: Sequence[Sequence[float]], target: Target) -> np.ndarray:
    """Return the sum of the losses of each block if all rows had their common best constant prediction, float64 `(blocks,)`.

    Args:
        rows: Rows of each block.
        summaries: Outcomes of each block, by `summarise_outcomes`.
    """
    values = np.asarray(summaries, dtype="float64")
    if target.kind == "binary":
        values = np.column_stack([rows - values[:, 0], values[:, 0]])
    if target.kind != "regression":
        shares = values.sum(axis=0) / values.sum()
        return -(values * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    if target.eval_loss == "squared_error":
        mean = (rows * values[:, 0]).sum() / rows.sum()
        return rows * (values[:, 1] + (values[:, 0] - mean) ** 2)
    weights, order = np.repeat(rows, values.shape[1]), np.argsort(values, axis=None, kind="stable")
    middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return rows * np.abs(values - values.ravel()[order[middle]]).mean(axis=1)


def _share_means(ordered: np.ndarray) -> np.ndarray:
    """Return the means of `SHARES` equal shares of sorted values. A value on a border counts for both, in part."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    borders = np.interp(np.linspace(0, len(ordered), SHARES + 1), np.arange(len(sums)), sums)
    return np.diff(borders) * SHARES / len(ordered)


def relative_loss(
    rows: np.ndarray, losses: np.ndarray, summaries: Sequence[Sequence[float]], target: Target
) -> tuple[float, np.ndarray]:
    """Return the loss as a share of that of the rows' own prior, which is 1 - skill, and the linearised sum of each block.

    The sum of the linearised sums over all rows is the share. Their variance between blocks is that of the ratio (delta method). The
    prior's own estimate adds nothing to first order, since it minimises its loss.

    Args:
        rows: Rows of each block.
        losses: Sum of the losses of each block.
        summaries: Outcomes of each block, by `summarise_outcomes`.

    Returns:
        The share, NaN if the prior has no loss, and float64 `(blocks,)`.
    """
    prior = prior_losses(rows, summaries, target)
    if not prior.sum() > 0:
        return float("nan"), np.full(len(rows), np.nan)
    share = losses.sum() / prior.sum()
    return float(share), rows * share + (losses - share * prior) * rows.sum() / prior.sum()
