"""Permutations of block labels for the drift test, and the counts of either side in each permutation.

The null distribution of a drift score comes from assigning whole blocks of time to the current partition and the reference at random:
see `tasks/drift/alarms.py`.
"""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from tasks.drift.sketches import Column, Sketch

MAX_GROUPS = 256
"""Groups of values at which null distributions are evaluated. The observed score is exact."""
SINGLE_EXTREMES = 8
"""Extreme values at either end that stay groups of their own, because they decide the range."""
SIMILAR_SIZE = 0.9
"""Ratio of the two sides' median block sizes above which no side is subsampled."""
DENSE_RATIO = 4
"""Blocks for each current block, up to which the assignments are a dense matrix."""
SINGLE_THREAD_PRODUCT = 1 << 18
"""Multiplications of a matrix product up to which OpenBLAS stays in the calling thread."""


def permute_blocks(n_blocks: int, n_current: int, n_permutations: int, seed: int) -> np.ndarray:
    """Draw assignments of blocks to the current partition.

    Args:
        n_blocks: Blocks of both sides together.
        n_current: Blocks that the current partition has.
        n_permutations: How many to draw. All assignments are enumerated if there are not more than that.
        seed: Makes the draw repeatable.

    Returns:
        int64 of shape (permutations, n_current): positions of the current blocks, ascending within a row. If all are enumerated, the last
        row is the observed assignment when the current blocks come last.
    """
    if comb(n_blocks, n_current) <= n_permutations:
        return np.array(list(combinations(range(n_blocks), n_current)), dtype="int64")
    order = np.random.default_rng(seed).random((n_permutations, n_blocks)).argsort(axis=1, kind="stable")
    return np.sort(order[:, :n_current], axis=1)


def permute_runs(n_blocks: int, n_current: int, n_permutations: int, length: int, seed: int) -> np.ndarray:
    """Draw assignments of runs of consecutive blocks to the current partition, as `permute_blocks` does for single blocks.

    The blocks form a circle, so that each is in a run equally often (Politis and Romano 1992). It is cut into runs at a random place.
    Runs are drawn without replacement, and the last one that is needed is shortened.

    Returns:
        int64 of shape (permutations, n_current), ascending within a row.
    """
    rng, n_runs = np.random.default_rng(seed), -(-n_blocks // length)
    order = rng.random((n_permutations, n_runs)).argsort(axis=1, kind="stable")
    blocks = (order[:, :, None] * length + np.arange(length)).reshape(n_permutations, -1)
    inside = blocks < n_blocks  # the last run of the circle may be shorter
    first = inside & (np.cumsum(inside, axis=1) <= n_current)
    chosen = blocks[first].reshape(n_permutations, n_current)
    return np.sort((chosen + rng.integers(0, n_blocks, (n_permutations, 1))) % n_blocks, axis=1)


def subsample_larger_side(pooled: Sketch, is_current: np.ndarray, seed: int) -> tuple[Sketch, Sketch]:
    """Match block sizes, so that a difference in the number of rows is not mistaken for drift.

    The side with larger blocks is subsampled without replacement, each column on its own, to block sizes drawn from the other side. Every
    block keeps at least one row: a block without rows would not exist.

    Args:
        pooled: Blocks of both sides.
        is_current: bool `(blocks,)`.
        seed: Makes the subsample repeatable.

    Returns:
        The sketch to use when a block counts as current, and the one to use when it counts as reference.
    """
    current, reference = pooled.rows[is_current], pooled.rows[~is_current]
    if not len(current) or not len(reference):
        return pooled, pooled
    current_median, reference_median = float(np.median(current)), float(np.median(reference))
    rng = np.random.default_rng(seed)
    if current_median < SIMILAR_SIZE * reference_median:
        return _subsample_blocks(pooled, ~is_current, current, rng), pooled
    if reference_median < SIMILAR_SIZE * current_median:
        return pooled, _subsample_blocks(pooled, is_current, reference, rng)
    return pooled, pooled


def _subsample_blocks(pooled: Sketch, selected: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> Sketch:
    """Subsample the selected blocks to sizes drawn from `sizes`; a block that has fewer rows stays as it is."""
    rows = pooled.rows.copy()
    rows[selected] = np.minimum(rows[selected], rng.choice(sizes, int(selected.sum())))
    columns = {name: _subsample_column(c, rows, np.flatnonzero(selected), rng) for name, c in pooled.columns.items()}
    return Sketch(pooled.blocks, rows, columns)


def _subsample_column(column: Column, rows: np.ndarray, blocks: np.ndarray, rng: np.random.Generator) -> Column:
    counts = np.concatenate([column.counts, column.other], axis=1)
    for block in blocks:
        used = np.flatnonzero(counts[block])
        counts[block, used] = rng.multivariate_hypergeometric(counts[block, used], rows[block], method="marginals")
    width = column.counts.shape[1]
    return Column(column.values, counts[:, :width], counts[:, width:], column.grid)


def assignment_matrix(positions: np.ndarray, n_blocks: int) -> Any:
    """Return a matrix of shape (permutations, blocks) that has 1 where a block is assigned to the current partition.

    It is sparse if the reference has many times more blocks. Otherwise a dense one is as fast, and importing SciPy's sparse matrices would
    take longer than multiplying. Counts are whole numbers, so both give the same sums.
    """
    n_permutations, n_current = positions.shape
    if n_blocks > DENSE_RATIO * n_current:
        from scipy.sparse import csr_array

        starts = np.arange(n_permutations + 1) * n_current
        return csr_array((np.ones(positions.size), positions.ravel(), starts), shape=(n_permutations, n_blocks))
    assignments: np.ndarray = np.zeros((n_permutations, n_blocks))
    np.put_along_axis(assignments, positions, 1.0, axis=1)
    return assignments


def sum_over_blocks(assignments: Any, counts: np.ndarray) -> np.ndarray:
    """Sum counts by block over the current blocks of each permutation.

    A dense product takes so few rows at a time that BLAS stays in this thread: its threads would wait longer than they work.

    Args:
        assignments: From `assignment_matrix`.
        counts: `(blocks,)` or `(blocks, groups)`, whole numbers.

    Returns:
        float64 `(permutations,)` or `(permutations, groups)`.
    """
    if not isinstance(assignments, np.ndarray):
        return assignments @ counts
    if counts.ndim == 1:
        return np.einsum("db,b->d", assignments, counts)
    step = max(1, SINGLE_THREAD_PRODUCT // max(1, counts.size))
    return np.concatenate([assignments[at : at + step] @ counts for at in range(0, len(assignments), step)])


def permuted_counts(
    as_current: Column, as_reference: Column, starts: np.ndarray, assignments: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the current side and of the reference in each permutation.

    Args:
        as_current: The column to use for blocks that count as current.
        as_reference: The column to use for blocks that count as reference.
        starts: Where groups of values begin.
        assignments: From `assignment_matrix`.

    Returns:
        Two float64 arrays `(permutations, groups)`.
    """
    reference: np.ndarray = group_counts(as_reference, starts).astype("float64")
    removed = sum_over_blocks(assignments, reference)
    if as_current is as_reference:
        return removed, reference.sum(axis=0) - removed
    current = sum_over_blocks(assignments, group_counts(as_current, starts).astype("float64"))
    return current, reference.sum(axis=0) - removed


def group_starts(column: Column) -> np.ndarray:
    """Return where groups of neighbouring values begin, about `MAX_GROUPS` of equal share; extreme values stay single."""
    n_values = len(column.values)
    if not column.numeric or n_values <= MAX_GROUPS:
        return np.arange(n_values)
    total = column.total
    group = np.minimum((np.cumsum(total) - total / 2) / total.sum() * MAX_GROUPS, MAX_GROUPS - 1).astype("int64")
    group[np.r_[np.arange(SINGLE_EXTREMES), np.arange(n_values - SINGLE_EXTREMES, n_values)]] = -1
    return np.flatnonzero(np.r_[True, (np.diff(group) != 0) | (group[1:] == -1)])


def merge_groups(column: Column, starts: np.ndarray) -> Column:
    """Merge each group of values into one value, its mean."""
    if len(starts) == len(column.values):
        return column
    total = column.total
    weight = np.add.reduceat(total, starts)
    means = np.add.reduceat(column.values * total, starts) / np.maximum(weight, 1)
    means = np.where(weight > 0, means, column.values[starts])
    return Column(means, group_counts(column, starts), column.other, column.grid)


def group_counts(column: Column, starts: np.ndarray) -> np.ndarray:
    """Counts by block and group of values, int64 `(blocks, groups)`."""
    return column.counts if len(starts) == len(column.values) else np.add.reduceat(column.counts, starts, axis=1)
