"""Error rates of the drift check for blocks of time that resemble their neighbours, and its power, by simulation.

    python -m benchmarks drift

Each column has a daily level, an AR(1) series with autocorrelation rho, and rows around it. Nothing changes, so every alarm is false.
The numbers of blocks are those of a quarter against a month, of two months against a week, and of two weeks of hours against a day.

For power, the level of the first column changes. Beside the check stand two others: the same check without measured dependence,
and one that knows the process: its threshold is the quantile of scores that were simulated without a change.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from benchmarks.gate import with_interval
from configs.monitoring import Method
from tasks.drift import alarms
from tasks.drift.alarms import MISSING, NEW, OUTSIDE, Check, check
from tasks.drift.scores import score
from tasks.drift.signals import signals_of
from tasks.drift.sketches import Column, Sketch
from tasks.models.dependence import GRID, variance_of_sum

ALPHA, RESAMPLES, ROWS = 0.05, 400, 40
RHOS = (0.0, 0.3, 0.6, 0.9)
SETTINGS = ((90, 30, "days"), (60, 7, "days"), (336, 24, "hours"))
RUNS = {1: 400, 10: 400, 50: 200}
"""Runs by number of columns."""
POWER_RUNS, BEFORE_RUNS, KNOWN_COLUMNS = 200, 50, 20_000
LEVEL_STD, BINS, ENDS = 0.5, 12, 1.8
METHOD = Method(method="wasserstein", threshold=1e-6)
"""The effect size is so small that it prevents no alarm."""


def ar1(rng: np.random.Generator, series: int, blocks: int, rho: float) -> np.ndarray:
    """Draw AR(1) series with variance 1, `(series, blocks)`."""
    noise = rng.normal(size=(series, blocks))
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1], [1, -rho], noise, axis=1))


def sketch_levels(levels: np.ndarray, rng: np.random.Generator) -> Sketch:
    """Draw rows around daily levels `(columns, blocks)`, and count them in bins. The outermost bins have all larger values."""
    edges = np.linspace(-ENDS, ENDS, BINS + 1)[1:-1]
    below = ndtr(edges - levels[..., None])
    shares = np.diff(below, axis=-1, prepend=0.0, append=1.0)
    counts = rng.multinomial(ROWS, shares)
    middles = np.linspace(-ENDS, ENDS, BINS)
    other: np.ndarray = np.zeros((levels.shape[1], 3), "int64")
    columns = {f"c{at:03d}": Column(middles, by_block, other) for at, by_block in enumerate(counts)}
    return Sketch(tuple(f"{t:05d}" for t in range(levels.shape[1])), np.full(levels.shape[1], ROWS), columns)


def run_check(levels: np.ndarray, n_reference: int, seed: int) -> Check:
    """Check the last blocks of simulated levels against the first ones."""
    pooled = sketch_levels(levels, np.random.default_rng([seed, 1]))
    sides = pooled.select_blocks(range(n_reference)), pooled.select_blocks(range(n_reference, levels.shape[1]))
    effects = {MISSING: 1.1, NEW: 1.1, OUTSIDE: 1.1}
    return check(*sides, dict.fromkeys(pooled.columns, METHOD), effects, alpha=ALPHA, resamples=RESAMPLES, seed=seed)


@contextmanager
def as_if_independent() -> Iterator[None]:
    """Check without measured dependence: blocks count as exchangeable."""
    measured: Callable[..., Any] = vars(alarms)["dependent_signals"]
    vars(alarms)["dependent_signals"] = lambda sides, methods, effects, seed: signals_of(sides, methods, effects)
    try:
        yield
    finally:
        vars(alarms)["dependent_signals"] = measured


def shift_size(rho: float, columns: int, n_reference: int, n_current: int) -> float:
    """Return a change of the level that a test which knows the process detects in somewhat more than half of the runs."""
    variances = [
        np.interp(rho, GRID, variance_of_sum(np.ones(n), GRID)) * LEVEL_STD**2 / n**2 + 1 / ROWS / n
        for n in (n_reference, n_current)
    ]
    return float((0.5 - ndtri((1 - (1 - ALPHA) ** (1 / columns)) / 2)) * np.sqrt(np.sum(variances)))


def simulate(rho: float, columns: int, blocks: tuple[int, int], runs: int, shift: float = 0.0) -> list[Check]:
    """Check simulated columns. The first one's level changes by `shift`."""
    checks = []
    for run in range(runs):
        levels = LEVEL_STD * ar1(np.random.default_rng([run, columns, blocks[1]]), columns, sum(blocks), rho)
        levels[0, blocks[0] :] += shift
        checks.append(run_check(levels, blocks[0], run))
    return checks


def false_alarms(checks: Sequence[Check]) -> str:
    return with_interval(binomtest(sum(any(a.drifted for a in c.alarms) for c in checks), len(checks)))


def named(checks: Sequence[Check]) -> float:
    """Return how often an alarm names the first column, in per cent."""
    return 100 * float(np.mean([any(a.drifted and a.column == "c000" for a in c.alarms) for c in checks]))


def known_bound(rho: float, columns: int, blocks: tuple[int, int]) -> float:
    """Return the score that any of the columns reaches with probability `ALPHA` if nothing changes, from simulated columns."""
    rng, scores = np.random.default_rng(7), []
    for _ in range(KNOWN_COLUMNS // 1000):
        pooled = sketch_levels(LEVEL_STD * ar1(rng, 1000, sum(blocks), rho), rng)
        counts = np.stack([c.counts for c in pooled.columns.values()])
        sides = counts[:, : blocks[0]].sum(axis=1), counts[:, blocks[0] :].sum(axis=1)
        scores.append(score(METHOD.method, pooled.columns["c000"].values, *sides))
    return float(np.quantile(np.concatenate(scores), (1 - ALPHA) ** (1 / columns)))


def power_cell(rho: float, columns: int) -> str:
    """Return power: of the check, of a test that knows the process, and of the check as if days were independent."""
    blocks = SETTINGS[0][:2]
    shift = shift_size(rho, columns, *blocks)
    changed = simulate(rho, columns, blocks, POWER_RUNS, shift)
    bound = known_bound(rho, columns, blocks)
    known = 100 * np.mean([c.alarms[0].score >= bound for c in changed])
    with as_if_independent():
        before = named(simulate(rho, columns, blocks, POWER_RUNS, shift))
    return f"{named(changed):.0f} / {known:.0f} / {before:.0f}"


def report(console: Console) -> None:
    """Print a table of false alarms for each number of blocks, and one of power."""
    heads = [f"rho {rho:g}" for rho in RHOS]
    power = Table("columns", *heads[:3], box=None, title_justify="left")
    power.title = "Power in %, 90 v 30 days: the check / a test that knows the process / as if days were independent"
    console.print(
        f"False alarms in %, stated {100 * ALPHA:g}, with the 95 % interval, then as if days were independent"
    )
    for n_reference, n_current, unit in SETTINGS:
        blocks = n_reference, n_current
        rates = Table(f"{n_reference} v {n_current} {unit}", *heads, box=None)
        for columns, runs in RUNS.items():
            checks = {rho: simulate(rho, columns, blocks, runs if rho < 0.9 else runs // 2) for rho in RHOS}
            with as_if_independent():
                before = {rho: simulate(rho, columns, blocks, BEFORE_RUNS) for rho in RHOS}
            cells = [f"{false_alarms(checks[r])}, {false_alarms(before[r]).split()[0]}" for r in RHOS]
            rates.add_row(f"{columns} column{'s' if columns > 1 else ''}", *cells)
            if blocks == SETTINGS[0][:2]:
                power.add_row(str(columns), *(power_cell(rho, columns) for rho in RHOS[:3]))
        console.print(rates)
        if blocks == SETTINGS[0][:2]:
            console.print(power)
