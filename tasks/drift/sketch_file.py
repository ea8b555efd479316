"""Sketches as rows of a file, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drift.sketches import KINDS, Column, Sketch

if TYPE_CHECKING:
    import pandas as pd


TYPES: dict[str, Any] = {"block": str, "column": str, "kind": str, "number": "float64", "text": str, "count": "int64"}
BLANK: dict[str, Any] = {"block": "", "number": np.nan, "text": "", "count": 0}
"""Columns of the file, and what stands in those that a row says nothing in."""


def to_frame(found: Sketch) -> "pd.DataFrame":
    """A sketch as rows of `block, column, kind, number, text, count`; `from_frame` reads it again.

    First each column's grid, then each block's rows, then the counts that are not nought, in the order of column and block.
    """
    import pandas as pd

    parts = []
    for name, column in found.columns.items():
        origin, scale = column.grid if column.numeric else (np.nan, np.nan)
        parts += [_rows(name, "origin", number=[origin]), _rows(name, "scale", number=[scale])]
    names = np.array(found.blocks, dtype=object)
    parts.append(_rows("", "rows", block=names, count=found.rows))
    for name, column in found.columns.items():
        for at, kind in enumerate(KINDS):
            used = np.flatnonzero(column.other[:, at])
            parts.append(_rows(name, kind, block=names[used], count=column.other[used, at]))
        block, value = np.nonzero(column.counts)
        held = {"number" if column.numeric else "text": column.values[value]}
        parts.append(_rows(name, "value", block=names[block], count=column.counts[block, value], **held))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in TYPES}).astype(TYPES)


def _rows(column: str, kind: str, **held: Any) -> dict[str, np.ndarray]:
    """Rows of the file, each column by itself; what is not given is blank."""
    count = len(next(iter(held.values())))
    blank = BLANK | {"column": column, "kind": kind}
    rows: dict[str, np.ndarray] = {
        name: np.full(count, value, object if isinstance(value, str) else None) for name, value in blank.items()
    }
    return rows | {name: np.asarray(values) for name, values in held.items()}


def from_frame(frame: "pd.DataFrame") -> Sketch:
    """The sketch that `to_frame` was given.

    Raises:
        ValueError: it counts something in a block that it does not have.
    """
    import pandas as pd

    counted = frame[frame["kind"] == "rows"]
    blocks = {name: at for at, name in enumerate(counted["block"])}
    at = frame["block"].map({"": -1} | blocks).to_numpy("int64")  # grids have no block
    kinds, names = frame["kind"].to_numpy(), frame["column"].to_numpy()
    numbers, texts, counts = (frame[name].to_numpy() for name in ("number", "text", "count"))
    columns, codes = {}, pd.factorize(names)[0]
    for which in (np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)):
        if name := names[which[0]]:
            columns[str(name)] = _column(len(blocks), *(x[which] for x in (at, kinds, numbers, texts, counts)))
    return Sketch(tuple(blocks), counted["count"].to_numpy("int64"), columns)


def _column(
    blocks: int, at: np.ndarray, kinds: np.ndarray, numbers: np.ndarray, texts: np.ndarray, counts: np.ndarray
) -> Column:
    """One column from its rows, `at` being the position of each one's block; without a grid it is text."""
    origin, scale = (float(numbers[kinds == kind][0]) for kind in ("origin", "scale"))
    other: np.ndarray = np.zeros((blocks, len(KINDS)), "int64")
    for position, kind in enumerate(KINDS):
        there = kinds == kind
        other[at[there], position] = counts[there]
    there, text = kinds == "value", np.isnan(origin)
    values, position = np.unique(texts[there].astype(str) if text else numbers[there], return_inverse=True)
    found: np.ndarray = np.zeros((blocks, len(values)), "int64")
    found[at[there], position] = counts[there]
    return Column(values.astype(object) if text else values, found, other, (0.0, 1.0) if text else (origin, scale))
