"""Deals: which blocks of time play the partition and which the reference, and what either side counts in each deal.

`tasks/drift/alarms.py` says why.
"""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from tasks.drift.sketches import Column, Sketch

SUPPORT = 256
"""Points that a distribution function is looked at in under chance; the score that is judged is exact."""
ENDS = 8
"""Extreme values at either end that are kept single among them, since they make ranges."""
ALIKE = 0.9
"""Middle rows of one side's blocks over the other's, above which they count as equally many."""
DENSE = 4
"""Blocks for each that plays the partition, up to which deals are a dense matrix."""
ALONE = 1 << 18
"""Multiplications of a matrix product up to which OpenBLAS uses no thread but the caller's."""


def permute_blocks(blocks: int, current: int, resamples: int, seed: int) -> np.ndarray:
    """Positions of the blocks that play the partition, int64 `(deals, current)`: every deal, or `resamples` drawn ones.

    Where all are dealt, the last one is the partition itself if its blocks come last, as those of a newer one do.
    """
    if comb(blocks, current) <= resamples:
        return np.array(list(combinations(range(blocks), current)), dtype="int64")
    order = np.random.default_rng(seed).random((resamples, blocks)).argsort(axis=1, kind="stable")
    return np.sort(order[:, :current], axis=1)


def playing(pooled: Sketch, now: np.ndarray, seed: int) -> tuple[Sketch, Sketch]:
    """The blocks as they play the partition, and as they play the reference: either side's with about the other's rows.

    Few rows are far from anything by themselves. So where the partition's blocks (`now`) have fewer rows than the reference's,
    those of the reference play the partition thinned to such sizes as its own have; where they have more, they play the reference
    thinned to such sizes as that has. Rows are drawn without replacement, each column by itself; a block keeps one row at least,
    since one without any is no block.
    """
    own, others = pooled.rows[now], pooled.rows[~now]
    if not len(own) or not len(others):
        return pooled, pooled
    middle, its = float(np.median(own)), float(np.median(others))
    rng = np.random.default_rng(seed)
    if middle < ALIKE * its:
        return _thinned(pooled, ~now, own, rng), pooled
    if its < ALIKE * middle:
        return pooled, _thinned(pooled, now, others, rng)
    return pooled, pooled


def _thinned(pooled: Sketch, which: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> Sketch:
    """The sketch with some blocks thinned to sizes drawn from `sizes`, or to what they have if that is less."""
    kept = pooled.rows.copy()
    kept[which] = np.minimum(kept[which], rng.choice(sizes, int(which.sum())))
    columns = {name: _drawn(c, kept, np.flatnonzero(which), rng) for name, c in pooled.columns.items()}
    return Sketch(pooled.blocks, kept, columns)


def _drawn(column: Column, kept: np.ndarray, blocks: np.ndarray, rng: np.random.Generator) -> Column:
    """A column of which some blocks keep only so many of their rows."""
    both = np.concatenate([column.counts, column.other], axis=1)
    for at in blocks:
        there = np.flatnonzero(both[at])
        both[at, there] = rng.multivariate_hypergeometric(both[at, there], kept[at], method="marginals")
    width = column.counts.shape[1]
    return Column(column.values, both[:, :width], both[:, width:], column.grid)


def choosing(sides: np.ndarray, blocks: int) -> Any:
    """A matrix `(deals, blocks)`, 1 where a deal has a block play the partition: times counts by block, it gives each deal's sums.

    Counts are whole numbers, so a dense one gives the same sums as a sparse one. Where the partition has not much fewer blocks than the
    reference it is as fast, and SciPy's sparse matrices take longer to import than to multiply.
    """
    deals, played = sides.shape
    if blocks > DENSE * played:
        from scipy.sparse import csr_array

        return csr_array((np.ones(sides.size), sides.ravel(), np.arange(deals + 1) * played), shape=(deals, blocks))
    chosen: np.ndarray = np.zeros((deals, blocks))
    np.put_along_axis(chosen, sides, 1.0, axis=1)
    return chosen


def summed(chosen: Any, counts: np.ndarray) -> np.ndarray:
    """`chosen` times counts `(blocks,)` or `(blocks, groups)`, which are whole numbers: float64 `(deals,)` or `(deals, groups)`.

    By BLAS, but of a dense matrix so few rows at a time that it works in this thread: its threads would wait longer than they work.
    """
    if not isinstance(chosen, np.ndarray):
        return chosen @ counts
    if counts.ndim == 1:
        return np.einsum("db,b->d", chosen, counts)
    step = max(1, ALONE // max(1, counts.size))
    return np.concatenate([chosen[at : at + step] @ counts for at in range(0, len(chosen), step)])


def sums(player: Column, standing: Column, begins: np.ndarray, chosen: Any) -> tuple[np.ndarray, np.ndarray]:
    """Counts by group of values of the partition and of the reference, as each deal has them: float64 `(deals, groups)` twice."""
    left: np.ndarray = grouped(standing, begins).astype("float64")
    theirs = summed(chosen, left)
    mine = theirs if player is standing else summed(chosen, grouped(player, begins).astype("float64"))
    return mine, left.sum(axis=0) - theirs


def neighbours(column: Column) -> np.ndarray:
    """Where groups of neighbouring values begin, at most about `SUPPORT` by their share; the extremes are kept single."""
    count = len(column.values)
    if not column.numeric or count <= SUPPORT:
        return np.arange(count)
    total = column.total
    place = np.minimum((np.cumsum(total) - total / 2) / total.sum() * SUPPORT, SUPPORT - 1).astype("int64")
    single = np.r_[np.arange(ENDS), np.arange(count - ENDS, count)]
    place[single] = -1
    return np.flatnonzero(np.r_[True, (np.diff(place) != 0) | (place[1:] == -1)])


def pooled_sketch(column: Column, begins: np.ndarray) -> Column:
    """The column with neighbouring values as one, told by their mean."""
    if len(begins) == len(column.values):
        return column
    total = column.total
    weight = np.add.reduceat(total, begins)
    means = np.add.reduceat(column.values * total, begins) / np.maximum(weight, 1)
    means = np.where(weight > 0, means, column.values[begins])
    return Column(means, np.add.reduceat(column.counts, begins, axis=1), column.other, column.grid)


def grouped(column: Column, begins: np.ndarray) -> np.ndarray:
    """Counts by block and group of values."""
    return column.counts if len(begins) == len(column.values) else np.add.reduceat(column.counts, begins, axis=1)
