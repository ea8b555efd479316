"""Error rates of the gate: false promotions and power of its rules, by simulation, and what it refuses on real columns.

    python -m benchmarks gate

Two models have errors by day: on each day of a pool both have an error of that day, and outcomes are drawn from the
true probabilities. A holdout is days drawn from the pool, so the true mean gain is known exactly:

equal        the two are exchanged at random on each day: neither is better, and they are not the same
worse        one has larger errors; the margin of non-inferiority is exactly its true mean loss above the other
better by g  one has smaller errors, with a true mean gain of g

In the first table days are drawn at random. In the others they resemble their neighbours: their gains have the same distribution, and are
ordered by an AR(1) series with autocorrelation rho (a Gaussian copula).

The last table is of real flights, see `benchmarks/harm.py`.

Rates have their 95 % interval (Clopper and Pearson 1934). A false promotion rate is as stated when its interval reaches
down to the stated rate or below.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.signal import lfilter
from scipy.special import ndtr
from scipy.stats import binomtest

from benchmarks import harm
from configs.gate import Calibration, Gain, Gate, Segments
from configs.load import load_model
from configs.monitoring import Decay
from configs.schema import ModelConfig
from tasks.contracts import Comparison, Query, Scorecard, Segment
from tasks.lifecycle.gate import judge
from tasks.lifecycle.repeated_tests import confidence_of_test
from tasks.models import bootstrap
from tasks.models.bootstrap import mean_bounds, paired_gain
from tasks.models.dependence import Autocorrelation
from tasks.models.metrics import LEVEL, measure, row_loss
from tasks.steps.decay import judge_rise

STATED = 0.1
"""One minus the gate's confidence."""
DAYS, RUNS, WHOLE, TRIES = 6000, 2000, 500, 12
BLOCKS = (14, 30, 90)
RHOS, SERIES = (0.0, 0.3, 0.6, 0.9), 500
"""Autocorrelations of days, and simulated series for each."""
MOMENT = datetime(2013, 4, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pool:
    """Days that holdouts are drawn from: for each, the sum over its rows of one model's loss minus the other's, and its rows."""

    sums: np.ndarray
    rows: np.ndarray

    @property
    def gain(self) -> float:
        """The true mean gain of a holdout from the pool."""
        return float(self.sums.sum() / self.rows.sum())

    def mirrored(self) -> "Pool":
        """Return the pool with every day twice, once with the models exchanged: the true gain is 0."""
        return Pool(np.concatenate([self.sums, -self.sums]), np.tile(self.rows, 2))


def simulate(worse: float, rng: np.random.Generator, days: int = DAYS) -> Pool:
    """Return days with 50 to 400 rows. The second model's daily error has a standard deviation `worse` times the first's."""
    rows = rng.integers(50, 400, days)
    day: np.ndarray = np.repeat(np.arange(days), rows)
    truth = rng.normal(-1.2, 0.8, len(day)) + np.repeat(rng.normal(0, 0.4, days), rows)
    outcome = (rng.random(len(day)) < _p(truth)).astype(int)
    target = load_model("flights").config.target
    off: list[np.ndarray] = [np.repeat(rng.normal(0, 0.35 * scale, days), rows) for scale in (1.0, worse)]
    one, two = (row_loss(outcome, _p(truth + shift), target) for shift in off)
    return Pool(np.bincount(day, weights=two - one), rows.astype(float))


def _p(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def rate(pool: Pool, blocks: int, least: float, rng: np.random.Generator, runs: int = RUNS) -> Any:
    """Return how often the lower bound of a holdout's gain is above `least`, as a binomial test."""
    passed = 0
    for run in range(runs):
        drawn = rng.integers(0, len(pool.sums), blocks)
        passed += mean_bounds(pool.sums[drawn], pool.rows[drawn], 1 - STATED, 1000, run).lower > least
    return binomtest(passed, runs)


def with_interval(test: Any) -> str:
    """Return a rate in per cent with its 95 % interval."""
    low, high = test.proportion_ci(0.95)
    return f"{100 * test.statistic:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def whole_gate(rng: np.random.Generator) -> Any:
    """Return how often an equal change passes a gate like that of flights, as a binomial test."""
    config = load_model("flights").config.model_copy(update={"gate": LIKE_FLIGHTS})
    passed = sum(judge(_holdout(config, rng, run), config).passed for run in range(WHOLE))
    return binomtest(passed, WHOLE)


def repeated_tests(pool: Pool, rng: np.random.Generator, spend: bool) -> Any:
    """Return how often an equal change passes at least one of `TRIES` tests, each with 14 new days.

    Args:
        spend: Whether the days are pooled and the error rate is spent over the tests. If not, each test has its days and the whole rate.
    """
    passed = 0
    for run in range(SERIES):
        drawn = rng.integers(0, len(pool.sums), 14 * TRIES)
        for test in range(1, TRIES + 1):
            at = drawn[: 14 * test] if spend else drawn[14 * (test - 1) : 14 * test]
            confidence = confidence_of_test(1 - STATED, test) if spend else 1 - STATED
            if mean_bounds(pool.sums[at], pool.rows[at], confidence, 400, run).lower > 0:
                passed += 1
                break
    return binomtest(passed, SERIES)


LIKE_FLIGHTS = Gate(
    floor={"log_loss": 0.65},
    gain=Gain(confidence=1 - STATED, min_blocks=10),
    segments=Segments(columns=("origin",), min_rows=300, max_loss=0.02),
    calibration=Calibration(at_most=0.1),
)


def _holdout(config: ModelConfig, rng: np.random.Generator, seed: int) -> Comparison:
    """Simulate fourteen days of 200 rows in three segments, with errors by day of the same size for both models."""
    blocks: np.ndarray = np.repeat(np.arange(14), 200)
    segment = rng.integers(0, 3, 2800)
    truth = rng.normal(-1.2, 0.8, 2800) + rng.normal(0, 0.4, 14)[blocks]
    outcome = (rng.random(2800) < _p(truth)).astype(int)
    mine, theirs = (_p(truth + rng.normal(0, 0.35, 14)[blocks]) for _ in range(2))
    losses = [row_loss(outcome, predictions, config.target) for predictions in (theirs, mine)]

    def gain(at: np.ndarray) -> Any:
        return paired_gain(losses[0][at], losses[1][at], blocks[at], 1 - STATED, 1000, seed)

    cards = [
        Scorecard(n, 2800, measure(outcome, predictions, config.target))
        for n, predictions in (("2", mine), ("1", theirs))
    ]
    prior = Scorecard("prior", 2800, measure(outcome, np.full(2800, outcome.mean()), config.target))
    parts = tuple(Segment("origin", str(s), int((segment == s).sum()), 0.0, 0.0, gain(segment == s)) for s in range(3))
    return Comparison(
        cards[0], cards[1], prior, gain(np.full(2800, True)), 14, MOMENT, MOMENT,
        segments=parts, query=Query("", 5, 8, 400_000, 0.1, 1000),
    )  # fmt: skip


def draw_series(pool: Pool, rho: float, blocks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw days from the pool whose gains are ordered by an AR(1) series.

    Returns:
        Sums and rows by day, each `(SERIES, blocks)`.
    """
    noise = rng.normal(size=(SERIES, blocks))
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    order = np.argsort(pool.sums / pool.rows)
    at = order[(ndtr(lfilter([1], [1, -rho], noise, axis=1)) * len(order)).astype(int)]
    return pool.sums[at], pool.rows[at]


@contextmanager
def fixed_autocorrelation(r: float) -> Iterator[None]:
    """Compute bounds with this autocorrelation instead of the measured one; 0 stands for independent blocks."""
    known = Autocorrelation(np.array(r), np.arcsin(r), np.array(0.0))
    measured = vars(bootstrap)["lag_one"]
    vars(bootstrap)["lag_one"] = lambda deviations, rows: known
    try:
        yield
    finally:
        vars(bootstrap)["lag_one"] = measured


def series_rates(pool: Pool, rho: float, blocks: int, gain: float = 0.0) -> list[Any]:
    """Return how often the lower bound of the gain is above 0 if the true gain is `gain`, and how often the 95 % interval covers."""
    passed, covered, true = 0, 0, pool.gain
    for run, (sums, rows) in enumerate(
        zip(*draw_series(pool, rho, blocks, np.random.default_rng(blocks)), strict=True)
    ):
        passed += mean_bounds(sums + (gain - true) * rows, rows, 1 - STATED, 400, run).lower > 0
        bounds = mean_bounds(sums, rows, LEVEL, 400, run)
        covered += bounds.lower <= true <= bounds.upper
    return [binomtest(passed, SERIES), binomtest(covered, SERIES)]


def decay_rate(pool: Pool, rho: float) -> Any:
    """Return how often 30 days after a holdout of 30 days count as a decay although the loss is the same."""
    detected, (sums, rows) = 0, draw_series(pool, rho, 60, np.random.default_rng(60))
    for run in range(SERIES):
        then, now = (mean_bounds(sums[run, s], rows[run, s], LEVEL, 400, run) for s in (slice(30), slice(30, 60)))
        detected += judge_rise(now, then, 10_000, Decay(least=1e-9))["detected"]
    return binomtest(detected, SERIES)


def dependence_tables(pool: Pool, console: Console) -> None:
    """Print error rates, coverage and power for days that resemble their neighbours."""
    heads = [f"rho {rho:g}" for rho in RHOS]
    table = Table("days that resemble their neighbours", *heads, box=None, title_justify="left")
    table.title = "In %, with its 95 % interval, then as if days were independent"
    for blocks in BLOCKS:
        now = [series_rates(pool, rho, blocks) for rho in RHOS]
        with fixed_autocorrelation(0.0):
            before = [series_rates(pool, rho, blocks) for rho in RHOS]
        for name, at in ((f"false promotions, stated {STATED:.0%}", 0), ("coverage, stated 95 %", 1)):
            cells = [f"{with_interval(n[at])}, {100 * b[at].statistic:.0f}" for n, b in zip(now, before, strict=True)]
            table.add_row(f"{name}, {blocks} blocks", *cells)
    decays = [decay_rate(pool, rho) for rho in RHOS]
    with fixed_autocorrelation(0.0):
        independent = [decay_rate(pool, rho) for rho in RHOS]
    cells = [f"{with_interval(n)}, {100 * b.statistic:.0f}" for n, b in zip(decays, independent, strict=True)]
    table.add_row(f"false decay, stated {1 - LEVEL:.1%}, 30 v 30 blocks", *cells)
    console.print(table)
    console.print(power_table(pool))


def power_table(pool: Pool) -> Table:
    """Return how often a gain of 2.5 standard errors passes: with measured dependence, if rho is known, and as if days were independent."""
    heads = [f"rho {rho:g}" for rho in RHOS[:3]]
    table = Table("blocks", *heads, box=None, title_justify="left")
    table.title = "Power in %: measured / rho known / as if days were independent"
    for blocks in BLOCKS:
        cells = []
        for rho in RHOS[:3]:
            sums, rows = draw_series(pool, rho, blocks, np.random.default_rng(0))
            gain = 2.5 * float((sums.sum(axis=1) / rows.sum(axis=1)).std())
            rates = [series_rates(pool, rho, blocks, gain)[0].statistic]
            for known in (rho, 0.0):
                with fixed_autocorrelation(known):
                    rates.append(series_rates(pool, rho, blocks, gain)[0].statistic)
            cells.append(" / ".join(f"{100 * rate:.0f}" for rate in rates))
        table.add_row(str(blocks), *cells)
    return table


def report(console: Console) -> None:
    """Print the tables."""
    rng = np.random.default_rng(0)
    base, worse = simulate(1.0, rng), simulate(1.25, rng)
    equal, margin = base.mirrored(), worse.gain
    table = Table(
        f"one-sided {STATED:.0%}",
        *(f"{b} blocks" for b in BLOCKS),
        box=None,
        title="How often the gain rule passes",
        title_justify="left",
    )
    table.add_row("false: equal models, superiority", *(with_interval(rate(equal, b, 0.0, rng)) for b in BLOCKS))
    behind = Pool(-worse.sums, worse.rows)
    table.add_row(
        f"false: worse by the margin of {margin:.4f}", *(with_interval(rate(behind, b, -margin, rng)) for b in BLOCKS)
    )
    for scale in (1.1, 1.25, 1.5):
        better = simulate(scale, rng)
        table.add_row(
            f"power: better by {better.gain:.4f}", *(with_interval(rate(better, b, 0.0, rng)) for b in BLOCKS)
        )
    console.print(table)
    dependence_tables(equal, console)
    console.print(f"The whole gate passes an equal change on 14 blocks: {with_interval(whole_gate(rng))}")
    spent, each = (with_interval(repeated_tests(equal, rng, spend)) for spend in (True, False))
    console.print(
        f"An equal change passes at least one of {TRIES} tests: {spent}; without spending the error rate: {each}\n"
    )
    harm.report(console)
