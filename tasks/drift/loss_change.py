"""How much the shift of one column alone changes the loss: labelled rows are weighted so that the column is distributed as in a partition.

The loss of a row is taken to depend on the column as it did on the labelled rows, and on all else as before (post-stratification by the
bins of one column; Holt and Smith 1979, importance weighting under covariate shift: Shimodaira 2000). Columns that move together share
their effect, so the changes of several columns do not add up.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.drift.columns import to_numbers, to_text
from tasks.drift.sketches import Column

if TYPE_CHECKING:
    import pandas as pd

BINS = 20
"""Bins of a numeric column, with equal numbers of labelled rows. A column with at most so many distinct values has a bin for each."""
MIN_ROWS = 20
"""Labelled rows that a bin needs. In others the loss is unknown."""
MAX_UNKNOWN = 0.05
"""Largest share of a partition's rows in such bins with which the change is still stated, for the other rows."""
MIN_BLOCKS = 4
"""Blocks of time that a standard error needs."""


@dataclass(frozen=True)
class LossChange:
    """The change of the mean loss, and its standard error from whole blocks of time. None with a `note` if it is unknown."""

    value: float | None = None
    error: float | None = None
    note: str = ""


def loss_change(labelled: "pd.Series", losses: np.ndarray, blocks: np.ndarray, partition: Column) -> LossChange:
    """Compute the change of the mean loss if a column's distribution were that of a partition.

    Args:
        labelled: The column in the labelled rows.
        losses: Their losses, `(rows,)`.
        blocks: The block of time of each row as a number, `(rows,)`.
        partition: The column in the partition.
    """
    position, shares = _shares(labelled, partition)
    rows = np.bincount(position, minlength=len(shares))[: len(shares)]
    known = rows >= MIN_ROWS
    unknown = float(1 - shares[known].sum())
    if unknown > MAX_UNKNOWN:
        return LossChange(note=f"unknown: the holdout has too few rows like {unknown:.0%} of the partition's")
    names, block = np.unique(blocks, return_inverse=True)
    if len(names) < MIN_BLOCKS:
        return LossChange(note=f"unknown: the holdout has {len(names)} blocks of time, {MIN_BLOCKS} are needed")
    ratio = np.where(known, shares / (1 - unknown) / np.maximum(rows, 1) * len(losses), 0.0)
    weights, mean = ratio[position], losses.mean()
    weighted = float((weights * losses).mean())
    sums = np.bincount(block, weights=weights * (losses - weighted) - (losses - mean))
    error = float(np.sqrt(len(names) / (len(names) - 1) * (sums**2).sum()) / len(losses))
    return LossChange(weighted - float(mean), error)


def _shares(labelled: "pd.Series", partition: Column) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each labelled row, and the share of the partition's rows in each bin.

    The last bins are rows without a value, and values outside of those of the labelled rows.
    """
    if partition.numeric:
        values, _ = to_numbers(labelled)
        missing = ~np.isfinite(values)
        edges = _edges(values[~missing])
        position, of_partition = (np.searchsorted(edges, x, side="right") for x in (values, partition.values))
        n_bins = len(edges) + 1
        ends = values[~missing].min(initial=np.inf), values[~missing].max(initial=-np.inf)
        slack = 1e-3 * max(ends[1] - ends[0], 0.0)  # a value of a sketch is the mean of a bin
        outside = (partition.values < ends[0] - slack) | (partition.values > ends[1] + slack)
    else:
        texts = to_text(labelled)
        missing = labelled.isna().to_numpy()
        categories, known = np.unique(texts[~missing].astype(str), return_inverse=True)
        n_bins = len(categories)
        position = np.full(len(texts), n_bins)
        position[~missing] = known
        of_partition = np.minimum(np.searchsorted(categories, partition.values.astype(str)), max(n_bins - 1, 0))
        outside = np.array([str(v) not in set(categories) for v in partition.values], bool)
    position = np.where(missing, n_bins, position)
    of_partition = np.where(outside, n_bins + 1, of_partition)
    counts = np.bincount(of_partition, weights=partition.total, minlength=n_bins + 2)
    counts[n_bins] += partition.other.sum()
    return position, counts / max(counts.sum(), 1.0)


def _edges(values: np.ndarray) -> np.ndarray:
    """The inner edges of the bins of numbers, ascending. A value at an edge belongs to the bin above."""
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        return (distinct[1:] + distinct[:-1]) / 2
    return np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
