"""How often the drift check is wrong: false alarms and power by simulation on a year of real flights, beside Evidently's preset.

    python -m benchmarks drift

Reads the twelve validated months that `make demo` leaves in the lake: every feature of model.yaml, not the prediction,
and no column by its season. A run draws 90 days as the reference and other days as the partition, of which it takes as
many rows as the table's head says; the check knows nothing but the days and rows of its own run.

iid rows    rows of the whole year are dealt to days anew before: a day carries no information
whole days  days stay as they were, but are drawn from the whole year at random: what happened on one stays together

In both nothing changed, and whatever is found is a false alarm. The reference has all rows of its days, some 900 each,
so that the smaller a partition the thinner are its days beside them: fewer rows are no drift of a column either.
Changes are made to the rows of a partition of whole days, and are found when an alarm names their column. Several columns
are changed at once, each of them in one way; the row above tells how often the column is named when it is not changed.

Evidently's preset compares numbers by Wasserstein and the rest by Jensen-Shannon distance with 0.1 when a reference has
more than 1,000 rows. Here the two are computed by the same functions of scipy but from counts, for speed, and one run
is held to the preset itself. "Any column" is what we call an alarm; its own headline is drift in half of the columns.

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

from benchmarks.gate import shown
from benchmarks.preset import preset
from configs.monitoring import Method
from configs.schema import ModelConfig
from tasks.contracts import Stage
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.columns import tidy
from tasks.drift.sketches import KINDS, Column, Sketch, grid_of, sketch
from tasks.resources import Resources, open_resources
from tasks.storage.blocks import block_names

if TYPE_CHECKING:
    import pandas as pd

MODEL, MONTHS, TRAILING = "flights", 12, 3
REFERENCE_DAYS = 90
SIZES: Mapping[int, int] = {50: 30, 200: 30, 1000: 30, 5000: 30, 50_000: 60}
"""Rows of a partition, and the days that they are drawn from."""
RUNS, CHANGED_RUNS, RESAMPLES = 200, 20, 400
"""Runs a false alarm rate, runs a detection rate, and deals of a simulated check. Months are checked with model.yaml's."""
DIGITS = 3
"""Numbers are rounded to so many: days count their values faster, and sketches count each value by itself."""
FEW, LARGE, MATTERS, HALF = 5, 1000, 0.1, 0.5
"""Evidently's defaults: numbers with so few values are categories, references are large above it, thresholds."""
UNSEEN = "??"


@dataclass(frozen=True)
class Rules:
    """How model.yaml says that a partition is compared."""

    methods: Mapping[str, Method]
    effects: Mapping[str, float]
    words: tuple[str, ...]
    alpha: float
    resamples: int


@dataclass(frozen=True)
class Coded:
    """A column of the year: its different values, ascending, and the position of each row's among them, -1 for null."""

    values: np.ndarray
    at: np.ndarray
    grid: tuple[float, float]

    def counted(self, rows: np.ndarray, block: np.ndarray, blocks: int) -> Column:
        """Some rows as a sketch's column, with the blocks that they are in."""
        found = self.at[rows]
        there = found >= 0
        flat = np.bincount(block[there] * len(self.values) + found[there], minlength=blocks * len(self.values))
        counts = flat.reshape(blocks, -1)
        used = counts.any(axis=0)
        other: np.ndarray = np.zeros((blocks, len(KINDS)), "int64")
        other[:, 0] = np.bincount(block[~there], minlength=blocks)
        return Column(self.values[used], counts[:, used], other, self.grid)


@dataclass(frozen=True)
class Year:
    """The rows of twelve months, the day and the month of each counted from 0, and their columns' values looked up once."""

    rows: "pd.DataFrame"
    day: np.ndarray
    month: np.ndarray
    coded: Mapping[str, Coded]

    def count(self, rows: np.ndarray, day: np.ndarray, side: str) -> Sketch:
        """What `sketch` makes of some rows with these days."""
        kept, block = np.unique(day, return_inverse=True)
        columns = {name: c.counted(rows, block, len(kept)) for name, c in self.coded.items()}
        return Sketch(tuple(block_name(side, k) for k in kept), np.bincount(block), columns)


def block_name(side: str, day: int) -> str:
    """A day's name, which tells the side."""
    return f"{side}{day:03d}"


def done_months(res: Resources) -> list[str]:
    """The first validated partitions, twelve or as many as there are."""
    records = [res.lake.record(Stage.VALID, key) for key in res.lake.keys(Stage.VALID)]
    return sorted(r.partition for r in records if r and r.status == "done")[:MONTHS]


def read_year(keys: Sequence[str], res: Resources) -> Year:
    import pandas as pd

    config = res.config
    parts = [res.lake.read(Stage.VALID, key, [config.time, *config.features.all]) for key in keys]
    read = pd.concat(parts, ignore_index=True)
    names = block_names(read[config.time], "D", config.partition.timezone)
    rows = tidy(read, config.features.all, config.features.categorical).round(DIGITS)
    coded = {name: _coded(rows[name]) for name in rows}
    month: np.ndarray = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Year(rows, np.unique(names, return_inverse=True)[1], month, coded)


def _coded(column: "pd.Series") -> Coded:
    import pandas as pd

    at, values = pd.factorize(column.to_numpy(), sort=True)
    return Coded(values, at, grid_of(column.dropna().to_numpy()) if values.dtype == float else (0.0, 1.0))


def rules_of(config: ModelConfig) -> Rules:
    how, words = config.monitoring, config.features.categorical
    methods = {name: how.categorical if name in words else how.numeric for name in config.features.all}
    effects = {MISSING: how.missing, NEW: how.new_categories, OUTSIDE: how.outside}
    return Rules(methods, effects, words, how.alpha, how.resamples)


@dataclass(frozen=True)
class Draw:
    """The two sides of one run; `rows` are the partition's in the year, `day` the day that each was dealt to."""

    before: np.ndarray
    rows: np.ndarray
    day: np.ndarray
    reference: Sketch
    current: Sketch


def draw(year: Year, size: int, iid: bool, rng: np.random.Generator) -> Draw:
    """Disjoint days for either side, and rows of those days; with `iid` the year's rows change places before."""
    days = rng.permutation(year.day.max() + 1)
    then, now = days[:REFERENCE_DAYS], days[REFERENCE_DAYS : REFERENCE_DAYS + SIZES[size]]
    dealt = rng.permutation(len(year.day)) if iid else np.arange(len(year.day))
    all_then, all_now = (np.flatnonzero(np.isin(year.day, side)) for side in (then, now))
    taken = np.sort(rng.choice(all_now, min(size, len(all_now)), replace=False))
    reference = year.count(dealt[all_then], year.day[all_then], "r")
    current = year.count(dealt[taken], year.day[taken], "c")
    return Draw(dealt[all_then], dealt[taken], year.day[taken], reference, current)


def ours(reference: Sketch, current: Sketch, rules: Rules, seed: int, resamples: int = RESAMPLES) -> Check:
    how, alpha = (rules.methods, rules.effects), rules.alpha
    found = check(reference, current, *how, alpha=alpha, resamples=resamples, seed=seed)
    if found.note:
        raise ValueError(found.note)
    return found


def drifted(found: Check) -> set[str]:
    """The columns that alarms name."""
    return {a.column for a in found.alarms if a.drifted}


def evidently(reference: Sketch, current: Sketch) -> set[str]:
    """The columns that Evidently's preset flags."""
    return {name for name, then in reference.columns.items() if _distance(then, current.columns[name]) >= MATTERS}


def _distance(then: Column, now: Column) -> float:
    """The preset's score of a column. NaN for a partition without a value, for which the preset has an error.

    Raises:
        ValueError: so short a reference is compared by tests, which are not done here.
    """
    before, after = then.total, now.total
    if before.sum() <= LARGE:
        raise ValueError(f"Evidently takes other statistics for a reference of {before.sum():.0f} rows")
    if not after.sum():
        return float("nan")
    values, at = np.unique(np.concatenate([then.values, now.values]), return_inverse=True)
    if then.numeric and len(values) > FEW:
        return float(wasserstein_distance(then.values, now.values, before, after) / max(spread(then), 0.001))
    shares = np.zeros((2, len(values)))
    shares[0, at[: len(before)]], shares[1, at[len(before) :]] = before, after
    return float(jensenshannon(*shares))


def spread(column: Column) -> float:
    """The standard deviation of a column of numbers."""
    return float(np.sqrt(np.cov(column.values, aweights=column.total, ddof=0)))


def hold_to_originals(year: Year, rules: Rules) -> None:
    """One run in which our sketches are those of `sketch`, and Evidently's columns those of its preset.

    Raises:
        AssertionError: they are not.
    """
    drawn = draw(year, 1000, False, np.random.default_rng(0))
    rows, blocks = year.rows.iloc[drawn.rows], np.array([block_name("c", d) for d in drawn.day])
    made = sketch(rows, blocks, list(year.coded), rules.words)
    assert made.blocks == drawn.current.blocks, "days of a sketch"
    for name, column in made.columns.items():
        counted = drawn.current.columns[name]
        same = np.array_equal(column.values, counted.values) and np.array_equal(column.counts, counted.counts)
        assert same, f"the sketch of {name}"
        assert np.array_equal(column.other, counted.other), f"the nulls of {name}"
    flagged, theirs = evidently(drawn.reference, drawn.current), preset(year.rows.iloc[drawn.before], rows, rules.words)
    assert flagged == theirs, f"Evidently's preset differs in {sorted(flagged ^ theirs)}"


Named = tuple[set[str], set[str]]
"""The columns that one run's alarms name, ours and Evidently's."""


def unchanged(year: Year, rules: Rules, size: int, iid: bool) -> list[Named]:
    """What is named in each run although nothing changed."""
    runs = []
    for run in range(RUNS):
        drawn = draw(year, size, iid, np.random.default_rng([run, size, iid]))
        sides = drawn.reference, drawn.current
        runs.append((drifted(ours(*sides, rules, run)), evidently(*sides)))
    return runs


def false_alarm_table(found: Mapping[tuple[bool, int], Sequence[Named]], rules: Rules) -> Table:
    half = HALF * len(rules.methods)
    asked: dict[str, Callable[[set[str], set[str]], bool]] = {
        "ours": lambda mine, theirs: bool(mine),
        "Evidently, any column": lambda mine, theirs: bool(theirs),
        "Evidently, half of them": lambda mine, theirs: len(theirs) >= half,
    }
    table = _table(
        "nothing changed",
        f"How often there is an alarm all the same, in %; stated {100 * rules.alpha:g} ({RUNS} runs, {RESAMPLES} deals)",
    )
    for null, iid in (("iid rows", True), ("whole days", False)):
        for who, alarm in asked.items():
            hits = [sum(alarm(*named) for named in found[iid, size]) for size in SIZES]
            table.add_row(f"{null}: {who}", *(shown(binomtest(h, RUNS)) for h in hits))
    return table


def _table(head: str, title: str) -> Table:
    sizes = [f"{size:,} rows" for size in SIZES]
    return Table(head, *sizes, box=None, title=title, title_justify="left")


Alter = Callable[["pd.Series", Column, np.random.Generator], "pd.Series"]
"""Changes a partition's column, given the reference's."""


@dataclass(frozen=True)
class Change:
    """What is done to one column of a partition."""

    column: str
    label: str
    alter: Alter


def shifted(column: str, by: float) -> Change:
    """Every number moves by so many standard deviations of the reference."""
    return Change(column, f"+ {by:g} deviations", lambda x, then, rng: x + by * spread(then))


def nulled(column: str, share: float) -> Change:
    """So many of all rows lose their value."""
    return Change(column, f"+ {share:.0%} nulls", lambda x, then, rng: x.mask(_some(x.notna(), share, rng)))


def moved(column: str, share: float) -> Change:
    """So many of all rows get the reference's most frequent category, from another."""

    def alter(x: "pd.Series", then: Column, rng: np.random.Generator) -> "pd.Series":
        most = then.values[then.total.argmax()]
        return x.mask(_some(x != most, share, rng), most)

    return Change(column, f"{share:.0%} to one category", alter)


def unseen(column: str, share: float) -> Change:
    """So many rows get a category that the reference does not have."""
    return Change(column, f"{share:.0%} to a new one", lambda x, then, rng: x.mask(_some(x == x, share, rng), UNSEEN))


def _some(able: "pd.Series", share: float, rng: np.random.Generator) -> np.ndarray:
    """Which rows: `share` of all, among those that are able."""
    where = np.flatnonzero(able)
    chosen = rng.choice(where, min(len(where), round(share * len(able))), replace=False)
    return np.isin(np.arange(len(able)), chosen)


ROUNDS: tuple[tuple[Change, ...], ...] = (
    (shifted("distance", 0.1), shifted("temp", 0.1), nulled("pressure", 0.1), moved("carrier", 0.1)),
    (shifted("distance", 0.25), shifted("temp", 0.25), nulled("pressure", 0.3), moved("carrier", 0.25)),
    (shifted("distance", 0.5), shifted("temp", 0.5), unseen("carrier", 0.05)),
    (shifted("distance", 1.0), shifted("temp", 1.0)),
)
"""Changes that are made at once. Each is judged by its own column."""


def altered(drawn: Draw, year: Year, changes: Sequence[Change], rng: np.random.Generator) -> Sketch:
    """The partition with its columns changed."""
    rows = year.rows.iloc[drawn.rows]
    new = {c.column: c.alter(rows[c.column], drawn.reference.columns[c.column], rng) for c in changes}
    words = [name for name in new if not drawn.reference.columns[name].numeric]
    blocks = np.array([block_name("c", d) for d in drawn.day])
    made = sketch(rows[[]].assign(**new), blocks, list(new), words)
    return replace(drawn.current, columns={**drawn.current.columns, **made.columns})


def detections(year: Year, rules: Rules, size: int) -> dict[Change, list[Named]]:
    """What is named in each run of a change."""
    found: dict[Change, list[Named]] = {change: [] for changes in ROUNDS for change in changes}
    for run in range(CHANGED_RUNS):
        rng = np.random.default_rng([run, size, 2])
        drawn = draw(year, size, False, rng)
        for changes in ROUNDS:
            sides = drawn.reference, altered(drawn, year, changes, rng)
            named = drifted(ours(*sides, rules, run)), evidently(*sides)
            for change in changes:
                found[change].append(named)
    return found


def detection_table(year: Year, rules: Rules, before: Mapping[tuple[bool, int], Sequence[Named]]) -> Table:
    """Detection rates, under each column's rate when nothing changed."""
    table = _table(
        "changed, whole days",
        f"How often an alarm names the column, in %: ours / Evidently's ({CHANGED_RUNS} runs, {RESAMPLES} deals)",
    )
    found = {size: detections(year, rules, size) for size in SIZES}
    for column in (change.column for change in ROUNDS[0]):
        table.add_row(f"{column}: unchanged", *(_both(before[False, size], column) for size in SIZES))
        for change in (c for changes in ROUNDS for c in changes if c.column == column):
            table.add_row(f"{column}: {change.label}", *(_both(found[size][change], column) for size in SIZES))
    return table


def _both(runs: Sequence[Named], column: str) -> str:
    return " / ".join(f"{100 * np.mean([column in named[who] for named in runs]):.0f}" for who in (0, 1))


def month_lines(year: Year, rules: Rules) -> list[str]:
    """How many real months differ from the three before, and in how many columns."""
    counts = []
    for month in range(TRAILING, MONTHS):
        then, now = (year.month >= month - TRAILING) & (year.month < month), year.month == month
        reference, current = (year.count(np.flatnonzero(m), year.day[m], s) for m, s in ((then, "r"), (now, "c")))
        mine = drifted(ours(reference, current, rules, month, rules.resamples))
        counts.append((len(mine), len(evidently(reference, current))))
    return [
        f"{who}: {sum(n > 0 for n in found)} of {len(found)} months, {np.mean(found):.1f} of {len(year.coded)} columns"
        for who, found in zip(("ours", "Evidently"), zip(*counts, strict=True), strict=True)
    ]


def report(console: Console) -> None:
    """Print the tables."""
    res = open_resources(MODEL)
    keys = done_months(res)
    if len(keys) < MONTHS:
        console.print(f"{MODEL}: {len(keys)} of {MONTHS} months are validated; run `make demo` first", markup=False)
        return
    year, rules = read_year(keys, res), rules_of(res.config)
    hold_to_originals(year, rules)
    found = {(iid, size): unchanged(year, rules, size, iid) for iid in (True, False) for size in SIZES}
    console.print(false_alarm_table(found, rules))
    console.print(detection_table(year, rules, found))
    console.print(f"Change, not false alarms: real months that differ from the {TRAILING} before, and their columns")
    for line in month_lines(year, rules):
        console.print(f"  {line}", markup=False)
