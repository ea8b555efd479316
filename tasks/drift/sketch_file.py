"""Convert sketches to rows of a file, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drift.sketches import KINDS, Column, Sketch

if TYPE_CHECKING:
    import pandas as pd


TYPES: dict[str, Any] = {"block": str, "column": str, "kind": str, "number": "float64", "text": str, "count": "int64"}
"""Columns of the file."""
BLANK: dict[str, Any] = {"block": "", "number": np.nan, "text": "", "count": 0}
"""Their values in rows that do not use them."""


def to_frame(sketch: Sketch) -> "pd.DataFrame":
    """Convert a sketch to rows of `block, column, kind, number, text, count`; `from_frame` reads them.

    First come the grids of all columns, then the rows of each block, then all counts above 0, sorted by column and block.
    """
    import pandas as pd

    parts = []
    for name, column in sketch.columns.items():
        origin, scale = column.grid if column.numeric else (np.nan, np.nan)
        parts += [_rows(name, "origin", number=[origin]), _rows(name, "scale", number=[scale])]
    blocks = np.array(sketch.blocks, dtype=object)
    parts.append(_rows("", "rows", block=blocks, count=sketch.rows))
    for name, column in sketch.columns.items():
        for position, kind in enumerate(KINDS):
            used = np.flatnonzero(column.other[:, position])
            parts.append(_rows(name, kind, block=blocks[used], count=column.other[used, position]))
        block, value = np.nonzero(column.counts)
        values = {"number" if column.numeric else "text": column.values[value]}
        parts.append(_rows(name, "value", block=blocks[block], count=column.counts[block, value], **values))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in TYPES}).astype(TYPES)


def _rows(column: str, kind: str, **values: Any) -> dict[str, np.ndarray]:
    """Return rows of the file as arrays by column; columns that are not given are blank."""
    count = len(next(iter(values.values())))
    blank = BLANK | {"column": column, "kind": kind}
    rows: dict[str, np.ndarray] = {
        name: np.full(count, value, object if isinstance(value, str) else None) for name, value in blank.items()
    }
    return rows | {name: np.asarray(value) for name, value in values.items()}


def from_frame(frame: "pd.DataFrame") -> Sketch:
    """Read the sketch that `to_frame` converted.

    Raises:
        ValueError: a row has a block that the sketch does not have.
    """
    import pandas as pd

    block_rows = frame[frame["kind"] == "rows"]
    blocks = {name: position for position, name in enumerate(block_rows["block"])}
    block = frame["block"].map({"": -1} | blocks).to_numpy("int64")  # grids have no block
    kinds, names = frame["kind"].to_numpy(), frame["column"].to_numpy()
    numbers, texts, counts = (frame[name].to_numpy() for name in ("number", "text", "count"))
    columns, codes = {}, pd.factorize(names)[0]
    for rows in (np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)):
        if name := names[rows[0]]:
            columns[str(name)] = _column(len(blocks), *(x[rows] for x in (block, kinds, numbers, texts, counts)))
    return Sketch(tuple(blocks), block_rows["count"].to_numpy("int64"), columns)


def _column(
    n_blocks: int, block: np.ndarray, kinds: np.ndarray, numbers: np.ndarray, texts: np.ndarray, counts: np.ndarray
) -> Column:
    """Read one column from its rows. A column without a grid is text."""
    origin, scale = (float(numbers[kinds == kind][0]) for kind in ("origin", "scale"))
    other: np.ndarray = np.zeros((n_blocks, len(KINDS)), "int64")
    for position, kind in enumerate(KINDS):
        rows = kinds == kind
        other[block[rows], position] = counts[rows]
    rows, is_text = kinds == "value", np.isnan(origin)
    values, positions = np.unique(texts[rows].astype(str) if is_text else numbers[rows], return_inverse=True)
    value_counts: np.ndarray = np.zeros((n_blocks, len(values)), "int64")
    value_counts[block[rows], positions] = counts[rows]
    grid = (0.0, 1.0) if is_text else (origin, scale)
    return Column(values.astype(object) if is_text else values, value_counts, other, grid)
