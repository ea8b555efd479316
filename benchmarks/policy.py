"""How good the retraining times of a policy were, in hindsight: its schedule among all schedules of the demo's year.

    python -m benchmarks policy

Reads the twelve validated and labelled months that `make demo` leaves in the lake, and runs every training that a policy
could have started: as of the end of each month from the third to the last but one, on all months up to there. The third
month's refit is the first champion. A version that passes the gate is champion from the next month on. A month is judged
by its champion's log loss, and a year by the mean over its judged months.

A schedule is the set of months at which it retrains. All 2^8 schedules are simulated, with the gate and without. The best
one is known only afterwards, and is chosen on the days that it is measured on, so it is an upper bound.

As in production: the windows, the fits, the calibration, and every rule of the gate that uses data. Left out:

- load-and-query, latency and size, which count as passed;
- the linear baseline, which takes longer than all the rest, so the best candidate of model.yaml always goes to the gate;
- shadow mode and approvals, cool-down and budget, and the rollback of a champion that hurt.

Eighteen models are fitted once, which takes some minutes. Then the predictions are kept in the home folder.
"""

import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect.logging import disable_run_logger
from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import ModelConfig
from tasks.contracts import Comparison, GateDecision, Interval, Query, Recipe, Scorecard, Stage, Window
from tasks.errors import EvergreenError, GateRefused, MissingPartition
from tasks.lifecycle.gate import judge, judge_refit
from tasks.models.bootstrap import block_sums, mean_bounds, paired_gain
from tasks.models.features import predict
from tasks.models.metrics import LEVEL, measure, row_loss
from tasks.models.targets import outcomes, predict_prior, prior_of
from tasks.resources import Resources, open_resources
from tasks.storage.blocks import labelled_blocks
from tasks.storage.files import digest_json, replacing
from tasks.storage.partitions import between
from tasks.training.evaluation import NO_CHAMPION, measure_gap, measure_segments
from tasks.training.fit import fit_recipe, training_ends
from tasks.training.selection import search, with_calibration
from tasks.training.splits import time_splits
from tasks.training.window import locate_window, read_rows

if TYPE_CHECKING:
    import pandas as pd

MODEL = "flights"
MONTHS, FIRST = 12, 2
"""Partitions of the year, and the position of the one whose training makes the first champion."""
EXAMPLES: Mapping[str, tuple[int, ...]] = {
    "never": (),
    "once, half-way": (4,),
    "every 3rd month": (3, 6),
    "every 2nd month": (2, 4, 6, 8),
    "every month": tuple(range(1, 9)),
}
"""Schedules by the calendar, to compare a policy with: months after the first champion's."""
RANDOM, SEED, RESAMPLES = 1000, 0, 1000
VERSION = 1
"""Version of the cached file. Raise it when the code that fits or predicts changes."""
SOUND = Query("", 0.0, 0.0, 1, 0.0, 0)
"""Stands for the load-and-query check and its budgets, which are not measured here."""


@dataclass(frozen=True)
class Trained:
    """The result of a training as of one month's end: the version that is judged, and its refit on window and holdout."""

    window: Window
    prior: tuple[float, ...]
    judged: Any
    refit: Any


@dataclass(frozen=True)
class Year:
    """All that the simulation of a schedule needs. Trainings and judged months count from 0; training k precedes month k.

    `sums[j, d]` is the summed loss on day d of the refit of training j, NaN where it was not made yet; `rows` and
    `month` are the labelled rows of each day and its judged month. `passes[j, k]` is True if the gate lets training k
    replace the champion of training j; `refusals` counts such pairs by the rule that refuses.
    """

    trainings: tuple[str, ...]
    judged: tuple[str, ...]
    sums: np.ndarray
    rows: np.ndarray
    month: np.ndarray
    passes: np.ndarray
    refusals: Mapping[str, int]

    @property
    def choices(self) -> range:
        """Trainings that a schedule may start; the first is always run."""
        return range(1, len(self.trainings))

    @functools.cached_property
    def monthly(self) -> np.ndarray:
        """Mean loss of each training's refit on each judged month."""
        parts = [self.month == m for m in range(len(self.judged))]
        return np.column_stack([self.sums[:, at].sum(axis=1) / self.rows[at].sum() for at in parts])

    @functools.cached_property
    def losses(self) -> Mapping[tuple[int, ...], float]:
        """The year's loss of every schedule, with the gate."""
        return {schedule: self.loss(champions_of(self, schedule)) for schedule in schedules(self)}

    def loss(self, champions: Sequence[int]) -> float:
        """Return the mean over the judged months, each by its champion, with equal weights of months."""
        return float(self.monthly[champions, np.arange(len(champions))].mean())

    def by_rows(self, champions: Sequence[int]) -> float:
        """Return the same, with equal weights of rows."""
        return float(self.by_day(champions).sum() / self.rows.sum())

    def by_day(self, champions: Sequence[int]) -> np.ndarray:
        """Return the summed loss of each day by its month's champion."""
        return self.sums[np.asarray(champions)[self.month], np.arange(len(self.month))]


@dataclass(frozen=True)
class Standing:
    """How well the months of some retrainings were chosen, with the gate. Losses are means over the judged months.

    `share` is of the gain of the best schedule with as many retrainings, NaN where that is not above 0.
    `percentile` is the share of random schedules with as many retrainings that do worse, in per cent; ties count half.
    """

    months: tuple[str, ...]
    champions: tuple[str, ...]
    """The month of the training that each judged month's champion comes from."""
    loss: float
    gain: Interval
    """Over never retraining, with a 95 % interval; days are blocks. The interval covers the variation of days only."""
    loss_by_rows: float
    gain_by_rows: float
    share: float
    percentile: float

    @property
    def count(self) -> int:
        """How many retrainings, refused ones among them."""
        return len(self.months)


# Predictions


def year_of(res: Resources) -> list[str]:
    """Return the first twelve partitions that have valid rows and labels.

    Raises:
        MissingPartition: there are fewer, or one is missing between them.
    """
    records = {s: [res.lake.record(s, key) for key in res.lake.keys(s)] for s in (Stage.VALID, Stage.LABELS)}
    done = [{r.partition for r in of_stage if r and r.status == "done"} for of_stage in records.values()]
    keys = sorted(set.intersection(*done))[:MONTHS]
    if len(keys) < MONTHS or keys != [ref.key for ref in between(res.config, keys[0], keys[-1])]:
        raise MissingPartition(
            f"{MODEL}: {len(done[0])} validated and {len(done[1])} labelled partitions in {res.lake.root}, "
            f"but {MONTHS} in a row are needed; run `make demo` first"
        )
    return keys


def choose(rows: "pd.DataFrame", end: Any, res: Resources) -> Recipe:
    """Return the best candidate of model.yaml on the validation splits before `end`, calibrated where that helps."""
    splits = time_splits(rows, end, res.config)
    with disable_run_logger():
        tried = [search(name, candidate, splits, res) for name, candidate in res.config.training.candidates.items()]
    best, predictions = min(tried, key=lambda trial: trial[0].loss)
    return with_calibration(best, predictions, res).recipe


def train(key: str, res: Resources) -> Trained:
    """Run the training as of a partition's end and label delay, as `lifecycle/train_and_judge.py` does."""
    config, window = res.config, locate_window(res, res.ref(key).as_of)
    until, _ = training_ends("challenger", window, res)
    rows = read_rows(res, window, window.start, until)
    recipe = choose(rows, until, res)
    judged = refit = fit_recipe(recipe, rows, until, res)
    if config.training.refit != "none":
        until, _ = training_ends("refit", window, res)
        refit = fit_recipe(recipe, read_rows(res, window, window.start, until), until, res)
    return Trained(window, prior_of(outcomes(rows, config.target), config.target), judged, refit)


def holdout_of(key: str, res: Resources) -> "tuple[Window, pd.DataFrame]":
    """Return the window of a training, and its labelled holdout."""
    window = locate_window(res, res.ref(key).as_of)
    return window, read_rows(res, window, window.holdout_start, window.end)


def predictions_and_losses(keys: Sequence[str], res: Resources) -> Iterator[tuple[str, np.ndarray]]:
    """Fit all models; yield predictions of the holdouts, and losses by day of the judged months, with their names."""
    trainings = [train(key, res) for key in keys[FIRST:-1]]
    for k, key in enumerate(keys[FIRST:-1]):
        _, rows = holdout_of(key, res)
        yield f"prior {k}", np.array(trainings[k].prior)
        yield f"judged {k}", predict(trainings[k].judged, rows, res.config)
        for j in range(k + 1):
            yield f"holdout {k} by {j}", predict(trainings[j].refit, rows, res.config)
    for m, key in enumerate(keys[FIRST + 1 :]):
        yield from _daily_losses(m, key, trainings[: m + 1], res)


def _daily_losses(m: int, key: str, trainings: Sequence[Trained], res: Resources) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the summed losses of some refits on each day of a month, on the rows whose outcome was known as of its moment."""
    config, ref = res.config, res.ref(key)
    rows = read_rows(res, locate_window(res, ref.as_of), ref.start, ref.end)
    outcome, days = outcomes(rows, config.target), labelled_blocks(rows, config)
    yield f"rows {m}", block_sums(np.ones(len(rows)), days)[1]
    for j, trained in enumerate(trainings):
        loss = row_loss(outcome, predict(trained.refit, rows, config), config.target)
        yield f"month {m} by {j}", block_sums(loss, days)[0]


def cache_file(keys: Sequence[str], res: Resources) -> Path:
    """Return the file of the predictions, named by the digest of its inputs: rows, labels, config, threads, libraries."""
    data = [res.lake.done(stage, key).digest for stage in (Stage.VALID, Stage.LABELS) for key in keys]
    parts = ("partition", "key", "time", "target", "features", "training")
    config = res.config.model_dump(mode="json", include=set(parts)) | {"gain": res.config.gate.gain.model_dump()}
    libraries = [version(name) for name in ("numpy", "pandas", "scikit-learn", "xgboost")]
    digest = digest_json([VERSION, list(keys), data, config, res.settings.threads, libraries])
    return res.settings.path(res.settings.home) / "benchmarks" / f"policy-{digest[:16]}.npz"


def load_predictions(keys: Sequence[str], res: Resources) -> dict[str, np.ndarray]:
    """Return the predictions from the file. If it is not there, fit the models and write it."""
    path = cache_file(keys, res)
    if not path.is_file():
        # Threads that wait by spinning double the time on shared cores. The variable is read when xgboost is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        arrays: dict[str, Any] = dict(predictions_and_losses(keys, res))
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(path) as kept:
        return {name: kept[name] for name in kept.files}


# The gate


def compare(
    k: int, j: int | None, arrays: Mapping[str, np.ndarray], at: np.ndarray, rows: "pd.DataFrame", res: Resources
) -> Comparison:
    """Compare training k's judged version with the refit of training j, or with none, on the holdout rows `at`.

    As `evaluation.compare_versions`, but with predictions instead of registered versions, and scorecards without intervals.
    """
    config, target = res.config, res.config.target
    rows = rows[at].reset_index(drop=True)
    outcome, blocks = outcomes(rows, target), labelled_blocks(rows, config)
    base = predict_prior(tuple(arrays[f"prior {k}"]), len(rows), target)
    mine, theirs = arrays[f"judged {k}"][at], None if j is None else arrays[f"holdout {k} by {j}"][at]

    def card(predictions: np.ndarray) -> Scorecard:
        return Scorecard("", len(rows), measure(outcome, predictions, target))

    loss, champion_loss = row_loss(outcome, mine, target), None if theirs is None else row_loss(outcome, theirs, target)
    gain, why = _gain(champion_loss, loss, blocks, config)
    return Comparison(
        card(mine), None if theirs is None else card(theirs), card(base), gain,
        len(np.unique(blocks)), rows[config.time].min(), rows[config.time].max(), why,
        segments=tuple(measure_segments(rows, loss, champion_loss, blocks, config)),
        fairness=tuple(measure_gap(rule, rows, outcome, mine, config) for rule in config.gate.fairness),
        query=SOUND,
    )  # fmt: skip


def _gain(
    theirs: np.ndarray | None, mine: np.ndarray, blocks: np.ndarray, config: ModelConfig
) -> tuple[Interval | None, str]:
    """Return the gain over the champion, or the reason why there is none."""
    rule = config.gate.gain
    if theirs is None:
        return None, NO_CHAMPION
    if len(mine) < config.gate.min_rows or len(np.unique(blocks)) < rule.min_blocks:
        return None, "too few rows or blocks"
    return paired_gain(theirs, mine, blocks, rule.confidence, rule.resamples, config.training.seed), ""


def decide(
    k: int,
    j: int | None,
    arrays: Mapping[str, np.ndarray],
    holdouts: "Sequence[tuple[Window, pd.DataFrame]]",
    res: Resources,
) -> GateDecision:
    """Return the gate's decision on training k with the champion of training j, and on its refit.

    Rows that the champion had learned from do not count, as in `evaluation.evaluation_start`.
    """
    window, rows = holdouts[k]
    start = window.holdout_start if j is None else max(window.holdout_start, holdouts[j][0].end)
    at = (rows[res.config.time] >= start).to_numpy()
    decision = judge(compare(k, j, arrays, at, rows, res), res.config)
    if not decision.passed or res.config.training.refit == "none":
        return decision
    moved = np.abs(arrays[f"holdout {k} by {k}"][at] - arrays[f"judged {k}"][at]).mean()
    return judge_refit(SOUND, float(moved), decision, "", res.config)


@functools.cache
def load_year() -> Year:
    """Return the year in the lake of the environment, cached per process. Takes some minutes without a cached file.

    Raises:
        MissingPartition: the lake has no whole year; run `make demo`.
        GateRefused: the gate refuses the first champion.
        EvergreenError: the lake's rows cannot be read or learned from.
    """
    res = open_resources(MODEL)
    keys = year_of(res)
    return assemble(keys, load_predictions(keys, res), res)


def assemble(keys: Sequence[str], arrays: Mapping[str, np.ndarray], res: Resources) -> Year:
    """Judge every pair of a champion and a later training by the gate, and concatenate the days."""
    trainings, judged = tuple(keys[FIRST:-1]), tuple(keys[FIRST + 1 :])
    count = len(trainings)
    holdouts = [holdout_of(key, res) for key in trainings]
    first = decide(0, None, arrays, holdouts, res)
    if not first.passed:
        raise GateRefused(f"{MODEL}: the gate refuses the first champion: {'; '.join(first.reasons)}")
    passes: np.ndarray = np.zeros((count, count), dtype=bool)
    refusals = Counter[str]()
    for j, k in combinations(range(count), 2):
        decision = decide(k, j, arrays, holdouts, res)
        passes[j, k] = decision.passed
        refusals.update(v.rule for v in decision.verdicts if not v.passed)
    rows = [arrays[f"rows {m}"] for m in range(count)]
    nothing = [np.full(len(part), np.nan) for part in rows]
    sums = [[arrays.get(f"month {m} by {j}", nothing[m]) for m in range(count)] for j in range(count)]
    month: np.ndarray = np.repeat(np.arange(count), [len(part) for part in rows])
    days = np.array([np.concatenate(parts) for parts in sums])
    return Year(trainings, judged, days, np.concatenate(rows), month, passes, refusals)


# Schedules


def schedules(year: Year) -> Iterator[tuple[int, ...]]:
    """Yield every set of trainings that a policy could start, the smallest first."""
    for count in range(len(year.choices) + 1):
        yield from combinations(year.choices, count)


def champions_of(year: Year, schedule: Sequence[int], gated: bool = True) -> list[int]:
    """Return the champion of each judged month, as the number of its training."""
    champion, champions = 0, []
    for k in range(len(year.judged)):
        if k in schedule and (not gated or year.passes[champion, k]):
            champion = k
        champions.append(champion)
    return champions


def gain_over_never(year: Year, champions: Sequence[int]) -> Interval:
    """Return how much lower the year's loss is than with the first champion all year. Days are blocks, months have equal weights.

    A day's sum and rows are both divided by its month's rows, so that the ratio of their sums is the mean over months.
    """
    saved = year.by_day([0] * len(champions)) - year.by_day(champions)
    whole = np.bincount(year.month, weights=year.rows)[year.month]
    return mean_bounds(saved / whole, year.rows / whole, LEVEL, RESAMPLES, SEED)


def percentile(year: Year, schedule: tuple[int, ...]) -> float:
    """Return the share, in per cent, of random schedules with as many retrainings that do worse; ties count half."""
    rng, own = np.random.default_rng(SEED), year.losses[schedule]
    drawn = (rng.choice(year.choices, len(schedule), replace=False) for _ in range(RANDOM))
    others = np.array([year.losses[tuple(sorted(map(int, picked)))] for picked in drawn])
    return float(100 * ((others > own).mean() + (others == own).mean() / 2))


def rank(year: Year, schedule: tuple[int, ...]) -> Standing:
    """Compare a schedule with all others that have as many retrainings."""
    champions, never = champions_of(year, schedule), champions_of(year, ())
    gain = gain_over_never(year, champions)
    best = year.losses[()] - min(loss for other, loss in year.losses.items() if len(other) == len(schedule))
    return Standing(
        months=tuple(year.trainings[k] for k in schedule),
        champions=tuple(year.trainings[j] for j in champions),
        loss=year.loss(champions),
        gain=gain,
        loss_by_rows=year.by_rows(champions),
        gain_by_rows=year.by_rows(never) - year.by_rows(champions),
        share=gain.value / best if best > 0 else float("nan"),
        percentile=percentile(year, schedule),
    )


def evaluate(months: Sequence[str]) -> Standing:
    """Compare retrainings as of the ends of these months (`2013-06`) with other schedules; order and repetitions do not matter.

    Raises:
        ValueError: no retraining can be judged at a month: it is not of the year, its last, or one of the first three.
        EvergreenError: see `load_year`.
    """
    year = load_year()
    possible = {year.trainings[k]: k for k in year.choices}
    if wrong := sorted(set(months) - set(possible)):
        raise ValueError(f"no retraining to judge at {', '.join(wrong)}; there are: {', '.join(possible)}")
    return rank(year, tuple(sorted({possible[key] for key in months})))


def ledger_retrainings(res: Resources) -> list[str]:
    """Return the newest partition that had ended at each retraining of the ledger, each once."""
    refs = [res.ref(key) for key in res.lake.keys(Stage.VALID)]
    moments = [d.as_of for d in res.ledger.decisions() if d.action == "retrain"]
    newest = [max((ref.key for ref in refs if ref.end <= moment), default="") for moment in moments]
    return sorted(set(newest) - {""})


# Output


def short(months: Sequence[str]) -> str:
    """Return months without their year."""
    return " ".join(key.partition("-")[2] for key in months) or "-"


def schedule_table(year: Year) -> Table:
    """Return the best, the median and the worst of all schedules by their number of retrainings."""
    table = _table("The year's mean log loss by every schedule of n retrainings", "n", "of", *THREE, "best's months")
    for name in THREE:
        table.add_column(f"{name},\nno gate", justify="right", no_wrap=True)
    free = {schedule: year.loss(champions_of(year, schedule, gated=False)) for schedule in year.losses}
    for count in range(len(year.choices) + 1):
        of_count = {s: loss for s, loss in year.losses.items() if len(s) == count}
        best = min(of_count, key=lambda schedule: of_count[schedule])
        ungated = [loss for s, loss in free.items() if len(s) == count]
        months = short([year.trainings[k] for k in best])
        table.add_row(str(count), str(len(of_count)), *_three(list(of_count.values())), months, *_three(ungated))
    return table


THREE = ("best", "median", "worst")


def _three(losses: Sequence[float]) -> list[str]:
    return [f"{value:.5f}" for value in (min(losses), float(np.median(losses)), max(losses))]


def standing_table(standings: Mapping[str, Standing]) -> Table:
    """Return a table of how well each schedule's months were chosen."""
    columns = "months", "gain", "95 %", "by rows", "of best", "perc."
    table = _table("Gain in log loss over never retraining", "schedule", "n", *columns)
    for name, standing in standings.items():
        gain = standing.gain
        share = f"{standing.share:.0%}" if standing.share == standing.share else "-"
        bounds = f"{gain.lower:+.4f} {gain.upper:+.4f}"
        cells = f"{gain.value:+.4f}", bounds, f"{standing.gain_by_rows:+.4f}", share, f"{standing.percentile:.0f}"
        table.add_row(name, str(standing.count), short(standing.months), *cells)
    return table


def _table(title: str, *columns: str) -> Table:
    """Return an empty table. Every column but those of names is for numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in columns:
        is_text = heading == "schedule" or "months" in heading
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=not is_text)
    return table


def named(year: Year, res: Resources, console: Console) -> dict[str, Sequence[str]]:
    """Return the months of the ledger's retrainings, if it has any, and of the examples."""
    examples: dict[str, Sequence[str]] = {
        name: [year.trainings[k] for k in schedule] for name, schedule in EXAMPLES.items()
    }
    months = ledger_retrainings(res)
    judged = [key for key in months if key in year.trainings[1:]]
    if len(judged) < len(months):
        console.print(f"Left out, since no judged month follows: {', '.join(sorted(set(months) - set(judged)))}")
    title = "the ledger's" if judged == months else "the ledger's, in part"
    return ({title: judged} if months else {}) | examples


def report(console: Console) -> None:
    """Print the tables."""
    res = open_resources(MODEL)
    try:
        if not cache_file(year_of(res), res).is_file():
            console.print(f"Fitting {2 * (MONTHS - FIRST - 1)} models takes some minutes, the next time seconds.")
        year = load_year()
        listed = named(year, res, console)
    except EvergreenError as error:
        console.print(str(error), markup=False)
        return
    pairs = len(year.trainings) * len(year.choices) // 2
    console.print(f"{year.passes.sum()} of {pairs} pairs of a champion and a later training pass the gate.")
    for rule, count in sorted(year.refusals.items()):
        console.print(f"  refused {count}: {rule}")
    console.print(schedule_table(year))
    never = champions_of(year, ())
    console.print(f"Never: {year.loss(never):.5f}, {year.by_rows(never):.5f} with equal weights of rows.")
    console.print(standing_table({name: evaluate(months) for name, months in listed.items()}))
    console.print(
        "Months: it retrains at their ends. 95 %: bootstrap over days. By rows: equal weights of rows, not of months. "
        "Of best: share of the best gain with as many retrainings. "
        f"Perc.: share of {RANDOM:,} random schedules with as many that do worse, ties half."
    )
