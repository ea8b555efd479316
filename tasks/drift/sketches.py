"""Sketches: what is kept of a partition's columns so that a check needs no rows.

A sketch counts, for each block of time, how often each value of a column occurs. Text is counted
as it is. Numbers are counted in bins with fixed edges, each told by the mean of what fell into it: a
number `x` falls into bin `round(4096 * arcsinh((x - origin) / scale))`, a grid that is 1/4096 of
the scale wide near the origin, grows in proportion far from it, and has no ends. Origin and scale are a
median and a median distance of the first rows that were seen, so all bins that are ever used are some ten thousand.

Sketches add up: blocks of several partitions are one sketch (`union`), blocks of one are one count (`Column.total`).
Nulls, infinities (`LARGEST`) and what is no number are counted beside the values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.drift.columns import numbers_of, texts_of

if TYPE_CHECKING:
    import pandas as pd

FINENESS = 4096
"""Bins a scale."""
LAYOUT_VERSION = 20_000
"""Rows, evenly spaced, from which a grid is chosen."""
REPEATED = 4
"""Rows for each different number, above which numbers are counted before they are binned."""
CELLS = 5_000_000
"""Counts of different numbers in blocks that are held at once."""
LARGEST = 1e150
"""Numbers beyond it count as infinite: their squares are."""
KINDS = ("null", "infinite", "no number")
"""What is counted beside values, in the order of `Column.other`."""


@dataclass(frozen=True)
class Column:
    """One column's values and how often each occurs in each block.

    `values` ascend: float64 `(values,)`, or str as object; `counts` is int64 `(blocks, values)`, and `other`
    int64 `(blocks, 3)` counts what `KINDS` names.
    """

    values: np.ndarray
    counts: np.ndarray
    other: np.ndarray
    grid: tuple[float, float] = (0.0, 1.0)

    @property
    def numeric(self) -> bool:
        return self.values.dtype != object

    @property
    def total(self) -> np.ndarray:
        """How often each value occurs in all blocks, float64 `(values,)`."""
        return self.counts.sum(axis=0).astype("float64")

    def at(self, rows: np.ndarray) -> "Column":
        """Some of the blocks."""
        return Column(self.values, self.counts[rows], self.other[rows], self.grid)


@dataclass(frozen=True)
class Sketch:
    """The columns of some blocks of time; `blocks` names them in ascending order, `rows` int64 counts their rows."""

    blocks: tuple[str, ...]
    rows: np.ndarray
    columns: Mapping[str, Column]

    def at(self, chosen: Sequence[int]) -> "Sketch":
        """Some of the blocks, by position."""
        rows = np.asarray(chosen, dtype="int64")
        columns = {name: column.at(rows) for name, column in self.columns.items()}
        return Sketch(tuple(self.blocks[i] for i in rows), self.rows[rows], columns)

    def of(self, names: Sequence[str]) -> "Sketch":
        """Some of the columns."""
        return Sketch(self.blocks, self.rows, {n: self.columns[n] for n in names})


def sketch(
    frame: "pd.DataFrame", blocks: "np.ndarray | pd.Categorical", names: Sequence[str], words: Sequence[str]
) -> Sketch:
    """Count the columns `names` of a frame; those in `words` as text, the others as numbers.

    `blocks` names each row's block of time; names must sort as the blocks do. A column that is not in
    the frame counts as null throughout.
    """
    import pandas as pd

    if not isinstance(blocks, pd.Categorical):
        blocks = pd.Categorical(np.asarray(blocks, dtype=str).astype(object))
    kept, at = blocks.categories, blocks.codes.astype("int64")
    rows = np.bincount(at, minlength=len(kept))
    columns = {name: _column(frame, name, name in words, at, rows) for name in names}
    return Sketch(tuple(str(b) for b in kept), rows, columns)


def _column(frame: "pd.DataFrame", name: str, text: bool, at: np.ndarray, rows: np.ndarray) -> Column:
    count = len(rows)
    if name not in frame:
        other = np.stack([rows, np.zeros(count, "int64"), np.zeros(count, "int64")], axis=1)
        return Column(np.empty(0, object if text else "float64"), np.zeros((count, 0), "int64"), other)
    return _text(frame[name], at, count) if text else _numbers(*numbers_of(frame[name]), at, count)


def _text(held: "pd.Series", at: np.ndarray, count: int) -> Column:
    import pandas as pd

    plain = isinstance(held.dtype, pd.StringDtype)  # all text already: nothing to make of a row
    codes, values = pd.factorize(held if plain else texts_of(held), sort=True)
    there = codes >= 0
    other: np.ndarray = np.zeros((count, len(KINDS)), "int64")
    other[:, 0] = np.bincount(at[~there], minlength=count)
    return Column(np.asarray(values, object), _count(at[there], codes[there], count, len(values)), other)


def _numbers(x: np.ndarray, odd: np.ndarray, at: np.ndarray, count: int) -> Column:
    if repeats(x) and (counted := _repeated(x, odd, at, count)):
        return counted
    finite = np.abs(x) <= LARGEST  # False for NaN
    other = np.stack(
        [np.bincount(at[m], minlength=count) for m in (np.isnan(x) & ~odd, np.abs(x) > LARGEST, odd)], axis=1
    )
    kept, blocks = x[finite], at[finite]
    grid = grid_of(kept)
    index, position = _bins(kept, grid)
    values = _means(kept, position, np.ones(len(kept)), len(index))
    return Column(values, _count(blocks, position, count, len(index)), other, grid)


def repeats(x: np.ndarray) -> bool:
    """Whether a long column has so few different numbers that counting those first is faster; a look at some rows tells."""
    seen = x[:: max(1, len(x) // LAYOUT_VERSION)]
    return len(x) > LAYOUT_VERSION and len(np.unique(seen)) <= len(seen) / REPEATED


def _repeated(x: np.ndarray, odd: np.ndarray, at: np.ndarray, count: int) -> Column | None:
    """As `_numbers`, by each different number and not by each row; None where there are more than the look told."""
    import pandas as pd

    codes, held = pd.factorize(x)  # NaN is -1
    if len(held) * REPEATED > len(x) or len(held) * count > CELLS:
        return None
    counts = _count(at, codes + 1, count, len(held) + 1)
    finite = np.abs(held) <= LARGEST
    no_number = np.bincount(at[odd], minlength=count)
    other = np.stack([counts[:, 0] - no_number, counts[:, 1:][:, ~finite].sum(axis=1), no_number], axis=1)
    grid = grid_of(x[np.abs(x) <= LARGEST])
    index, position = _bins(held[finite], grid)
    single = counts[:, 1:][:, finite]
    values = _means(held[finite], position, single.sum(axis=0).astype("float64"), len(index))
    binned: np.ndarray = np.zeros((count, len(index)), "int64")
    np.add.at(binned, (slice(None), position), single)
    return Column(values, binned, other, grid)


def grid_of(x: np.ndarray) -> tuple[float, float]:
    """Origin and scale for some finite numbers: their median, and the median distance of those that differ from it."""
    if not len(x):
        return 0.0, 1.0
    seen = x[:: max(1, len(x) // LAYOUT_VERSION)]
    origin = float(np.median(seen))
    away = np.abs(seen - origin)
    away = away[away > 0]
    scale = float(np.median(away)) if len(away) else 0.0
    return origin, scale if np.isfinite(scale) and scale > np.finfo("float64").tiny * 1e10 else 1.0


def _bins(x: np.ndarray, grid: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The bins that numbers fall into, ascending, and each number's position among them."""
    with np.errstate(over="ignore"):
        away = np.clip((x - grid[0]) / grid[1], -1e300, 1e300)
    index = np.rint(np.arcsinh(away) * FINENESS).astype("int64")
    if not len(index):
        return index, index
    shifted = index - index.min()
    used = np.bincount(shifted) > 0
    return np.flatnonzero(used) + index.min(), (np.cumsum(used) - 1)[shifted]


def _means(x: np.ndarray, position: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """The mean of what fell into each bin; to the bit the number itself where that is all there was.

    Quotients of small counts fall on the edges of other people's bins, where a rounding error would put them on the other side.
    """
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, position, x)
    np.maximum.at(high, position, x)
    away = np.bincount(position, weights=(x - low[position]) * weight, minlength=count)
    total = np.bincount(position, weights=weight, minlength=count)
    return np.where(low == high, low, np.minimum(low + away / np.maximum(total, 1), high))


def _count(blocks: np.ndarray, position: np.ndarray, count: int, values: int) -> np.ndarray:
    return np.bincount(blocks * values + position, minlength=count * values).reshape(count, values)


def union(parts: Sequence[Sketch]) -> Sketch:
    """The blocks of several sketches as one; a block that occurs in two is added up.

    Numbers are counted anew on the grid of the first sketch that has any, each bin by its mean. Columns are
    those that every sketch has.
    """
    names = sorted({block for part in parts for block in part.blocks})
    place = {block: i for i, block in enumerate(names)}
    at = [np.array([place[b] for b in part.blocks], dtype="int64") for part in parts]
    rows: np.ndarray = np.zeros(len(names), "int64")
    for part, where in zip(parts, at, strict=True):
        np.add.at(rows, where, part.rows)
    common = [c for c in (parts[0].columns if parts else ()) if all(c in part.columns for part in parts)]
    columns = {c: _joined([part.columns[c] for part in parts], at, len(names)) for c in common}
    return Sketch(tuple(names), rows, columns)


def _joined(columns: Sequence[Column], at: Sequence[np.ndarray], count: int) -> Column:
    other: np.ndarray = np.zeros((count, len(KINDS)), "int64")
    for column, where in zip(columns, at, strict=True):
        np.add.at(other, where, column.other)
    held = np.concatenate([c.values for c in columns])
    grid = next((c.grid for c in columns if len(c.values)), (0.0, 1.0))
    if columns[0].numeric:
        held = held.astype("float64")
        values, position = _bins(held, grid)
        weight = np.concatenate([c.total for c in columns])
        means = _means(held, position, weight, len(values))
    else:
        means, position = (
            np.unique(held.astype(str), return_inverse=True) if len(held) else (held, held.astype("int64"))
        )
        means = means.astype(object)
    counts: np.ndarray = np.zeros((count, len(means)), "int64")
    begin = 0
    for column, where in zip(columns, at, strict=True):
        end = begin + len(column.values)
        np.add.at(counts, (where[:, None], position[None, begin:end]), column.counts)
        begin = end
    return Column(means, counts, other, grid)
