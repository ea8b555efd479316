"""A drift check of a million rows of 20 columns against a stored reference, beside Evidently's preset, scipy and plain histograms.

Ours counts the rows into sketches by day, scores them, and compares the scores with the null distribution, without a page. The
reference is stored, so its own counting is not measured, neither for ours nor for the histograms. Evidently and scipy need its rows.
"""

import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from benchmarks.checked import COLUMNS, check_partition, sketch_by_day
from benchmarks.generated import features, flights, model
from benchmarks.harness import Row, in_new_process, in_this_process, in_turns, row
from benchmarks.preset import preset
from tasks.drift.sketch_file import to_frame
from tasks.drift.sketches import Sketch

if TYPE_CHECKING:
    import pandas as pd

ROWS, ROUNDS, BINS = 1_000_000, 2, 4096
SMALL = 10_000


def rows() -> list[Row]:
    reference, current = flights(ROWS, 0, ("2013-01",)), flights(ROWS, 1, ("2013-02",))
    stored = sketch_by_day(reference)
    there = {n: reference[n] for n in features(COLUMNS)}
    bins = {n: binned(column) for n, column in there.items()}
    subject = f"drift check, {COLUMNS} columns, 1M rows against a stored reference"
    mine = in_this_process(lambda: check_partition(stored, current))
    few = current.head(SMALL)
    for way in (lambda: check_partition(stored, few), lambda: by_scipy(there, few), lambda: by_histograms(bins, few)):
        way()  # imports at the first use
    ways = (
        mine,
        in_this_process(lambda: by_scipy(there, current)),
        in_this_process(lambda: by_histograms(bins, current)),
    )
    ours, scipys, histograms = in_turns(*ways, rounds=ROUNDS, warm=False)
    assert_same_scores(stored, current.head(ROWS // 10), there)
    preset(*checked_columns(reference.head(1_000), current.head(1_000)))
    # Takes 90 s, and a second round would not change the ratio.
    mine_too, theirs = in_turns(
        mine, in_this_process(lambda: preset(*checked_columns(reference, current))), rounds=1, warm=False
    )
    return [
        row(subject, "Evidently's preset", mine_too, theirs, 1 / 50),
        row(subject, "scipy on the rows", ours, scipys, 1 / 5),
        row(subject, f"NumPy histograms of {BINS} bins", ours, histograms, 2.0),
        small(),
    ]


def by_scipy(reference: "Mapping[str, pd.Series]", current: "pd.DataFrame") -> dict[str, float]:
    """Compute Evidently's two statistics by scipy from the rows of both sides."""
    return {n: _distance(there, current[n]) for n, there in reference.items()}


def _distance(there: "pd.Series", now: "pd.Series") -> float:
    if there.dtype.kind == "f":
        was, is_ = (side.to_numpy()[np.isfinite(side.to_numpy())] for side in (there, now))
        return float(wasserstein_distance(was, is_) / max(was.std(), 0.001))
    return _of_shares(there.value_counts(normalize=True), now)


def _of_shares(shares: "pd.Series", now: "pd.Series") -> float:
    import pandas as pd

    return float(jensenshannon(*pd.concat([shares, now.value_counts(normalize=True)], axis=1).fillna(0).to_numpy().T))


def binned(column: "pd.Series") -> Any:
    """Return the stored form of a reference's column: range, shares of bins and spread of numbers, or shares of texts."""
    if column.dtype.kind != "f":
        return column.value_counts(normalize=True)
    values = column.to_numpy()
    span = float(np.nanmin(values)), float(np.nanmax(values))
    counts = np.histogram(values, BINS, span)[0]
    return span, np.cumsum(counts) / counts.sum(), max(float(np.nanstd(values)), 0.001)


def by_histograms(reference: Mapping[str, Any], current: "pd.DataFrame") -> dict[str, float]:
    """Compute the same from a histogram of the current rows over the stored range: the cheapest computation on rows."""
    scores = {}
    for name, stored in reference.items():
        if current[name].dtype.kind != "f":
            scores[name] = _of_shares(stored, current[name])
            continue
        (low, high), shares, spread = stored
        counts = np.histogram(current[name].to_numpy(), BINS, (low, high))[0]
        scores[name] = float(np.abs(shares - np.cumsum(counts) / counts.sum()).sum() * (high - low) / BINS / spread)
    return scores


def checked_columns(
    reference: "pd.DataFrame", current: "pd.DataFrame"
) -> "tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]":
    names = features(COLUMNS)
    return reference[names], current[names], model().config.features.categorical


def assert_same_scores(stored: Sketch, current: "pd.DataFrame", there: "Mapping[str, pd.Series]") -> None:
    """Check that our scores are scipy's.

    Raises:
        AssertionError: one differs by more than the bins of the sketches explain.
    """
    theirs = by_scipy(there, current)
    ours = {
        a.column: a.score for a in check_partition(stored, current).alarms if a.kind in ("wasserstein", "jensenshannon")
    }
    off = {n: (ours[n], theirs[n]) for n in theirs if abs(ours[n] - theirs[n]) > 0.002 + 0.02 * theirs[n]}
    assert not off, f"ours and scipy's: {off}"


def small() -> Row:
    """Compare on ten thousand rows of a month, imports and reading of files included."""
    with tempfile.TemporaryDirectory() as folder:
        reference, current = flights(SMALL, 0, ("2013-01",)), flights(SMALL, 1, ("2013-02",))
        names = [*features(COLUMNS), model().config.time]
        paths = {name: f"{folder}/{name}.parquet" for name in ("reference", "current", "stored")}
        reference[names].to_parquet(paths["reference"])
        current[names].to_parquet(paths["current"])
        to_frame(sketch_by_day(reference)).to_parquet(paths["stored"])
        ours, theirs = in_turns(
            in_new_process(OURS.format(**paths)), in_new_process(THEIRS.format(**paths)), rounds=ROUNDS, warm=False
        )
    return row(
        f"drift check, {COLUMNS} columns, 10k rows, imports included",
        "Evidently's preset, imports included",
        ours,
        theirs,
        1 / 5,
    )


OURS = """
import pandas as pd
from tasks.drift.sketch_file import from_frame
from benchmarks.checked import check_partition
check_partition(from_frame(pd.read_parquet({stored!r})), pd.read_parquet({current!r}))
"""
THEIRS = """
import pandas as pd
from benchmarks.preset import preset
words = ["origin", "carrier", "dest"]
sides = [pd.read_parquet(path).drop(columns="sched_dep") for path in ({reference!r}, {current!r})]
preset(*sides, words)
"""
