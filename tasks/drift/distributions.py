"""Distributions of a partition's columns beside those of their references, from sketches, small enough for a page."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tasks.drift.reference import Reference
from tasks.drift.sketches import Column, Sketch

BINS, MOST_VALUES = 20, 12
"""Bins of a number with more distinct values than `MOST_VALUES`, and values of a category that are named."""
TAILS = 0.005
"""Share of the rows at each end whose numbers are in the first and the last bin, however far away they are."""


def distributions(
    current: Sketch, against: Sequence[Reference], personal: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Return the distribution of each compared column in the partition (`now`) and in its reference (`then`).

    Args:
        current: Sketch of the partition.
        against: The references; each compared column is in one of them.
        personal: Columns that are left out.

    Returns:
        By column: `labels` of the bins or categories, `now` and `then` as shares of all rows, and `reference`, its description. The last
        label is `missing`: null, infinite or not a number.
    """
    return {
        name: _distribution(current.columns[name], reference.sketch.columns[name])
        | {"reference": reference.description}
        for reference in against
        for name in reference.columns
        if name in current.columns and name in reference.sketch.columns and name not in personal
    }


def _distribution(now: Column, then: Column) -> dict[str, Any]:
    both = [(column.values, column.total) for column in (now, then)]
    labels, shares = (_numbers if now.numeric and then.numeric else _categories)(both)
    missing = [float(column.other.sum()) for column in (now, then)]
    totals = [max(1.0, float(column.total.sum()) + out) for column, out in zip((now, then), missing, strict=True)]
    counts = [[*share, out] for share, out in zip(shares, missing, strict=True)]
    rounded = [[round(x / total, 5) for x in own] for own, total in zip(counts, totals, strict=True)]
    return {"labels": [*labels, "missing"], "now": rounded[0], "then": rounded[1]}


def _categories(both: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[str], list[list[float]]]:
    """Name the values with the largest shares on either side, and add up the others."""
    tables = [{str(v): float(n) for v, n in zip(values, counts, strict=True)} for values, counts in both]
    totals = [max(1.0, sum(table.values())) for table in tables]
    pooled = {v: sum(t.get(v, 0.0) / n for t, n in zip(tables, totals, strict=True)) for table in tables for v in table}
    named = sorted(pooled, key=lambda value: (-pooled[value], value))[:MOST_VALUES]
    others = len(pooled) > len(named)
    counts = [[t.get(v, 0.0) for v in named] for t in tables]
    if others:
        counts = [[*own, sum(t.values()) - sum(own)] for own, t in zip(counts, tables, strict=True)]
    return [*named, *(["all others"] if others else [])], counts


def _numbers(both: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[str], list[list[float]]]:
    """Count numbers in bins of equal width. Few distinct numbers are counted one by one."""
    values = np.unique(np.concatenate([v for v, _ in both]).astype("float64"))
    if len(values) <= MOST_VALUES:
        counts = [[float(n[v == x].sum()) for x in values] for v, n in both]
        return [_label(x, values) for x in values], counts
    edges = _edges(both)
    bins = [np.clip(np.searchsorted(edges, v, side="right") - 1, 0, BINS - 1) for v, _ in both]
    counts = [np.bincount(at, weights=n, minlength=BINS).tolist() for at, (_, n) in zip(bins, both, strict=True)]
    texts = [_label(x, edges) for x in edges]
    inner = [f"{a} to {b}" for a, b in pairwise(texts[1:-1])]
    return [f"below {texts[1]}", *inner, f"{texts[-2]} and above"], counts


def _label(x: float, all_: np.ndarray) -> str:
    """Return a number with as many digits as tell it from its neighbours, at least four."""
    step = float(np.diff(all_).min()) if len(all_) > 1 else 0.0
    digits = int(np.ceil(np.log10(abs(x) / step))) + 2 if step > 0 and x else 4
    return f"{x:.{min(17, max(4, digits))}g}"


def _edges(both: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return edges of equal distance between the lower and the upper tail of both sides together."""
    ends = []
    for values, counts in both:
        if counts.sum():
            shares = np.cumsum(counts) / counts.sum()
            lower, upper = (int(x) for x in np.searchsorted(shares, [TAILS, 1 - TAILS]))
            ends += [values[lower], values[min(upper, len(values) - 1)]]
    low, high = float(min(ends)), float(max(ends))
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)
