"""A partition is processed when it is complete, and assessed when its labels have matured, several partitions later.

Labels betray themselves: the first 100 rows of a day have a wrong label an hour after the row, and ten of them are corrected to a wrong
one two days after they have matured. Only labels that had matured at a moment, and no later corrections, may influence a decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.replay import replay
from flows.retrain import retrain
from flows.train import train
from ops.play_range import order_of_runs
from tasks.contracts import Stage
from tasks.errors import NotEnoughData
from tasks.lifecycle.policy_inputs import count_new_labels
from tasks.resources import LiveResources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.run_tasks import maturing_partitions, moment_of_assessment
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.storage.partitions import between, partition
from tasks.training import evaluation, fit, selection, window
from tasks.training.window import choose_window
from tests.conftest import FIRST, SHIFTED_FROM, set_up_tiny
from tests.flows.conftest import parcels_of
from tests.flows.test_controller import day
from tests.flows.test_replay import assert_same_as_production, simulate

pytestmark = pytest.mark.long

DELAYS = {"several days": ("4D", "0h", timedelta(days=4)), "part of a day": ("36h", "3h", timedelta(hours=36))}
"""Label delay and grace."""
DELAY, CORRECTED = timedelta(days=4), timedelta(days=2)
"""The delay of the tests of single functions, and how long after it a label is corrected."""
BEGIN, SHIFT, LAST = 23, 25, 30
"""The first day that a champion scores, the first shifted day, and the last day."""
LABELS_SQL = """
WITH rows AS (FROM parcels WHERE sent >= $start AND sent < $end)
SELECT parcel, late, sent + INTERVAL {hours} HOUR AS known_at FROM rows
UNION ALL SELECT parcel, 1 - late, sent + INTERVAL 1 HOUR FROM rows WHERE right(parcel, 3) < '100'
UNION ALL SELECT parcel, 1 - late, sent + INTERVAL {hours} HOUR + INTERVAL 2 DAY FROM rows WHERE right(parcel, 3) BETWEEN '010' AND '019'
"""
Frames = list[tuple[datetime, pd.DataFrame]]


def set_up(
    source: Path, folder: Path, mlflow_store: str, patch: pytest.MonkeyPatch, name: str = "several days"
) -> None:
    """The tiny model for 31 days, with a label delay and grace of `DELAYS`."""
    delay, grace, span = DELAYS[name]
    set_up_tiny(source, folder, mlflow_store, patch)
    for n in range(LAST + 1):
        parcels_of(folder, n, like=n % SHIFTED_FROM if n < SHIFT else SHIFTED_FROM + n % 10)
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    hours = span // timedelta(hours=1)
    config["partition"]["grace"], config["target"]["delay"] = grace, delay
    config["source"]["tables"]["parcels"]["outcomes_known_at"] = f"sent + INTERVAL {hours} HOUR"
    config["retraining"] = {"signals": {"drift": {"times": 1, "of": 1}, "growth": 0.2}, "cool_down": "2D"}
    config["retraining"]["hindsight"] = {"partitions": 2}
    config["monitoring"]["decay"] = {"partitions": 2, "min_rows": 100}
    lax = {"test": "non_inferiority", "margin": 1.0, "block": "H", "min_blocks": 3, "resamples": 200}
    config["gate"] = {"floor": {"log_loss": 5}, "gain": lax, "calibration": None, "refit": {"max_move": 1}}
    path.write_text(yaml.safe_dump(config))
    path.with_name("labels.sql").write_text(LABELS_SQL.format(hours=hours))


@dataclass
class Played:
    """A history. `seen` has the labelled rows that trainings and gates have read, each with the moment of the training."""

    folder: Path
    delay: timedelta
    seen: dict[str, Frames]


@pytest.fixture(scope="module", params=DELAYS)
def played(
    request: pytest.FixtureRequest,
    tiny_source: Path,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_store: str,
    prefect_server: None,
) -> Iterator[Played]:
    """Eight days in production, as schedules and events play them. The gate is lax."""
    folder, seen = tmp_path_factory.mktemp("two_moments"), dict[str, Frames](fitted=[], judged=[])
    with pytest.MonkeyPatch.context() as patch:
        set_up(tiny_source, folder, f"sqlite:///{folder}/mlflow.db", patch, request.param)
        watch_rows(seen, patch)
        res = open_resources("tiny")
        backfill(model="tiny", start=day(0), end=day(BEGIN - 1))
        train(model="tiny", as_of=res.ref(day(BEGIN - 1)).complete, reason="first champion")
        earlier, refs = (list(between(res.config, *r)) for r in ((day(0), day(BEGIN - 1)), (day(BEGIN), day(LAST))))
        for runs in order_of_runs(refs, earlier):
            for flow, key in runs:
                if flow == "process":
                    process(model="tiny", partition=key)
                else:  # as its schedule does, all days whose labels have matured, with corrections
                    assess(model="tiny", as_of=res.ref(key).matured)
            while facts := res.ledger.undecided():
                retrain(model="tiny", partition=facts[0].partition, fact=facts[0].id)
        yield Played(folder, DELAYS[request.param][2], seen)


def watch_rows(seen: dict[str, Frames], patch: pytest.MonkeyPatch) -> None:
    """Note the rows that trainings read to fit on and to judge by."""

    def noting(kind: str, read: Any, window_at: int) -> Any:
        def reading(*given: Any) -> pd.DataFrame:
            rows: pd.DataFrame = read(*given)
            seen[kind].append((given[window_at].as_of, rows))
            return rows

        return reading

    for module in (fit, selection):
        patch.setattr(module, "rows_to_fit", noting("fitted", module.rows_to_fit, 1))
    patch.setattr(evaluation, "read_rows", noting("judged", window.read_rows, 1))


@pytest.fixture
def delayed(tiny_source: Path, tmp_path: Path, mlflow_store: str, monkeypatch: pytest.MonkeyPatch) -> LiveResources:
    """The model with its data, and nothing in the lake."""
    set_up(tiny_source, tmp_path, mlflow_store, monkeypatch)
    return open_resources("tiny")


def source_rows(played: Played) -> pd.DataFrame:
    """All rows of the source by their key, without those that have no label."""
    files = (played.folder / "data").glob("*.parquet")
    return pd.concat([pd.read_parquet(path) for path in files]).set_index("parcel").dropna(subset="late")


def expected_labels(rows: pd.DataFrame, as_of: datetime, played: Played) -> np.ndarray:
    """The labels that had matured by then, from the files of the source."""
    truth = source_rows(played).loc[rows["parcel"], "late"].to_numpy()
    corrected = rows["parcel"].str[-3:].between("010", "019") & (rows["sent"] + played.delay + CORRECTED <= as_of)
    return np.where(corrected, 1 - truth, truth)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fitted", "judged"])
def test_no_label_is_learned_from_or_judged_by_before_it_has_matured(played, kind):
    frames = played.seen[kind]
    assert len({as_of for as_of, _ in frames}) >= 2, "the first training, and at least one retraining"
    for as_of, rows in frames:
        assert (rows["sent"] + played.delay <= as_of).all()
        np.testing.assert_array_equal(rows["late"], expected_labels(rows, as_of, played))
    newest = max(rows["sent"].max() - (as_of - played.delay) for as_of, rows in frames)
    assert timedelta(days=-1) < newest, (
        "rows up to the label delay are used, although their day has not matured as a whole"
    )


@pytest.mark.slow
def test_each_day_is_scored_on_the_morning_after_by_the_champion_of_that_moment(played):
    res = open_resources("tiny")
    for ref in between(res.config, day(BEGIN), day(LAST)):
        assert ref.complete - ref.end == res.config.partition.grace
        assert ref.matured == ref.end + played.delay
        scored, drift, estimate, assessed = (
            res.lake.done(stage, ref.key)
            for stage in (Stage.PREDICTIONS, Stage.MONITORING, Stage.ESTIMATES, Stage.PERFORMANCE)
        )
        assert {scored.as_of, drift.as_of, estimate.as_of} == {ref.complete}
        champion = res.ledger.champion(ref.complete)
        assert scored.data["version"] == drift.data["version"] == champion.version
        assert assessed.as_of >= ref.matured, "later if labels were corrected"
        assert assessed.data["version"] == champion.version
        assert assessed.data["mature"] == 147


@pytest.mark.slow
def test_drift_is_a_fact_of_the_morning_after_and_decay_of_when_labels_have_matured(played):
    res = open_resources("tiny")
    first = res.ref(day(SHIFT))
    facts = [fact for fact in res.ledger.facts() if fact.partition == first.key]
    assert [(f.kind, f.as_of) for f in facts if f.kind == "drift"] == [("drift", first.complete)]
    decay = [fact for fact in res.ledger.facts() if fact.kind == "decay"]
    assert decay or played.delay < DELAY, "with the shorter delay, new versions come before two days have decayed"
    assert all(fact.as_of == res.ref(fact.partition).matured for fact in decay)
    retrained = [d for d in res.ledger.decisions() if d.action == "retrain"]
    assert retrained[0].as_of == first.complete
    for fact, decision in ((res.ledger.fact(d.fact_id), d) for d in res.ledger.decisions()):
        assert decision.as_of == fact.as_of
        champion = next(row for row in res.ledger.champions()[::-1] if row.as_of < fact.as_of)
        assert decision.signals["new_labels"] == count_new_labels(champion, fact.as_of, res)
        sent = source_rows(played)["sent"]
        matured = (sent >= champion.window_end) & (sent + played.delay <= fact.as_of)
        complete = sent.dt.floor("D") + timedelta(days=1) + res.config.partition.grace <= fact.as_of
        assert decision.signals["new_labels"] == (matured & complete).sum()


@pytest.mark.slow
def test_an_effect_is_measured_when_the_labels_of_its_partition_have_matured(played):
    res = open_resources("tiny")
    rows = {row.sequence: row for row in res.ledger.promotions()}
    assert res.ledger.hindsights()
    for effect in res.ledger.hindsights():
        assert effect.as_of == max(res.ref(key).matured for key in effect.partitions)
        assert all(res.ref(key).complete > rows[effect.sequence].as_of for key in effect.partitions)


@pytest.mark.slow
def test_a_replay_decides_the_same(played):
    live, replayed = simulate(start=day(BEGIN), end=day(LAST))
    assert_same_as_production(live, replayed)
    assert any(d.action == "retrain" for d in replayed.decisions)
    state = replay(model="tiny", start=day(BEGIN), end=day(LAST), policies=["every"], return_state=True)
    assert state.is_completed(), "with its plots, and the oracle's trainings"


def test_runs_are_in_one_order_of_time(delayed):
    runs = order_of_runs(list(between(delayed.config, day(0), day(5))))
    assert runs[:4] == [[("process", day(n))] for n in range(4)]
    assert runs[4] == [("process", day(4)), ("assess", day(0))]
    assert runs[6:] == [[("assess", day(n))] for n in (2, 3, 4, 5)]
    before, after = (list(between(delayed.config, *keys)) for keys in ((day(0), day(5)), (day(6), day(7))))
    assessed = [run for runs in order_of_runs(after, before) for run in runs if run[0] == "assess"]
    assert assessed == [("assess", day(n)) for n in range(2, 8)], "those whose labels mature after day 5 is complete"


def test_the_moment_of_an_assessment_is_when_labels_have_matured(delayed, monkeypatch):
    res, newest = delayed, delayed.ref(day(9))
    for n in range(10):
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(day(n)), res)
    assert moment_of_assessment(res, day(3), None) == res.ref(day(3)).matured
    assert moment_of_assessment(res, None, None) == newest.matured

    now = newest.complete + timedelta(hours=6)
    monkeypatch.setattr("tasks.steps.run_tasks.datetime", type("Then", (), {"now": lambda _: now}))
    assert moment_of_assessment(res, None, None) == newest.complete == res.ref(day(5)).matured
    assert moment_of_assessment(res, newest.key, None) == newest.complete, "its labels mature later"
    with pytest.raises(ConfigError, match="in the future"):
        moment_of_assessment(res, None, now + timedelta(minutes=1))
    assert [ref.key for ref in maturing_partitions(res, None, newest.complete)] == [day(n) for n in range(6)]


def test_a_window_ends_a_label_delay_before_its_moment_within_a_partition(delayed):
    rules = delayed.config.training.window
    states = {day(n): "done" for n in range(12)}
    moment = delayed.ref(day(9)).complete
    window = choose_window(delayed.config, states, moment, rules)
    assert window.partitions == tuple(day(n) for n in range(6))
    assert window.end == moment - DELAY == delayed.ref(day(5)).end
    later = choose_window(delayed.config, states, moment + timedelta(hours=6), rules)
    assert later.partitions == tuple(day(n) for n in range(7)), "a part of the day has matured"
    assert later.end == moment + timedelta(hours=6) - DELAY
    assert later.holdout_start == later.end - rules.holdout
    with pytest.raises(NotEnoughData, match="3 validated partitions have matured labels"):
        choose_window(delayed.config, states, delayed.ref(day(6)).complete, rules)


def test_labels_of_the_future_are_waited_for(tiny, prefect_server):
    """A backfill up to yesterday scores it, and leaves its labels to the day on which they mature."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("delay: 1D", "delay: 9000D"))
    backfill(model="tiny", start=day(0), end=day(1))
    res = open_resources("tiny")
    assert res.lake.keys(Stage.VALID) == [day(0), day(1)]
    assert res.lake.keys(Stage.LABELS) == []
    state = assess(model="tiny", partition=day(1), return_state=True)
    assert state.is_completed()
    assert res.lake.keys(Stage.LABELS) == [], "nothing is collected as of the future"
    assert partition(res.config, day(1)).matured > datetime.now(UTC)
    assert FIRST + timedelta(days=9001) == res.ref(day(0)).matured
