"""A replay: the live policy decides as in production, other policies run, nothing is computed twice, and no later data are read."""

import os
import re
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
from tasks.replay.past_registry import live_queries
from tasks.replay.past_resources import replay_resources
from tasks.replay.policies import BUILT_IN, EVERY, NEVER
from tasks.replay.setup import prepare_replay
from tasks.replay.simulate import simulate_policy
from tasks.replay.standings import evaluate_policies, mean_loss
from tasks.resources import Resources, Variant, open_resources
from tasks.storage.partitions import between
from tasks.training import fit as training
from tests.conftest import day_file, parcels, set_up_tiny, use_folder
from tests.flows.test_backfill_elsewhere import cluster
from tests.flows.test_pages import latest

START, END = "2024-03-14", "2024-03-24"
pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def production(
    tiny_source: Path, tmp_path_factory: pytest.TempPathFactory, mlflow_store: str, prefect_server: None
) -> Path:
    """Eleven days in production, before and after the shift, with a decision for every fact. Tests copy the folder."""
    folder = tmp_path_factory.mktemp("production")
    with pytest.MonkeyPatch.context() as patch:
        set_up_tiny(tiny_source, folder, mlflow_store, patch)
        run_production("tiny", "2024-03-01", START, END)
    return folder


def run_production(model: str, first: str, start: str, end: str) -> None:
    """Run the flows as schedules and events do: a first champion from the data before `start`, then each partition and each fact."""
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
def copied(production: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    """A copy of that folder for one test."""
    shutil.copytree(production, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace(str(production), str(tmp_path)))
    use_folder(tmp_path, tmp_path / "configs", mlflow_store, monkeypatch)
    return tmp_path


def simulate(
    name: str = "live", model: str = "tiny", start: str = START, end: str = END
) -> tuple[Resources, PolicyRun]:
    live = open_resources(model)
    setup = prepare_replay(start, end, live)
    policy = live.config.retraining if name == "live" else BUILT_IN[name]
    return live, simulate_policy(name, policy, setup.begin, setup.refs, live)


MEASURED = ("latency", "size", "load and query")


def statistics(gate: tuple[str, ...]) -> list[str]:
    """Return the gate's lines without numbers of versions, and without those that depend on a measurement of time or size."""
    lines = (line for line in gate if not any(word in line for word in MEASURED))
    return [re.sub(r"(version|champion) [\w-]*\d[\w-]*", r"\1", line) for line in lines]


def assert_same_as_production(live: Resources, replayed: PolicyRun) -> None:
    """Compare facts, the policy's rules, the gate's statistics, the champions by content, and the measured effects."""
    assert [(f.partition, f.kind, f.as_of) for f in replayed.facts] == [
        (f.partition, f.kind, f.as_of) for f in live.ledger.facts()
    ]
    in_production = live.ledger.decisions()
    for mine, theirs in zip(replayed.decisions, in_production, strict=True):
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
        for rows in (replayed.promotions, live.ledger.promotions())
    ]
    assert champions[0] == champions[1]
    assert [(h.verdict, h.gain) for h in replayed.hindsights] == [(h.verdict, h.gain) for h in live.ledger.hindsights()]
    for step in replayed.steps:
        record = live.lake.done(Stage.PERFORMANCE, step.partition)
        assert step.metrics == record.data["metrics"]
        assert step.rows == record.data["mature"]


@pytest.mark.slow
def test_the_live_policy_decides_as_it_did_in_production(copied):
    live, replayed = simulate()
    assert_same_as_production(live, replayed)
    assert {d.outcome for d in replayed.decisions} >= {"promoted", ""}, (
        "there are promotions and declined facts to compare"
    )
    assert [row.to_stage for row in replayed.promotions].count("champion") > 1


@pytest.mark.slow
def test_shadow_mode_and_measured_effects_are_the_same_as_in_production(tiny):
    """Challengers pass or fail in shadow mode, the effect of a promotion is measured, and estimates may count. The gate is lax."""
    path = tiny / "configs" / "tiny" / "model.yaml"
    policy = {
        "signals": {"estimate": {"after": 2}, "partitions": 3},
        "cool_down": "1D",
        "hindsight": {"partitions": 1, "confidence": 0.55, "rollback": True},
    }
    lax = {"test": "non_inferiority", "margin": 1.0, "block": "H", "min_blocks": 3, "resamples": 200}
    gate = {"floor": {"log_loss": 5}, "gain": lax, "calibration": None, "refit": {"max_move": 1}}
    shadow = {"shadow": {"partitions": 1, "margin": 1.0}}
    config = {"retraining": policy, "promotion": shadow, "gate": gate}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | config))
    run_production("tiny", "2024-03-01", START, "2024-03-26")
    live, replayed = simulate(end="2024-03-26")
    assert_same_as_production(live, replayed)
    assert {"challenger", "champion", "refused"} <= {row.to_stage for row in replayed.promotions}
    assert replayed.hindsights
    assert [(r.action, r.as_of) for r in replayed.promotions] == [(r.action, r.as_of) for r in live.ledger.promotions()]


@pytest.mark.slow
def test_a_model_is_fitted_once_for_all_policies_and_a_second_replay_fits_nothing(copied, monkeypatch):
    fitted = []
    real = training.fit_recipe
    monkeypatch.setattr(training, "fit_recipe", lambda *args: fitted.append(args[2]) or real(*args))
    _, one = simulate(EVERY)
    assert len(one.retrainings) == 11
    assert len(fitted) == len(list((copied / "lake" / "tiny" / "replay" / "models").glob("*.skops")))
    fitted.clear()
    _, two = simulate(EVERY)
    simulate()
    simulate(NEVER)
    assert fitted == []
    for mine, theirs in zip(two.decisions, one.decisions, strict=True):
        assert replace(mine, recorded_at=None) == replace(theirs, recorded_at=None)
    assert two.steps == one.steps


@pytest.mark.slow
def test_the_policy_never_keeps_the_first_champion(copied):
    _, never = simulate(NEVER)
    assert len({s.version for s in never.steps}) == 1
    assert [d.action for d in never.decisions if d.action == "retrain"] == []
    assert all(d.rule == "does not count" for d in never.decisions)


@pytest.mark.slow
def test_without_the_gate_every_new_version_is_promoted(copied):
    path = copied / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("  gain: {", "  refresh: {confidence: 0.501}\n  gain: {"))
    _, gated = simulate(EVERY)
    _, run = simulate("always")
    refused = [d for d in run.retrainings if d.outcome != "promoted"]
    assert all("beats the prior" in " ".join(d.gate) for d in refused), "then there is no new version"
    assert "refused" in {d.outcome for d in gated.retrainings}
    assert run.steps[0] == gated.steps[0], "they have the same first champion"
    promoted = [row for row in run.promotions if row.action == "promote"]
    assert len(promoted) == 1 + len(run.retrainings) - len(refused)
    assert len(promoted) > len([row for row in gated.promotions if row.action == "promote"])
    assert any(not all(v["outcome"] == "passed" for v in row.evidence["verdicts"]) for row in promoted), (
        "what failed is on record"
    )


@pytest.mark.slow
def test_the_flow_compares_policies_and_writes_page_run_and_file(copied):
    before = sorted(p for p in (copied / "lake").rglob("*") if "replay" not in p.parts)
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
    for name in ("| live |", "| never |", "| every |", "| calm |", "The oracle uses the outcomes of the whole range"):
        assert name in page
    assert page.count("data:image/png;base64,") == 4
    (file,) = (copied / ".evergreen" / "replays").glob("*.html")
    assert "every: " in file.read_text()
    client = open_resources("tiny").registry.client
    experiment = client.get_experiment_by_name("evergreen/tiny/replays")
    run = client.search_runs([experiment.experiment_id], "tags.`evergreen.role` = 'replay'", max_results=1)[0]
    assert run.data.metrics["every.retrainings"] == 10, "the last one has no later partition"
    assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {
        "page.html",
        "findings.json",
        "plays.json",
        "plots",
    }
    assert sorted(p for p in (copied / "lake").rglob("*") if "replay" not in p.parts) == before
    assert open_resources("tiny").ledger.decisions() == decisions, "a replay changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize("stop_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_replay_that_was_killed_or_cancelled_resumes(copied, monkeypatch, stop_signal):
    """A worker sends SIGTERM when a run is cancelled in the UI."""
    options = {"model": "tiny", "start": START, "end": END, "policies": [EVERY], "oracle": False}
    command = [sys.executable, "-c", f"from flows.replay import replay; replay(**{options!r})"]
    from prefect.settings import get_current_settings

    env = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    models = copied / "lake" / "tiny" / "replay" / "models"
    while len(list(models.glob("*.skops"))) < 6:
        assert process.poll() is None, "it ended before the signal"
    process.send_signal(stop_signal)
    process.wait(60)
    count = len(list(models.glob("*.skops")))
    fitted = []
    real = training.fit_recipe
    monkeypatch.setattr(training, "fit_recipe", lambda *a: fitted.append(a[2]) or real(*a))
    assert replay(**options, return_state=True).is_completed()
    assert len(fitted) <= len(list(models.glob("*.skops"))) - count + 1, "one may have been fitted and not written"


@pytest.mark.parametrize(
    "part", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("models", "steps")), "once"]
)
@pytest.mark.slow
def test_a_part_of_the_cache_may_be_deleted(copied, part):
    _, first = simulate(EVERY)
    shutil.rmtree(copied / "lake" / "tiny" / "replay" / part)
    _, second = simulate(EVERY)
    assert second.steps == first.steps


@pytest.mark.slow
def test_a_partition_that_changes_during_a_replay_is_an_error(copied):
    live = open_resources("tiny")
    res = replay_resources(live, BUILT_IN[NEVER], live.ref(END).as_of)
    res.lake.record(Stage.VALID, START)
    source = day_file(copied, 13)
    pd.read_parquet(source).head(100).to_parquet(source, index=False)
    backfill(model="tiny", start=START, end=START, stages=["ingest", "validate"], mode="stale")
    with pytest.raises(CorruptPartition, match="was written again while the replay ran; run the replay again"):
        res.lake.read(Stage.VALID, START)


@pytest.mark.slow
def test_a_cluster_gives_the_same_results(copied):
    """Two workers, each with some of the policies. They share what they compute."""
    _, never = simulate(NEVER)
    _, every = simulate(EVERY)
    shutil.rmtree(copied / "lake" / "tiny" / "replay")
    options = {"model": "tiny", "start": START, "end": END, "policies": [NEVER, EVERY], "runner": "dask"}
    with cluster() as (address, _):
        assert replay(**options, dask=address, return_state=True).is_completed()
    client = open_resources("tiny").registry.client
    experiment = client.get_experiment_by_name("evergreen/tiny/replays")
    run = client.search_runs([experiment.experiment_id], "tags.`evergreen.role` = 'replay'", max_results=1)[0]
    for one in (never, every):
        assert run.data.metrics[f"{one.policy}.log_loss"] == pytest.approx(mean_loss(one, "log_loss"))


@pytest.mark.slow
def test_policies_side_by_side_give_the_results_of_one_after_another(copied):
    """Four policies at once with an empty cache, compared with each alone."""
    names = (EVERY, NEVER, "drift", "decay")
    with ThreadPoolExecutor(4) as pool:
        side_by_side = dict(zip(names, pool.map(lambda name: simulate(name)[1], names), strict=True))
    shutil.rmtree(copied / "lake" / "tiny" / "replay")
    for name in names:
        _, alone = simulate(name)
        assert side_by_side[name].steps == alone.steps
        assert [(d.as_of, d.rule, d.outcome, d.gate) for d in side_by_side[name].decisions] == [
            (d.as_of, d.rule, d.outcome, d.gate) for d in alone.decisions
        ]


@pytest.mark.slow
def test_a_replay_of_another_config_does_not_change_the_cache_of_the_first(copied):
    """The refit has the same bytes for every holdout, but its measurements differ."""
    _, first = simulate(EVERY)
    path = copied / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    path.write_text(text.replace("holdout: 2D", "holdout: 3D"))
    _, other = simulate(EVERY)
    assert [s.version for s in other.steps] != [s.version for s in first.steps]
    path.write_text(text)
    _, second = simulate(EVERY)
    assert second.steps == first.steps
    assert [d.signals for d in second.decisions] == [d.signals for d in first.decisions]


@pytest.mark.slow
def test_with_late_labels_the_oracle_is_measured_on_the_rows_of_the_policies(copied):
    """Three in ten labels become known two days after the delay. The policy never is the first row of the oracle's table."""
    path = copied / "configs" / "tiny" / "labels.sql"
    late = "CASE WHEN right(parcel, 1) IN ('1', '3', '5') THEN INTERVAL 3 DAY ELSE INTERVAL 1 DAY END"
    path.write_text(path.read_text().replace("INTERVAL 1 DAY", late))
    live, never = simulate(NEVER)
    setup = prepare_replay(START, END, live)
    table = measure_all(setup.begin, setup.refs, live)
    assert len({s.rows for s in never.steps}) > 1, "late labels of the last days are missing"
    assert list(table.rows()) == [s.rows for s in never.steps]
    assert list(table.values("log_loss")[0]) == [s.metrics["log_loss"] for s in never.steps]
    assert (
        evaluate_policies([replace(never, policy="live")], table, "log_loss", 0.0, live.config).standings[0].regret >= 0
    )


@pytest.mark.slow
def test_a_policy_by_another_metric_over_another_config_with_persistence(copied):
    """Replayed on a variant: rows of a day follow one another, and the holdout is longer."""
    config = {"replay": {"series": []}, "training": {"window": {"min_partitions": 5}}, "promotion": {"approval": True}}
    options = {"policies": [NEVER], "oracle": False, "metric": "accuracy", "override": config}
    assert replay(model="tiny", start=START, end=END, **options, return_state=True).is_completed()
    variant = open_resources("tiny", variant=Variant(config))
    page = latest(f"{variant.slug}-replay".replace("_", "-"))["data"]
    assert "Persistence: accuracy 0." in page
    assert "Kappa against the first: live " in page
    assert "A replay has none and promotes every version that passes the gate" in page
    rows = pd.concat([parcels(day) for day in range(12, 24)]).dropna(subset="late")
    here = rows["sent"] >= pd.Timestamp(START, tz="UTC")
    expected = (rows["late"] == rows["late"].shift())[here].mean()
    assert f"accuracy {expected:.4f} by repeating the outcome of the previous row" in page


@pytest.mark.slow
def test_a_training_that_exceeds_the_latency_budget_in_production_is_refused_in_the_replay_too(copied):
    """The budget is below what the live trainings measured. Where there is none of the same moment, the rule counts as passed."""
    live = open_resources("tiny")
    measured = live_queries(live.ledger.promotions())
    assert {refit for _, refit in measured} == {True, False}
    least = min(query.one_row_ms for query in measured.values())
    path = copied / "configs" / "tiny" / "model.yaml"
    path.write_text(
        path.read_text().replace(
            "floor: {log_loss: 0.69}", f"floor: {{log_loss: 0.69}}\n  budgets: {{one_row_ms: {least / 2}}}"
        )
    )
    with pytest.raises(NoChampion, match="latency of one row, ms: REFUSED"):
        simulate(NEVER)


# Bad input and bad days


@pytest.mark.slow
def test_a_range_that_begins_before_there_are_enough_rows(copied):
    with pytest.raises(
        NotEnoughData,
        match=r"training.window.min_partitions is 4, but 2 validated partitions have matured labels as of",
    ):
        replay(model="tiny", start="2024-03-03", end=END)


@pytest.mark.slow
def test_partitions_that_were_never_validated_are_named(copied):
    with pytest.raises(
        MissingPartition,
        match=r"2024-03-25, 2024-03-26 were never validated; run `backfill` for 2024-03-25 to 2024-03-26",
    ):
        replay(model="tiny", start=START, end="2024-03-26")


@pytest.mark.slow
def test_partitions_that_another_config_sketched_are_refused_with_what_to_run(copied):
    path = copied / "configs" / "tiny" / "model.yaml"
    path.write_text(path.read_text().replace("monitoring: {block: H", "monitoring: {block: D"))
    with pytest.raises(
        MissingPartition, match="by another config, or not at all; run `backfill` with mode=stale for 2024-03-01"
    ):
        replay(model="tiny", start=START, end=END)


@pytest.mark.slow
def test_an_unknown_policy_metric_or_key_is_refused_before_anything_is_done(copied):
    for wrong in ({"policies": ["evry"]}, {"metric": "loss"}, {"override": {"gaet": {}}}):
        with pytest.raises(ConfigError):
            replay(model="tiny", start=START, end=END, **wrong)
    assert not (copied / "lake" / "tiny" / "replay").exists()


def test_if_no_first_champion_passes_the_gate_the_error_has_the_reason(copied):
    with pytest.raises(NoChampion, match="no first champion as of 2024-03-15: floor: log_loss"):
        replay(
            model="tiny",
            start=START,
            end=END,
            policies=[NEVER],
            oracle=False,
            override={"gate": {"floor": {"log_loss": 0.01}}},
        )


@pytest.mark.slow
def test_a_blocked_partition_and_one_without_outcomes_are_skipped_and_shown(copied):
    """As in production: the first is not scored, the second not assessed, and the others continue."""
    parcels(14).assign(weight=1000.0).to_parquet(day_file(copied, 14), index=False)
    parcels(15).assign(late=float("nan"), arrived=float("nan")).to_parquet(day_file(copied, 15), index=False)
    backfill(model="tiny", start="2024-03-15", end="2024-03-16", mode="stale", return_state=True)
    _, replayed = simulate(NEVER)
    notes = {s.partition: s.note for s in replayed.steps if s.note}
    assert notes["2024-03-15"].startswith("blocked: ")
    assert notes["2024-03-16"] == "no outcomes"
    assert len(notes) == 2
    replay(model="tiny", start=START, end=END, policies=[NEVER], oracle=False)
    assert "Skipped, as in production: 2024-03-15 (blocked: " in latest("tiny-replay")["data"]


# Leaks


@pytest.mark.slow
def test_a_feature_from_the_next_partition_is_refused(copied, monkeypatch):
    """Scoring is changed to read the next day."""
    from tasks.steps import score as scoring

    real = scoring.predict

    def peek(model, frame, config):
        tomorrow = frame["sent"].max() + pd.Timedelta(1, "D")
        shared["lake"].read(Stage.VALID, f"{tomorrow:%Y-%m-%d}")
        return real(model, frame, config)

    live = open_resources("tiny")
    setup = prepare_replay(START, END, live)
    shared = {}
    from tasks.replay import simulate as module

    original = module.replay_resources
    monkeypatch.setattr(module, "replay_resources", lambda *args: shared.setdefault("res", original(*args)))
    monkeypatch.setattr(scoring, "predict", lambda *args: (shared.update(lake=shared["res"].lake), peek(*args))[1])
    with pytest.raises(FutureRead, match="the replay read 2024-03-15"):
        simulate_policy(NEVER, BUILT_IN[NEVER], setup.begin, setup.refs, live)


@pytest.mark.slow
def test_an_outcome_before_it_matured_is_refused(copied, monkeypatch):
    """Collecting is changed to return all labels of the source, though some become known a week later."""
    from tasks.steps import collect as labels

    path = copied / "configs" / "tiny" / "labels.sql"
    late = "CASE WHEN right(parcel, 1) IN ('1', '3', '5') THEN INTERVAL 7 DAY ELSE INTERVAL 1 DAY END"
    path.write_text(path.read_text().replace("INTERVAL 1 DAY", late))
    live = open_resources("tiny")
    setup = prepare_replay(START, END, live)
    assert any(0 < s.rows < 120 for s in simulate_policy(NEVER, BUILT_IN[NEVER], setup.begin, setup.refs, live).steps)
    real, later = labels.classify_labels, pd.Timestamp("2030-01-01", tz="UTC")
    shutil.rmtree(copied / "lake" / "tiny" / "replay")
    monkeypatch.setattr(
        labels, "classify_labels", lambda labels, rows, config, as_of: real(labels, rows, config, later)
    )
    with pytest.raises(FutureRead, match="the replay read an outcome that became known at"):
        simulate_policy(NEVER, BUILT_IN[NEVER], setup.begin, setup.refs, live)
