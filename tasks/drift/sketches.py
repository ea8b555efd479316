"""Sketches: value counts of a partition's columns, so that a drift check does not need the rows.

A sketch counts, for each block of time, how often each value of a column occurs. Text is counted as it is. Numbers are counted in bins with
fixed edges, and each bin stands for the mean of its numbers. A number `x` falls into bin `round(4096 * arcsinh((x - origin) / scale))`:
this grid is 1/4096 of the scale wide near the origin, its width grows in proportion to the distance, and it has no ends. Origin and scale
are the median of some rows and their median distance from it. A column therefore uses some ten thousand bins.

Sketches can be added: `union` merges the blocks of several partitions, `Column.total` sums over blocks. Nulls, infinities (beyond
`LARGEST`) and values that are not numbers are counted separately.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.drift.columns import to_numbers, to_text

if TYPE_CHECKING:
    import pandas as pd

BINS_PER_SCALE = 4096
GRID_SAMPLE_ROWS = 20_000
"""About so many evenly spaced rows determine a grid."""
MIN_REPEATS = 4
"""Rows for each distinct number, from which on distinct numbers are counted before they are binned."""
MAX_CELLS = 5_000_000
"""Size limit of the table of distinct numbers by blocks that is held in memory."""
LARGEST = 1e150
"""Larger numbers count as infinite, because their squares are."""
KINDS = ("null", "infinite", "no number")
"""What `Column.other` counts, in its order."""


@dataclass(frozen=True)
class Column:
    """The values of one column, and how often each occurs in each block.

    Attributes:
        values: Ascending, float64 `(values,)`, or for text str as object.
        counts: int64 `(blocks, values)`.
        other: int64 `(blocks, 3)`, rows of each of `KINDS`.
        grid: Origin and scale of the bins, for numbers.
    """

    values: np.ndarray
    counts: np.ndarray
    other: np.ndarray
    grid: tuple[float, float] = (0.0, 1.0)

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers and not text."""
        return self.values.dtype != object

    @property
    def total(self) -> np.ndarray:
        """How often each value occurs in all blocks, float64 `(values,)`."""
        return self.counts.sum(axis=0).astype("float64")

    def select_blocks(self, positions: np.ndarray) -> "Column":
        """Return the counts of some blocks, in the order of their positions."""
        return Column(self.values, self.counts[positions], self.other[positions], self.grid)


@dataclass(frozen=True)
class Sketch:
    """The columns of blocks of time.

    Attributes:
        blocks: Names of the blocks, ascending.
        rows: Rows of each block, int64 `(blocks,)`.
        columns: By name.
    """

    blocks: tuple[str, ...]
    rows: np.ndarray
    columns: Mapping[str, Column]

    def select_blocks(self, positions: Sequence[int]) -> "Sketch":
        """Return the sketch of some blocks, in the order of their positions."""
        chosen = np.asarray(positions, dtype="int64")
        columns = {name: column.select_blocks(chosen) for name, column in self.columns.items()}
        return Sketch(tuple(self.blocks[i] for i in chosen), self.rows[chosen], columns)

    def select_columns(self, names: Sequence[str]) -> "Sketch":
        """Return the sketch with these columns only."""
        return Sketch(self.blocks, self.rows, {n: self.columns[n] for n in names})


def sketch(
    frame: "pd.DataFrame", blocks: "np.ndarray | pd.Categorical", names: Sequence[str], text: Sequence[str]
) -> Sketch:
    """Count the values of columns by block.

    Args:
        frame: The rows. A column that it does not have counts as null in every row.
        blocks: Name of each row's block. Names must sort as the blocks do.
        names: The columns to count.
        text: Those to count as text. The others are numbers.
    """
    import pandas as pd

    if not isinstance(blocks, pd.Categorical):
        blocks = pd.Categorical(np.asarray(blocks, dtype=str).astype(object))
    block_names, block = blocks.categories, blocks.codes.astype("int64")
    rows = np.bincount(block, minlength=len(block_names))
    columns = {name: _column(frame, name, name in text, block, rows) for name in names}
    return Sketch(tuple(str(b) for b in block_names), rows, columns)


def _column(frame: "pd.DataFrame", name: str, text: bool, block: np.ndarray, rows: np.ndarray) -> Column:
    n_blocks = len(rows)
    if name not in frame:
        other = np.stack([rows, np.zeros(n_blocks, "int64"), np.zeros(n_blocks, "int64")], axis=1)
        return Column(np.empty(0, object if text else "float64"), np.zeros((n_blocks, 0), "int64"), other)
    if text:
        return _text(frame[name], block, n_blocks)
    return _numbers(*to_numbers(frame[name]), block, n_blocks)


def _text(series: "pd.Series", block: np.ndarray, n_blocks: int) -> Column:
    import pandas as pd

    is_text = isinstance(series.dtype, pd.StringDtype)
    codes, values = pd.factorize(series if is_text else to_text(series), sort=True)
    present = codes >= 0
    other: np.ndarray = np.zeros((n_blocks, len(KINDS)), "int64")
    other[:, 0] = np.bincount(block[~present], minlength=n_blocks)
    counts = _count(block[present], codes[present], n_blocks, len(values))
    return Column(np.asarray(values, object), counts, other)


def _numbers(x: np.ndarray, invalid: np.ndarray, block: np.ndarray, n_blocks: int) -> Column:
    """Count numbers; `invalid` marks the rows whose value is not a number, bool `(rows,)`."""
    if has_repeats(x) and (column := _count_distinct(x, invalid, block, n_blocks)):
        return column
    finite = np.abs(x) <= LARGEST  # False for NaN
    masks = (np.isnan(x) & ~invalid, np.abs(x) > LARGEST, invalid)
    other = np.stack([np.bincount(block[mask], minlength=n_blocks) for mask in masks], axis=1)
    numbers = x[finite]
    grid = choose_grid(numbers)
    bins, position = _bins(numbers, grid)
    values = _bin_means(numbers, position, np.ones(len(numbers)), len(bins))
    return Column(values, _count(block[finite], position, n_blocks, len(bins)), other, grid)


def has_repeats(x: np.ndarray) -> bool:
    """Whether a column is long and has, in a sample, so few distinct numbers that counting those first is faster."""
    rows = x[:: max(1, len(x) // GRID_SAMPLE_ROWS)]
    return len(x) > GRID_SAMPLE_ROWS and len(np.unique(rows)) <= len(rows) / MIN_REPEATS


def _count_distinct(x: np.ndarray, invalid: np.ndarray, block: np.ndarray, n_blocks: int) -> Column | None:
    """Do the same as `_numbers` by distinct number instead of by row. Return None if there are too many of them."""
    import pandas as pd

    codes, distinct = pd.factorize(x)  # NaN is -1
    if len(distinct) * MIN_REPEATS > len(x) or len(distinct) * n_blocks > MAX_CELLS:
        return None
    counts = _count(block, codes + 1, n_blocks, len(distinct) + 1)
    finite = np.abs(distinct) <= LARGEST
    n_invalid = np.bincount(block[invalid], minlength=n_blocks)
    other = np.stack([counts[:, 0] - n_invalid, counts[:, 1:][:, ~finite].sum(axis=1), n_invalid], axis=1)
    grid = choose_grid(x[np.abs(x) <= LARGEST])
    bins, position = _bins(distinct[finite], grid)
    finite_counts = counts[:, 1:][:, finite]
    values = _bin_means(distinct[finite], position, finite_counts.sum(axis=0).astype("float64"), len(bins))
    binned: np.ndarray = np.zeros((n_blocks, len(bins)), "int64")
    np.add.at(binned, (slice(None), position), finite_counts)  # type: ignore[arg-type]  # the stubs lack slices
    return Column(values, binned, other, grid)


def choose_grid(x: np.ndarray) -> tuple[float, float]:
    """Origin and scale for finite numbers: the median of a sample, and the median distance of numbers that differ from it."""
    if not len(x):
        return 0.0, 1.0
    rows = x[:: max(1, len(x) // GRID_SAMPLE_ROWS)]
    origin = float(np.median(rows))
    distances = np.abs(rows - origin)
    distances = distances[distances > 0]
    scale = float(np.median(distances)) if len(distances) else 0.0
    return origin, scale if np.isfinite(scale) and scale > np.finfo("float64").tiny * 1e10 else 1.0


def _bins(x: np.ndarray, grid: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins that numbers fall into, ascending, and the position of each number's bin among them."""
    with np.errstate(over="ignore"):
        scaled = np.clip((x - grid[0]) / grid[1], -1e300, 1e300)
    index = np.rint(np.arcsinh(scaled) * BINS_PER_SCALE).astype("int64")
    if not len(index):
        return index, index
    shifted = index - index.min()
    used = np.bincount(shifted) > 0
    return np.flatnonzero(used) + index.min(), (np.cumsum(used) - 1)[shifted]


def _bin_means(x: np.ndarray, position: np.ndarray, weight: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the weighted mean of each bin. A bin with one distinct number has exactly that number.

    Quotients of small counts often lie on the edge of an Evidently bin, where a rounding error would move them to the other side.
    """
    low, high = np.full(n_bins, np.inf), np.full(n_bins, -np.inf)
    np.minimum.at(low, position, x)
    np.maximum.at(high, position, x)
    above_low = np.bincount(position, weights=(x - low[position]) * weight, minlength=n_bins)
    total = np.bincount(position, weights=weight, minlength=n_bins)
    return np.where(low == high, low, np.minimum(low + above_low / np.maximum(total, 1), high))


def _count(block: np.ndarray, position: np.ndarray, n_blocks: int, n_values: int) -> np.ndarray:
    return np.bincount(block * n_values + position, minlength=n_blocks * n_values).reshape(n_blocks, n_values)


def union(parts: Sequence[Sketch]) -> Sketch:
    """Merge the blocks of several sketches. A block that occurs in two of them is summed.

    Numbers are binned again by their bins' means, on the grid of the first sketch that has any. The result has the columns that all
    sketches have.
    """
    names = sorted({block for part in parts for block in part.blocks})
    position = {block: i for i, block in enumerate(names)}
    positions = [np.array([position[b] for b in part.blocks], dtype="int64") for part in parts]
    rows: np.ndarray = np.zeros(len(names), "int64")
    for part, into in zip(parts, positions, strict=True):
        np.add.at(rows, into, part.rows)
    common = [c for c in (parts[0].columns if parts else ()) if all(c in part.columns for part in parts)]
    columns = {c: _union_column([part.columns[c] for part in parts], positions, len(names)) for c in common}
    return Sketch(tuple(names), rows, columns)


def _union_column(columns: Sequence[Column], positions: Sequence[np.ndarray], n_blocks: int) -> Column:
    other: np.ndarray = np.zeros((n_blocks, len(KINDS)), "int64")
    for column, into in zip(columns, positions, strict=True):
        np.add.at(other, into, column.other)
    pooled = np.concatenate([c.values for c in columns])
    grid = next((c.grid for c in columns if len(c.values)), (0.0, 1.0))
    if columns[0].numeric:
        pooled = pooled.astype("float64")
        bins, position = _bins(pooled, grid)
        values = _bin_means(pooled, position, np.concatenate([c.total for c in columns]), len(bins))
    else:
        values, position = (
            np.unique(pooled.astype(str), return_inverse=True) if len(pooled) else (pooled, pooled.astype("int64"))
        )
        values = values.astype(object)
    counts: np.ndarray = np.zeros((n_blocks, len(values)), "int64")
    begin = 0
    for column, into in zip(columns, positions, strict=True):
        end = begin + len(column.values)
        np.add.at(counts, (into[:, None], position[None, begin:end]), column.counts)
        begin = end
    return Column(values, counts, other, grid)
