"""A replay: the live policy decides again as it did, others are tried, nothing is made twice, and no future is seen."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from configs.errors import ConfigError
from configs.settings import ROOT
from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.replay import replay
from flows.retrain import retrain
from flows.train import train
from tasks.contracts import PolicyRun, Stage
from tasks.errors import CorruptPartition, FutureRead, MissingPartition, NoChampion, NotEnoughData
from tasks.replay.oracle import measure_all
from tasks.replay.past_registry import measured_live
from tasks.replay.past_resources import ReplayResources
from tasks.replay.policies import BUILT_IN, EVERY, NEVER
from tasks.replay.setup import lay_out
from tasks.replay.simulate import simulate_policy
from tasks.replay.standings import find, mean_of
from tasks.resources import Resources, Variant, open_resources
from tasks.storage.partitions import between
from tasks.training import fit as training
from tests.conftest import day_file, parcels, point_to, settle
from tests.flows.test_backfill_elsewhere import cluster
from tests.flows.test_pages import latest

START, END = "2024-03-14", "2024-03-24"
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def lived(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, prefect_server: None) -> Path:
    """Eleven days as they were lived, with every fact decided about: before the shift, and after; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        settle(tiny_source, folder, mlflow_store, patch)
        live_through("tiny", "2024-03-01", START, END)
    return folder


def live_through(model: str, first: str, start: str, end: str) -> None:
    """Run the flows as a year's events would: a first champion of what lies before `start`, then each partition, and each fact."""
    res = open_resources(model)
    before = list(between(res.config, first, start))[-2]
    backfill(model=model, start=first, end=before.key)
    train(model=model, as_of=before.as_of, reason="first champion")
    for ref in between(res.config, start, end):
        process(model=model, partition=ref.key)
        assess(model=model, partition=ref.key)
        for fact in res.ledger.undecided():
            retrain(model=model, fact=fact.id)


@pytest.fixture
def again(lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    """The same world in a folder of its own."""
    shutil.copytree(lived, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace(str(lived), str(tmp_path)))
    point_to(tmp_path, tmp_path / "configs", mlflow_store, monkeypatch)
    return tmp_path


def play_again(
    name: str = "live", model: str = "tiny", start: str = START, end: str = END
) -> tuple[Resources, PolicyRun]:
    live = open_resources(model)
    course = lay_out(start, end, live)
    policy = live.config.retraining if name == "live" else BUILT_IN[name]
    return live, simulate_policy(name, policy, course.begin, course.refs, live)


MEASURED = ("latency", "size", "load and query")


def statistics(gate: tuple[str, ...]) -> list[str]:
    """The gate's lines without those that tell of a measurement."""
    return [line for line in gate if not any(word in line for word in MEASURED)]


def hold_to_life(live: Resources, played: PolicyRun) -> None:
    """Facts, the policy's rules, what the gate's statistics said, the champions by content, and whether they helped are the same."""
    assert [(f.partition, f.kind, f.as_of) for f in played.facts] == [
        (f.partition, f.kind, f.as_of) for f in live.ledger.facts()
    ]
    lived_through = live.ledger.decisions()
    for mine, theirs in zip(played.decisions, lived_through, strict=True):
        assert (mine.as_of, mine.action, mine.rule, mine.outcome) == (
            theirs.as_of,
            theirs.action,
            theirs.rule,
            theirs.outcome,
        )
        assert statistics(mine.gate) == statistics(theirs.gate)
        assert mine.seconds == theirs.seconds, "as recorded"
        assert mine.signals["drifted"] == theirs.signals["drifted"]
        assert mine.signals["new_labels"] == theirs.signals["new_labels"]
    champions = [
        [(row.action, row.as_of, row.evidence["digest"]) for row in rows if row.to_stage == "champion"]
        for rows in (played.promotions, live.ledger.promotions())
    ]
    assert champions[0] == champions[1]
    assert [(h.verdict, h.gain) for h in played.hindsights] == [(h.verdict, h.gain) for h in live.ledger.hindsights()]
    for step in played.steps:
        record = live.lake.done(Stage.PERFORMANCE, step.partition)
        assert step.metrics == record.data["metrics"]
        assert step.rows == record.data["mature"]


def test_the_live_policy_decides_again_as_it_did(again):
    live, played = play_again()
    hold_to_life(live, played)
    assert {d.outcome for d in played.decisions} >= {"promoted", ""}, "there is something to compare"
    assert [row.to_stage for row in played.promotions].count("champion") > 1


@pytest.mark.slow
def test_shadow_and_hindsight_are_played_as_they_were_lived(tiny):
    """Challengers prove themselves on a partition, or do not; a promotion is looked back on; estimates may count. The gate is lax."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    policy = {
        "signals": {"estimate": {"after": 2}, "partitions": 3},
        "cool_down": "1D",
        "hindsight": {"partitions": 1, "confidence": 0.55, "rollback": True},
    }
    lax = {"test": "non_inferiority", "margin": 1.0, "block": "H", "min_blocks": 3, "resamples": 200}
    gate = {"floor": {"log_loss": 5}, "gain": lax, "calibration": None, "refit": {"max_move": 1}}
    shadow = {"shadow": {"partitions": 1, "margin": 1.0}}
    said = {"retraining": policy, "promotion": shadow, "gate": gate}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | said))
    live_through("tiny", "2024-03-01", START, "2024-03-26")
    live, played = play_again(end="2024-03-26")
    hold_to_life(live, played)
    assert {"challenger", "champion", "refused"} <= {row.to_stage for row in played.promotions}
    assert played.hindsights
    assert [(r.action, r.as_of) for r in played.promotions] == [(r.action, r.as_of) for r in live.ledger.promotions()]


def test_a_model_is_fitted_once_whoever_asks_for_it_and_a_second_replay_fits_nothing(again, monkeypatch):
    fitted = []
    real = training.fit_recipe
    monkeypatch.setattr(training, "fit_recipe", lambda *given: fitted.append(given[2]) or real(*given))
    _, one = play_again(EVERY)
    assert len(one.retrainings) == 11
    assert len(fitted) == len(list((again / "lake" / "tiny" / "replay" / "models").glob("*.skops")))
    fitted.clear()
    _, two = play_again(EVERY)
    play_again()
    play_again(NEVER)
    assert fitted == []
    for mine, theirs in zip(two.decisions, one.decisions, strict=True):
        assert replace(mine, recorded_at=None) == replace(theirs, recorded_at=None)
    assert two.steps == one.steps


def test_never_keeps_the_first_champion_and_every_asks_at_each_partition(again):
    _, never = play_again(NEVER)
    assert len({s.version for s in never.steps}) == 1
    assert [d.action for d in never.decisions if d.action == "retrain"] == []
    assert all(d.rule == "does not count" for d in never.decisions)


def test_the_flow_compares_policies_and_leaves_page_run_and_file(again):
    before = sorted(p for p in (again / "lake").rglob("*") if "replay" not in p.parts)
    decisions = open_resources("tiny").ledger.decisions()
    state = replay(
        model="tiny",
        start=START,
        end=END,
        policies=[NEVER, EVERY],
        given={"calm": {"cool_down": "6D"}},
        return_state=True,
    )
    assert state.is_completed()
    assert "cost least on 2024-03-14 to 2024-03-19; on 2024-03-20 to 2024-03-24" in state.message
    page = latest("tiny-replay")["data"]
    for name in ("| live |", "| never |", "| every |", "| calm |", "The oracle, which knows what came"):
        assert name in page
    assert page.count("data:image/png;base64,") == 4
    (file,) = (again / ".evergreen" / "replays").glob("*.html")
    assert "every: " in file.read_text()
    client = open_resources("tiny").registry.client
    experiment = client.get_experiment_by_name("evergreen/tiny")
    run = client.search_runs([experiment.experiment_id], "tags.`evergreen.role` = 'replay'", max_results=1)[0]
    assert run.data.metrics["every.retrainings"] == 10, "the last day's could serve none"
    assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {
        "page.html",
        "findings.json",
        "plays.json",
        "plots",
    }
    assert sorted(p for p in (again / "lake").rglob("*") if "replay" not in p.parts) == before
    assert open_resources("tiny").ledger.decisions() == decisions, "a replay changes nothing"


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_replay_that_was_killed_or_cancelled_goes_on_with_what_is_there(again, monkeypatch, how):
    """SIGTERM is what a worker sends when somebody cancels in the UI."""
    given = {"model": "tiny", "start": START, "end": END, "policies": [EVERY], "oracle": False}
    command = [sys.executable, "-c", f"from flows.replay import replay; replay(**{given!r})"]
    from prefect.settings import get_current_settings

    env = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    models = again / "lake" / "tiny" / "replay" / "models"
    while len(list(models.glob("*.skops"))) < 6:
        assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(how)
    process.wait(60)
    kept = len(list(models.glob("*.skops")))
    fitted = []
    real = training.fit_recipe
    monkeypatch.setattr(training, "fit_recipe", lambda *a: fitted.append(a[2]) or real(*a))
    assert replay(**given, return_state=True).is_completed()
    assert len(fitted) <= len(list(models.glob("*.skops"))) - kept + 1, "one may have been fitted and not yet written"


@pytest.mark.parametrize(
    "gone", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("models", "steps")), "once"]
)
def test_a_part_of_what_is_kept_may_be_deleted(again, gone):
    _, first = play_again(EVERY)
    shutil.rmtree(again / "lake" / "tiny" / "replay" / gone)
    _, second = play_again(EVERY)
    assert second.steps == first.steps


def test_a_partition_that_is_made_again_beside_a_replay_is_named_as_that(again):
    live = open_resources("tiny")
    res = ReplayResources(live, BUILT_IN[NEVER], live.ref(END).as_of)
    res.lake.record(Stage.VALID, START)
    source = day_file(again, 13)
    pd.read_parquet(source).head(100).to_parquet(source, index=False)
    backfill(model="tiny", start=START, end=START, stages=["ingest", "validate"], mode="stale")
    with pytest.raises(CorruptPartition, match="was made again while the replay ran; run the replay again"):
        res.lake.read(Stage.VALID, START)


@pytest.mark.slow
def test_a_cluster_plays_the_same(again):
    """Two workers, each with the policies that it is given; what one makes the other finds."""
    _, never = play_again(NEVER)
    _, every = play_again(EVERY)
    shutil.rmtree(again / "lake" / "tiny" / "replay")
    given = {"model": "tiny", "start": START, "end": END, "policies": [NEVER, EVERY], "runner": "dask"}
    with cluster() as (address, _):
        assert replay(**given, dask=address, return_state=True).is_completed()
    client = open_resources("tiny").registry.client
    experiment = client.get_experiment_by_name("evergreen/tiny")
    run = client.search_runs([experiment.experiment_id], "tags.`evergreen.role` = 'replay'", max_results=1)[0]
    for one in (never, every):
        assert run.data.metrics[f"{one.policy}.log_loss"] == pytest.approx(mean_of(one, "log_loss"))


@pytest.mark.slow
def test_side_by_side_is_as_one_after_another(again):
    """Four policies at once in a fresh world, against each alone."""
    names = (EVERY, NEVER, "drift", "decay")
    with ThreadPoolExecutor(4) as pool:
        together = dict(zip(names, pool.map(lambda name: play_again(name)[1], names), strict=True))
    shutil.rmtree(again / "lake" / "tiny" / "replay")
    for name in names:
        _, alone = play_again(name)
        assert together[name].steps == alone.steps
        assert [(d.as_of, d.rule, d.outcome, d.gate) for d in together[name].decisions] == [
            (d.as_of, d.rule, d.outcome, d.gate) for d in alone.decisions
        ]


@pytest.mark.slow
def test_another_config_in_between_leaves_what_the_first_one_made(again):
    """The refit is the same to the byte, whatever the holdout; what is known of it is not."""
    _, first = play_again(EVERY)
    path = again / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    path.write_text(text.replace("holdout: 2D", "holdout: 3D"))
    _, other = play_again(EVERY)
    assert [s.version for s in other.steps] != [s.version for s in first.steps]
    path.write_text(text)
    _, second = play_again(EVERY)
    assert second.steps == first.steps
    assert [d.signals for d in second.decisions] == [d.signals for d in first.decisions]


@pytest.mark.slow
def test_with_late_labels_the_oracle_sees_the_rows_that_the_policies_see(again):
    """Three in ten become known two days later than the delay says: what never retrains is the oracle's first line."""
    path = again / "configs" / "tiny" / "labels.sql"
    late = "CASE WHEN right(parcel, 1) IN ('1', '3', '5') THEN INTERVAL 3 DAY ELSE INTERVAL 1 DAY END"
    path.write_text(path.read_text().replace("INTERVAL 1 DAY", late))
    live, never = play_again(NEVER)
    course = lay_out(START, END, live)
    table = measure_all(course.begin, course.refs, live)
    assert len({s.rows for s in never.steps}) > 1, "the last days' late ones have not come"
    assert list(table.rows()) == [s.rows for s in never.steps]
    assert list(table.values("log_loss")[0]) == [s.metrics["log_loss"] for s in never.steps]
    assert find([replace(never, policy="live")], table, "log_loss", 0.0, live.config).standings[0].regret >= 0


@pytest.mark.slow
def test_a_policy_by_another_metric_over_another_config_with_persistence(again):
    """Played on a variant: days of rows that follow one another, and a longer holdout."""
    config = {"replay": {"series": []}, "training": {"window": {"min_partitions": 5}}, "promotion": {"approval": True}}
    given = {"policies": [NEVER], "oracle": False, "metric": "accuracy", "override": config}
    assert replay(model="tiny", start=START, end=END, **given, return_state=True).is_completed()
    variant = open_resources("tiny", variant=Variant(config))
    page = latest(f"{variant.slug}-replay".replace("_", "-"))["data"]
    assert "Persistence: accuracy 0." in page
    assert "Kappa against the first: live " in page
    assert "in a replay there is none, and what passes is promoted" in page
    rows = pd.concat([parcels(day) for day in range(12, 24)]).dropna(subset="late")
    here = rows["sent"] >= pd.Timestamp(START, tz="UTC")
    expected = (rows["late"] == rows["late"].shift())[here].mean()
    assert f"accuracy {expected:.4f} by repeating the row before" in page


def test_a_training_that_was_too_slow_when_it_was_live_is_refused_in_the_replay_too(again):
    """The budget lies just below what the live trainings measured; without a live one of the same moment it is taken as held."""
    live = open_resources("tiny")
    measured = measured_live(live.ledger.promotions())
    assert {refit for _, refit in measured} == {True, False}
    least = min(query.one_row_ms for query in measured.values())
    path = again / "configs" / "tiny" / "model.yaml"
    path.write_text(
        path.read_text().replace(
            "floor: {log_loss: 0.69}", f"floor: {{log_loss: 0.69}}\n  budgets: {{one_row_ms: {least / 2}}}"
        )
    )
    with pytest.raises(NoChampion, match="latency of one row, ms: REFUSED"):
        play_again(NEVER)


# Bad input and bad days


def test_a_range_that_begins_before_there_is_enough_to_learn_from(again):
    with pytest.raises(NotEnoughData, match=r"3 validated partitions as of .* but training.window.min_partitions is 4"):
        replay(model="tiny", start="2024-03-03", end=END)


def test_partitions_that_were_never_validated_are_named(again):
    with pytest.raises(
        MissingPartition,
        match=r"2024-03-25, 2024-03-26 were never validated; run `backfill` for 2024-03-25 to 2024-03-26",
    ):
        replay(model="tiny", start=START, end="2024-03-26")


def test_partitions_that_another_config_sketched_are_refused_with_what_to_run(again):
    path = again / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("monitoring: {block: H", "monitoring: {block: D"))
    with pytest.raises(
        MissingPartition, match="by another config, or not at all; run `backfill` with mode=stale for 2024-03-01"
    ):
        replay(model="tiny", start=START, end=END)


def test_an_unknown_policy_metric_or_key_is_refused_before_anything_is_done(again):
    for wrong in ({"policies": ["evry"]}, {"metric": "loss"}, {"override": {"gaet": {}}}):
        with pytest.raises(ConfigError):
            replay(model="tiny", start=START, end=END, **wrong)
    assert not (again / "lake" / "tiny" / "replay").exists()


def test_where_no_first_champion_passes_the_gate_it_says_why(again):
    with pytest.raises(NoChampion, match="no first champion as of 2024-03-15: floor: log_loss"):
        replay(
            model="tiny",
            start=START,
            end=END,
            policies=[NEVER],
            oracle=False,
            override={"gate": {"floor": {"log_loss": 0.01}}},
        )


def test_a_blocked_partition_and_one_without_outcomes_are_passed_over_and_shown(again):
    """As in production: the one is not scored, the other not assessed, and the rest go on."""
    parcels(14).assign(weight=1000.0).to_parquet(day_file(again, 14), index=False)
    parcels(15).assign(late=float("nan"), arrived=float("nan")).to_parquet(day_file(again, 15), index=False)
    backfill(model="tiny", start="2024-03-15", end="2024-03-16", mode="stale", return_state=True)
    _, played = play_again(NEVER)
    notes = {s.partition: s.note for s in played.steps if s.note}
    assert notes["2024-03-15"].startswith("blocked: ")
    assert notes["2024-03-16"] == "no outcomes"
    assert len(notes) == 2
    replay(model="tiny", start=START, end=END, policies=[NEVER], oracle=False)
    assert "Passed over, as in production: 2024-03-15 (blocked: " in latest("tiny-replay")["data"]


# Leaks


def test_a_feature_from_the_next_partition_is_refused(again, monkeypatch):
    """Planted where rows are scored: the day after is looked at."""
    from tasks.steps import score as scoring

    real = scoring.predict

    def peek(model, frame, config):
        tomorrow = frame["sent"].max() + pd.Timedelta(1, "D")
        world["lake"].read(Stage.VALID, f"{tomorrow:%Y-%m-%d}")
        return real(model, frame, config)

    live = open_resources("tiny")
    course = lay_out(START, END, live)
    world = {}
    from tasks.replay import simulate as module

    made = module.Rehearsed
    monkeypatch.setattr(module, "ReplayResources", lambda *given: world.setdefault("res", made(*given)))
    monkeypatch.setattr(scoring, "predict", lambda *given: (world.update(lake=world["res"].lake), peek(*given))[1])
    with pytest.raises(FutureRead, match="asked for 2024-03-15"):
        simulate_policy(NEVER, BUILT_IN[NEVER], course.begin, course.refs, live)


def test_an_outcome_before_it_matured_is_refused(again, monkeypatch):
    """Planted where labels are collected: all that the source has, though every second becomes known a week later."""
    from tasks.steps import collect as labels

    path = again / "configs" / "tiny" / "labels.sql"
    late = "CASE WHEN right(parcel, 1) IN ('1', '3', '5') THEN INTERVAL 7 DAY ELSE INTERVAL 1 DAY END"
    path.write_text(path.read_text().replace("INTERVAL 1 DAY", late))
    live = open_resources("tiny")
    course = lay_out(START, END, live)
    assert any(0 < s.rows < 120 for s in simulate_policy(NEVER, BUILT_IN[NEVER], course.begin, course.refs, live).steps)
    real, later = labels.sort_labels, pd.Timestamp("2030-01-01", tz="UTC")
    shutil.rmtree(again / "lake" / "tiny" / "replay")
    monkeypatch.setattr(labels, "sort_labels", lambda found, rows, config, as_of: real(found, rows, config, later))
    with pytest.raises(FutureRead, match="was given an outcome that became known at"):
        simulate_policy(NEVER, BUILT_IN[NEVER], course.begin, course.refs, live)
