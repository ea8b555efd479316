"""Error rates of the drift check: false alarms and power by simulation on a year of real flights, beside Evidently's preset.

    python -m benchmarks drift

First come the tables of `benchmarks/dependence.py`, which simulate days that resemble their neighbours. What follows
reads the twelve validated months that `make demo` leaves in the lake: every feature of model.yaml, not the prediction,
and no column by its season. A run draws 90 days as the reference and other days as the partition, of which it takes as
many rows as the heading of the table names. The check receives only the days and rows of its run. Days are drawn at
random, so they do not resemble their neighbours.

iid rows    rows of the whole year are assigned to days at random before: a day has no information
whole days  days stay as they were, and are drawn from the whole year at random: rows of a day stay together

In both nothing has changed, and every alarm is a false alarm. The reference has all rows of its days, about 900 each, so a
smaller partition has fewer rows per day, which must not count as drift. For detection rates, rows of a partition of whole
days are changed, and a change is detected when an alarm names its column. Several columns are changed at once, each in one
way. The row above has the rate at which the column is named when it is not changed.

Evidently's preset compares numbers by Wasserstein and the rest by Jensen-Shannon distance with 0.1 when a reference has
more than 1,000 rows. Here the two are computed by the same functions of scipy but from counts, for speed, and one run
is compared with the preset itself. "Any column" is our definition of an alarm; the preset's own is drift in half of the columns.

Rates have their 95 % interval (Clopper and Pearson 1934). The false alarm rate is as stated when its interval reaches
down to the stated rate or below.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest, wasserstein_distance

from benchmarks import dependence
from benchmarks.gate import with_interval
from benchmarks.preset import preset
from configs.monitoring import Method
from configs.schema import ModelConfig
from tasks.contracts import Stage
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.columns import cast_columns
from tasks.drift.sketches import KINDS, Column, Sketch, choose_grid, sketch
from tasks.resources import Resources, open_resources
from tasks.storage.blocks import block_names

if TYPE_CHECKING:
    import pandas as pd

MODEL, MONTHS, TRAILING = "flights", 12, 3
REFERENCE_DAYS = 90
SIZES: Mapping[int, int] = {50: 30, 200: 30, 1000: 30, 5000: 30, 50_000: 60}
"""Rows of a partition, and the days that they are drawn from."""
RUNS, CHANGED_RUNS, RESAMPLES = 200, 20, 400
"""Runs per false alarm rate, runs per detection rate, and permutations of a simulated check. Months use those of model.yaml."""
DIGITS = 3
"""Numbers are rounded to this many digits, which makes counting by day faster; sketches count each value by itself."""
FEW, LARGE, THRESHOLD, HALF = 5, 1000, 0.1, 0.5
"""Evidently's defaults: up to how many values a number is a category, above how many rows a reference is large, thresholds."""
UNSEEN = "??"


@dataclass(frozen=True)
class Rules:
    """The settings of model.yaml for comparing a partition."""

    methods: Mapping[str, Method]
    effects: Mapping[str, float]
    words: tuple[str, ...]
    alpha: float
    resamples: int


@dataclass(frozen=True)
class Coded:
    """A column of the year: its distinct values, ascending, and the position of each row's value among them, -1 for null."""

    values: np.ndarray
    at: np.ndarray
    grid: tuple[float, float]

    def count(self, rows: np.ndarray, block: np.ndarray, blocks: int) -> Column:
        """Return some rows as a column of a sketch, with their blocks."""
        position = self.at[rows]
        there = position >= 0
        flat = np.bincount(block[there] * len(self.values) + position[there], minlength=blocks * len(self.values))
        counts = flat.reshape(blocks, -1)
        used = counts.any(axis=0)
        other: np.ndarray = np.zeros((blocks, len(KINDS)), "int64")
        other[:, 0] = np.bincount(block[~there], minlength=blocks)
        return Column(self.values[used], counts[:, used], other, self.grid)


@dataclass(frozen=True)
class Year:
    """The rows of twelve months, the day and the month of each, counted from 0, and the columns' values as positions."""

    rows: "pd.DataFrame"
    day: np.ndarray
    month: np.ndarray
    coded: Mapping[str, Coded]

    def count(self, rows: np.ndarray, day: np.ndarray, side: str) -> Sketch:
        """Return the sketch of some rows with these days, as `sketch` makes it."""
        days, block = np.unique(day, return_inverse=True)
        columns = {name: c.count(rows, block, len(days)) for name, c in self.coded.items()}
        return Sketch(tuple(block_name(side, k) for k in days), np.bincount(block), columns)


def block_name(side: str, day: int) -> str:
    """Return a day's name, with its side."""
    return f"{side}{day:03d}"


def done_months(res: Resources) -> list[str]:
    """Return the first twelve validated partitions, or fewer if there are fewer."""
    records = [res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID)]
    return sorted(r.partition for r in records if r and r.status == "done")[:MONTHS]


def read_year(keys: Sequence[str], res: Resources) -> Year:
    import pandas as pd

    config = res.config
    parts = [res.lake.read(Stage.VALID, key, [config.time, *config.features.all]) for key in keys]
    read = pd.concat(parts, ignore_index=True)
    names = block_names(read[config.time], "D", config.partition.timezone)
    rows = cast_columns(read, config.features.all, config.features.categorical).round(DIGITS)
    coded = {name: _coded(rows[name]) for name in rows}
    month: np.ndarray = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Year(rows, np.unique(names, return_inverse=True)[1], month, coded)


def _coded(column: "pd.Series") -> Coded:
    import pandas as pd

    at, values = pd.factorize(column.to_numpy(), sort=True)
    return Coded(values, at, choose_grid(column.dropna().to_numpy()) if values.dtype == float else (0.0, 1.0))


def rules_of(config: ModelConfig) -> Rules:
    how, words = config.monitoring, config.features.categorical
    methods = {name: how.categorical if name in words else how.numeric for name in config.features.all}
    effects = {MISSING: how.missing, NEW: how.new_categories, OUTSIDE: how.outside}
    return Rules(methods, effects, words, how.alpha, how.resamples)


@dataclass(frozen=True)
class Draw:
    """The two sides of one run. `rows` are the partition's rows of the year, `day` the day that each is assigned to."""

    before: np.ndarray
    rows: np.ndarray
    day: np.ndarray
    reference: Sketch
    current: Sketch


def draw(year: Year, size: int, iid: bool, rng: np.random.Generator) -> Draw:
    """Draw disjoint days for both sides, and rows of those days. With `iid` the year's rows are permuted before."""
    days = rng.permutation(year.day.max() + 1)
    then, now = days[:REFERENCE_DAYS], days[REFERENCE_DAYS : REFERENCE_DAYS + SIZES[size]]
    assigned = rng.permutation(len(year.day)) if iid else np.arange(len(year.day))
    all_then, all_now = (np.flatnonzero(np.isin(year.day, side)) for side in (then, now))
    taken = np.sort(rng.choice(all_now, min(size, len(all_now)), replace=False))
    reference = year.count(assigned[all_then], year.day[all_then], "r")
    current = year.count(assigned[taken], year.day[taken], "c")
    return Draw(assigned[all_then], assigned[taken], year.day[taken], reference, current)


def ours(reference: Sketch, current: Sketch, rules: Rules, seed: int, resamples: int = RESAMPLES) -> Check:
    how, alpha = (rules.methods, rules.effects), rules.alpha
    result = check(reference, current, *how, alpha=alpha, resamples=resamples, seed=seed)
    if result.note:
        raise ValueError(result.note)
    return result


def drifted(result: Check) -> set[str]:
    """Return the columns that alarms name."""
    return {a.column for a in result.alarms if a.drifted}


def evidently(reference: Sketch, current: Sketch) -> set[str]:
    """Return the columns that Evidently's preset flags."""
    return {name for name, then in reference.columns.items() if _distance(then, current.columns[name]) >= THRESHOLD}


def _distance(then: Column, now: Column) -> float:
    """Return the preset's score of a column; NaN for a partition without a value, for which the preset fails.

    Raises:
        ValueError: the reference is so small that Evidently uses other statistics, which are not computed here.
    """
    before, after = then.total, now.total
    if before.sum() <= LARGE:
        raise ValueError(f"Evidently uses other statistics for a reference of {before.sum():.0f} rows")
    if not after.sum():
        return float("nan")
    values, at = np.unique(np.concatenate([then.values, now.values]), return_inverse=True)
    if then.numeric and len(values) > FEW:
        return float(wasserstein_distance(then.values, now.values, before, after) / max(spread(then), 0.001))
    shares = np.zeros((2, len(values)))
    shares[0, at[: len(before)]], shares[1, at[len(before) :]] = before, after
    return float(jensenshannon(*shares))


def spread(column: Column) -> float:
    """Return the standard deviation of a column of numbers."""
    return float(np.sqrt(np.cov(column.values, aweights=column.total, ddof=0)))


def assert_same_as_originals(year: Year, rules: Rules) -> None:
    """Check in one run that our sketches equal those of `sketch`, and Evidently's columns those of its preset.

    Raises:
        AssertionError: they differ.
    """
    drawn = draw(year, 1000, False, np.random.default_rng(0))
    rows, blocks = year.rows.iloc[drawn.rows], np.array([block_name("c", d) for d in drawn.day])
    expected = sketch(rows, blocks, list(year.coded), rules.words)
    assert expected.blocks == drawn.current.blocks, "days of a sketch"
    for name, column in expected.columns.items():
        counted = drawn.current.columns[name]
        same = np.array_equal(column.values, counted.values) and np.array_equal(column.counts, counted.counts)
        assert same, f"the sketch of {name}"
        assert np.array_equal(column.other, counted.other), f"the nulls of {name}"
    flagged, theirs = evidently(drawn.reference, drawn.current), preset(year.rows.iloc[drawn.before], rows, rules.words)
    assert flagged == theirs, f"Evidently's preset differs in {sorted(flagged ^ theirs)}"


Named = tuple[set[str], set[str]]
"""The columns that the alarms of one run name: ours and Evidently's."""


def unchanged(year: Year, rules: Rules, size: int, iid: bool) -> list[Named]:
    """Return the columns that are named in each run although nothing has changed."""
    runs = []
    for run in range(RUNS):
        drawn = draw(year, size, iid, np.random.default_rng([run, size, iid]))
        sides = drawn.reference, drawn.current
        runs.append((drifted(ours(*sides, rules, run)), evidently(*sides)))
    return runs


def false_alarm_table(runs: Mapping[tuple[bool, int], Sequence[Named]], rules: Rules) -> Table:
    half = HALF * len(rules.methods)
    definitions: dict[str, Callable[[set[str], set[str]], bool]] = {
        "ours": lambda mine, theirs: bool(mine),
        "Evidently, any column": lambda mine, theirs: bool(theirs),
        "Evidently, half of them": lambda mine, theirs: len(theirs) >= half,
    }
    table = _table(
        "nothing has changed",
        f"False alarms in %, stated {100 * rules.alpha:g} ({RUNS} runs, {RESAMPLES} permutations)",
    )
    for null, iid in (("iid rows", True), ("whole days", False)):
        for who, alarm in definitions.items():
            hits = [sum(alarm(*named) for named in runs[iid, size]) for size in SIZES]
            table.add_row(f"{null}: {who}", *(with_interval(binomtest(h, RUNS)) for h in hits))
    return table


def _table(head: str, title: str) -> Table:
    sizes = [f"{size:,} rows" for size in SIZES]
    return Table(head, *sizes, box=None, title=title, title_justify="left")


Alter = Callable[["pd.Series", Column, np.random.Generator], "pd.Series"]
"""A function that changes a partition's column; it receives the reference's column too."""


@dataclass(frozen=True)
class Change:
    """A change of one column of a partition."""

    column: str
    label: str
    alter: Alter


def shifted(column: str, by: float) -> Change:
    """Shift every number by this many standard deviations of the reference."""
    return Change(column, f"+ {by:g} deviations", lambda x, then, rng: x + by * spread(then))


def nulled(column: str, share: float) -> Change:
    """Set a share of all rows to null."""
    return Change(column, f"+ {share:.0%} nulls", lambda x, then, rng: x.mask(_some(x.notna(), share, rng)))


def moved(column: str, share: float) -> Change:
    """Change a share of all rows from other categories to the reference's most frequent one."""

    def alter(x: "pd.Series", then: Column, rng: np.random.Generator) -> "pd.Series":
        most = then.values[then.total.argmax()]
        return x.mask(_some(x != most, share, rng), most)

    return Change(column, f"{share:.0%} to one category", alter)


def unseen(column: str, share: float) -> Change:
    """Change a share of all rows to a category that the reference does not have."""
    return Change(column, f"{share:.0%} to a new one", lambda x, then, rng: x.mask(_some(x == x, share, rng), UNSEEN))


def _some(eligible: "pd.Series", share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose rows at random: `share` of all, among the eligible ones."""
    where = np.flatnonzero(eligible)
    chosen = rng.choice(where, min(len(where), round(share * len(eligible))), replace=False)
    return np.isin(np.arange(len(eligible)), chosen)


ROUNDS: tuple[tuple[Change, ...], ...] = (
    (shifted("distance", 0.1), shifted("temp", 0.1), nulled("pressure", 0.1), moved("carrier", 0.1)),
    (shifted("distance", 0.25), shifted("temp", 0.25), nulled("pressure", 0.3), moved("carrier", 0.25)),
    (shifted("distance", 0.5), shifted("temp", 0.5), unseen("carrier", 0.05)),
    (shifted("distance", 1.0), shifted("temp", 1.0)),
)
"""Changes that are made at once. Each is judged by its own column."""


def altered(drawn: Draw, year: Year, changes: Sequence[Change], rng: np.random.Generator) -> Sketch:
    """Return the sketch of the partition with its columns changed."""
    rows = year.rows.iloc[drawn.rows]
    new = {c.column: c.alter(rows[c.column], drawn.reference.columns[c.column], rng) for c in changes}
    words = [name for name in new if not drawn.reference.columns[name].numeric]
    blocks = np.array([block_name("c", d) for d in drawn.day])
    changed = sketch(rows[[]].assign(**new), blocks, list(new), words)
    return replace(drawn.current, columns={**drawn.current.columns, **changed.columns})


def detections(year: Year, rules: Rules, size: int) -> dict[Change, list[Named]]:
    """Return the columns that are named in each run of a change."""
    runs: dict[Change, list[Named]] = {change: [] for changes in ROUNDS for change in changes}
    for run in range(CHANGED_RUNS):
        rng = np.random.default_rng([run, size, 2])
        drawn = draw(year, size, False, rng)
        for changes in ROUNDS:
            sides = drawn.reference, altered(drawn, year, changes, rng)
            named = drifted(ours(*sides, rules, run)), evidently(*sides)
            for change in changes:
                runs[change].append(named)
    return runs


def detection_table(year: Year, rules: Rules, before: Mapping[tuple[bool, int], Sequence[Named]]) -> Table:
    """Return detection rates, below each column's rate when nothing has changed."""
    table = _table(
        "changed, whole days",
        f"How often an alarm names the column, in %: ours / Evidently's ({CHANGED_RUNS} runs, {RESAMPLES} permutations)",
    )
    changed = {size: detections(year, rules, size) for size in SIZES}
    for column in (change.column for change in ROUNDS[0]):
        table.add_row(f"{column}: unchanged", *(_both(before[False, size], column) for size in SIZES))
        for change in (c for changes in ROUNDS for c in changes if c.column == column):
            table.add_row(f"{column}: {change.label}", *(_both(changed[size][change], column) for size in SIZES))
    return table


def _both(runs: Sequence[Named], column: str) -> str:
    return " / ".join(f"{100 * np.mean([column in named[who] for named in runs]):.0f}" for who in (0, 1))


def month_lines(year: Year, rules: Rules) -> list[str]:
    """Count the real months that differ from the three before, and their columns."""
    counts = []
    for month in range(TRAILING, MONTHS):
        then, now = (year.month >= month - TRAILING) & (year.month < month), year.month == month
        reference, current = (year.count(np.flatnonzero(m), year.day[m], s) for m, s in ((then, "r"), (now, "c")))
        mine = drifted(ours(reference, current, rules, month, rules.resamples))
        counts.append((len(mine), len(evidently(reference, current))))
    return [
        f"{who}: {sum(n > 0 for n in columns)} of {len(columns)} months, {np.mean(columns):.1f} of {len(year.coded)} columns"
        for who, columns in zip(("ours", "Evidently"), zip(*counts, strict=True), strict=True)
    ]


def report(console: Console) -> None:
    """Print the tables."""
    dependence.report(console)
    res = open_resources(MODEL)
    keys = done_months(res)
    if len(keys) < MONTHS:
        console.print(f"{MODEL}: {len(keys)} of {MONTHS} months are validated; run `make demo` first", markup=False)
        return
    year, rules = read_year(keys, res), rules_of(res.config)
    assert_same_as_originals(year, rules)
    runs = {(iid, size): unchanged(year, rules, size, iid) for iid in (True, False) for size in SIZES}
    console.print(false_alarm_table(runs, rules))
    console.print(detection_table(year, rules, runs))
    console.print(f"Real changes, not false alarms: months that differ from the {TRAILING} before, and their columns")
    for line in month_lines(year, rules):
        console.print(f"  {line}", markup=False)
