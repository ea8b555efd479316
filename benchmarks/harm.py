"""What the gate refuses: real flights, a training that went wrong, and how often its version is refused.

Part of `python -m benchmarks gate`. The champion learns from the months up to August, as the gate judges it. A challenger learns from
the same rows, damaged in one way. Both predict each day from September on. The harm is the difference of their mean losses there, so it
is known. A holdout is drawn from these days, with replacement, so its blocks are independent. The damage is in the training rows only. A
leaked feature is in the holdout too, where nothing shows that production will lack it. Shadow mode scores production's rows. For SQL
with declared times, the leak check of the first ingest refuses it before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.always import empty_lake

if TYPE_CHECKING:
    import pandas as pd

BLOCKS, RUNS, SEED = (14, 30, 60), 300, 0
AS_OF, LAST = "2013-08", "2013-12"
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
LATE = ["origin_late_1d", "origin_late_7d", "carrier_late_1d", "carrier_late_7d", "dest_late_7d"]
Damage = Callable[["pd.DataFrame", np.random.Generator], "pd.DataFrame"]


def shuffle_outcomes(share: float) -> Damage:
    """Return a damage: the outcomes of a share of the rows, in one stretch of time, are exchanged among each other."""

    def damage(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
        count = int(len(rows) * share)
        late = rows["late"].to_numpy().copy()
        late[-count:] = rng.permutation(late[-count:])
        return rows.assign(late=late)

    return damage


def fill(names: list[str]) -> Damage:
    """Return a damage: features are 0."""
    return lambda rows, rng: rows.assign(**dict.fromkeys(names, 0.0))


def in_km(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Convert the distance of the newest two months from miles to km."""
    newest = rows["sched_dep"] >= rows["sched_dep"].max() - np.timedelta64(60, "D")
    return rows.assign(distance=rows["distance"].where(~newest, rows["distance"] * 1.609))


def first_months(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Keep January and February: another season, half a year old."""
    return rows[rows["sched_dep"] < rows["sched_dep"].min() + np.timedelta64(59, "D")]


def last_weeks(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Keep the newest two weeks: most of the window was lost."""
    return rows[rows["sched_dep"] >= rows["sched_dep"].max() - np.timedelta64(14, "D")]


def join_wrong(names: list[str]) -> Damage:
    """Return a damage: columns come from another row, as if joined by the wrong key."""

    def damage(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
        other = rng.permutation(len(rows))
        return rows.assign(**{name: rows[name].to_numpy()[other] for name in names})

    return damage


def flip_outcomes(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Count a tenth of the flights that were on time as late."""
    wrong = (rng.random(len(rows)) < 0.1) & (rows["late"] == 0)
    return rows.assign(late=rows["late"].where(~wrong, 1))


def leak(rows: "pd.DataFrame", rng: np.random.Generator) -> "pd.DataFrame":
    """Put the outcome, with a fifth of the rows wrong, into a feature."""
    wrong = rng.random(len(rows)) < 0.2
    return rows.assign(precip=np.where(wrong, 1 - rows["late"], rows["late"]).astype("float64"))


DAMAGES: Mapping[str, Damage] = {
    "none: the same rows, another seed": lambda rows, rng: rows,
    "outcomes of the newest fifth shuffled": shuffle_outcomes(0.2),
    "outcomes of the newest half shuffled": shuffle_outcomes(0.5),
    "a tenth of the flights on time counted as late": flip_outcomes,
    "the delays of the past day and week are 0": fill(LATE),
    "distance of the newest two months in km": in_km,
    "January and February alone: another season": first_months,
    "the newest two weeks alone": last_weeks,
    "weather of another row": join_wrong(WEATHER),
    "all delays of the past of another row": join_wrong(
        [*LATE, "origin_late_28d", "carrier_late_28d", "dest_late_28d"]
    ),
}


@dataclass(frozen=True)
class Days:
    """For each day: the summed loss of the champion minus the challenger's, and the rows."""

    gains: np.ndarray
    rows: np.ndarray

    @property
    def harm(self) -> float:
        """Mean loss of the challenger minus the champion's."""
        return -float(self.gains.sum() / self.rows.sum())


def refused(days: Days, blocks: int, confidence: float, margin: float = 0.0) -> float:
    """Return how often a refresh is refused on a holdout of some days."""
    from tasks.models.bootstrap import mean_bounds

    rng, count = np.random.default_rng(SEED), 0
    for run in range(RUNS):
        drawn = rng.integers(0, len(days.rows), blocks)
        count += mean_bounds(days.gains[drawn], days.rows[drawn], confidence, 400, run).upper < -margin
    return count / RUNS


def read_flights() -> "tuple[pd.DataFrame, pd.DataFrame, Any]":
    """Return the rows up to August, those from September on, and the resources. Ingests the year into the lake of the environment."""
    from tasks.contracts import Stage
    from tasks.replay.setup import open_replayed_model, prepare_variant
    from tasks.source.rows import read_labels
    from tasks.storage.frames import concatenate

    res = open_replayed_model("flights", {})
    prepare_variant(res.ref(LAST).end, res)
    frames = []
    for key in res.lake.keys(Stage.VALID):
        labels = read_labels(res.model, res.ref(key)).to_pandas()
        names = [res.config.key, res.config.target.column]
        frames.append(res.lake.read(Stage.VALID, key).merge(labels[names], on=res.config.key).dropna(subset=["late"]))
    rows = concatenate(frames, ()).sort_values(res.config.time, ignore_index=True)
    until = res.ref(AS_OF).end
    return rows[rows[res.config.time] < until], rows[rows[res.config.time] >= until], res


def compare(rows: "pd.DataFrame", later: "pd.DataFrame", res: Any) -> dict[str, Days]:
    """Fit the champion and every damaged challenger, and return the gains by day."""
    from tasks.contracts import Recipe
    from tasks.models.bootstrap import block_sums
    from tasks.models.features import predict
    from tasks.models.metrics import row_loss
    from tasks.models.targets import outcomes
    from tasks.storage.blocks import labelled_blocks
    from tasks.training.splits import fit

    candidate = res.config.training.candidates["xgboost"]
    outcome, blocks = outcomes(later, res.config.target), labelled_blocks(later, res.config)

    def fitted(fitted_on: "pd.DataFrame", seed: int) -> Any:
        return fit(Recipe("xgboost", "xgboost", dict(candidate.params) | {"random_state": seed}), fitted_on, res)

    def gains(challenger: Any, scored: "pd.DataFrame") -> Days:
        loss = row_loss(outcome, predict(challenger, scored, res.config), res.config.target)
        return Days(*block_sums(champion - loss, blocks))

    rng = np.random.default_rng(SEED)
    champion = row_loss(outcome, predict(fitted(rows, SEED), later, res.config), res.config.target)
    days = {name: gains(fitted(damage(rows, rng), 1), later) for name, damage in DAMAGES.items()}
    leaked = fitted(leak(rows, rng), 1)
    return days | {
        "a leaked outcome, on the holdout": gains(leaked, leak(later, rng)),
        "the same version in shadow mode": gains(leaked, later),
    }


def year_old() -> Days:
    """Return the gains of a model of electricity that is a year old: half a year up to 1997, against half a year up to 1998."""
    import pandas as pd

    from configs.settings import ROOT
    from tasks.contracts import Recipe
    from tasks.models.bootstrap import block_sums
    from tasks.models.features import predict
    from tasks.models.metrics import row_loss
    from tasks.models.targets import outcomes
    from tasks.resources import open_resources
    from tasks.storage.blocks import labelled_blocks
    from tasks.training.splits import fit

    res = open_resources("electricity")
    rows = pd.read_parquet(ROOT / "data" / "electricity" / "electricity.parquet")
    start, candidate = pd.Timestamp("1998-01-01", tz="UTC"), res.config.training.candidates["xgboost"]
    later = rows[(rows["at"] >= start) & (rows["at"] < start + pd.Timedelta("90D"))].reset_index(drop=True)
    outcome, target, losses = outcomes(later, res.config.target), res.config.target, []
    for end in (start, start - pd.Timedelta("365D")):
        window = rows[(rows["at"] >= end - pd.Timedelta("182D")) & (rows["at"] < end)]
        model = fit(Recipe("xgboost", "xgboost", dict(candidate.params)), window, res)
        losses.append(row_loss(outcome, predict(model, later, res.config), target))
    return Days(*block_sums(losses[0] - losses[1], labelled_blocks(later, res.config)))


def report(console: Console) -> None:
    """Print how often each damaged training is refused."""
    from configs.gate import Refresh

    with empty_lake():
        days = compare(*read_flights()) | {"electricity: a model a year old": year_old()}
    confidence = Refresh().confidence
    table = Table(
        "training", "harm, log loss", *(f"{b} blocks" for b in BLOCKS), box=None, title_justify="left",
        title=f"How often a refresh is refused, in per cent (confidence {confidence:g})",
    )  # fmt: skip
    for name, of in days.items():
        rates = (f"{100 * refused(of, blocks, confidence):.0f}" for blocks in BLOCKS)
        table.add_row(name, f"{of.harm:+.4f}", *rates)
    console.print(table)
