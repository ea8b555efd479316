"""Error rates of the gate: false promotions and power of its gain rule, and of the whole gate, by simulation.

    python -m benchmarks gate

Two models have errors by day: on each day of a pool both have an error of that day, and outcomes are drawn from the
true probabilities. A holdout is days drawn from the pool, so the true mean gain is known exactly:

equal        the two are exchanged at random on each day: neither is better, and they are not the same
worse        one has larger errors; the margin of non-inferiority is exactly its true mean loss above the other
better by g  one has smaller errors, with a true mean gain of g

Rates have their 95 % interval (Clopper and Pearson 1934). A false promotion rate is as stated when its interval reaches
down to the stated rate or below.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from configs.gate import Calibration, Gain, Gate, Segments
from configs.load import load_model
from configs.schema import ModelConfig
from tasks.contracts import Comparison, Query, Scorecard, Segment
from tasks.lifecycle.gate import judge
from tasks.models.bootstrap import mean_bounds, paired_gain
from tasks.models.metrics import measure, row_loss

STATED = 0.1
"""One minus the gate's confidence."""
DAYS, RUNS, WHOLE, TRIES = 6000, 2000, 500, 12
BLOCKS = (14, 30, 90)
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


def whole_gate(rng: np.random.Generator) -> tuple[Any, Any]:
    """Return how often an equal challenger passes a gate like that of flights, once, and at least once in twelve holdouts."""
    config = load_model("flights").config.model_copy(update={"gate": LIKE_FLIGHTS})
    passed = [judge(_holdout(config, rng, run), config).passed for run in range(WHOLE)]
    tries = [any(rng.choice(passed, TRIES)) for _ in range(RUNS)]
    return binomtest(sum(passed), WHOLE), binomtest(sum(tries), RUNS)


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
    once, twelve = whole_gate(rng)
    console.print(f"The whole gate passes an equal challenger on 14 blocks: {with_interval(once)}")
    console.print(
        f"An equal challenger that is judged on {TRIES} new holdouts passes at least once: {with_interval(twelve)}"
    )
    console.print(
        "Each further judgement, on newer or the same rows, is another test: the verdict's note has their number."
    )
