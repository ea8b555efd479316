"""Sketches as rows of a file, and back. Imports no Prefect."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drift.sketches import KINDS, Column, Sketch

if TYPE_CHECKING:
    import pandas as pd


def to_frame(found: Sketch) -> "pd.DataFrame":
    """A sketch as rows of `block, column, kind, number, text, count`; `from_frame` reads it again.

    First each column's grid, then each block's rows, then the counts that are not nought, in the order of column and block.
    """
    import pandas as pd

    parts = []
    for name, column in found.columns.items():
        origin, scale = column.grid if column.numeric else (np.nan, np.nan)
        parts.append(_rows(name, "origin", number=[origin]))
        parts.append(_rows(name, "scale", number=[scale]))
    parts.append(_rows("", "rows", block=found.blocks, count=found.rows))
    names = np.array(found.blocks, dtype=object)
    for name, column in found.columns.items():
        for at, kind in enumerate(KINDS):
            used = np.flatnonzero(column.other[:, at])
            parts.append(_rows(name, kind, block=names[used], count=column.other[used, at]))
        block, value = np.nonzero(column.counts)
        held = {"number" if column.numeric else "text": column.values[value]}
        parts.append(_rows(name, "value", block=names[block], count=column.counts[block, value], **held))
    return pd.concat(parts, ignore_index=True)


def _rows(column: str, kind: str, **held: Any) -> "pd.DataFrame":
    """Rows of the file; what is not given is empty."""
    import pandas as pd

    count = len(next(iter(held.values())))
    blank = {
        "block": [""] * count,
        "number": np.full(count, np.nan),
        "text": [""] * count,
        "count": np.zeros(count, "int64"),
    }
    frame = pd.DataFrame(blank | {k: np.asarray(v) for k, v in held.items()} | {"column": column, "kind": kind})
    types = {"block": str, "column": str, "kind": str, "number": "float64", "text": str, "count": "int64"}
    return frame[list(types)].astype(types)


def from_frame(frame: "pd.DataFrame") -> Sketch:
    """The sketch that `to_frame` was given."""
    counted = frame[frame["kind"] == "rows"]
    blocks = {name: at for at, name in enumerate(counted["block"])}
    columns = {str(n): _read(part, blocks) for n, part in frame[frame["column"] != ""].groupby("column", sort=False)}
    return Sketch(tuple(blocks), counted["count"].to_numpy("int64"), columns)


def _read(part: "pd.DataFrame", blocks: Mapping[str, int]) -> Column:
    at = part["block"].map(blocks)
    kind = part["kind"].to_numpy()
    grid = tuple(float(part["number"].to_numpy()[kind == k][0]) for k in ("origin", "scale"))
    other: np.ndarray = np.zeros((len(blocks), len(KINDS)), "int64")
    for position, name in enumerate(KINDS):
        there = kind == name
        other[at[there].to_numpy("int64"), position] = part["count"].to_numpy()[there]
    there = kind == "value"
    held = part["text" if np.isnan(grid[0]) else "number"].to_numpy()[there]
    values, position = np.unique(held.astype(str) if np.isnan(grid[0]) else held, return_inverse=True)
    counts: np.ndarray = np.zeros((len(blocks), len(values)), "int64")
    counts[at[there].to_numpy("int64"), position] = part["count"].to_numpy()[there]
    return Column(
        values.astype(object) if np.isnan(grid[0]) else values,
        counts,
        other,
        (0.0, 1.0) if np.isnan(grid[0]) else (grid[0], grid[1]),
    )
