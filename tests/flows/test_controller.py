"""The retraining policy through the flows: decay, measured effect and rollback, due trainings, requests, failures."""

import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.remind import remind
from flows.retrain import retrain
from flows.train import train
from tasks.contracts import Decision, Stage
from tasks.lifecycle.facts import distrust_reason
from tasks.lifecycle.policy import decide
from tasks.lifecycle.policy_inputs import policy_inputs
from tasks.orchestration.events import flush
from tasks.resources import Resources, open_resources
from tests.conftest import SHIFTED_FROM, day_file, parcels
from tests.flows.conftest import parcels_of

UNKNOWN_RUN = "00000000-0000-0000-0000-000000000001"
"""The id of a flow run that the server does not have, such as that of a killed run after the server was replaced."""


def configure(folder: Path, **changes: str) -> None:
    """Replace top-level lines of the tiny model's YAML by their key."""
    path = folder / "configs" / "tiny" / "model.yaml"
    lines = path.read_text().splitlines()
    for key, value in changes.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        lines[at] = f"{key}: {value}"
    path.write_text("\n".join(lines))


def day(n: int) -> str:
    """Return the partition of the n-th day, counted from 0."""
    return f"2024-03-{n + 1:02d}"


def process_days(*days: int) -> None:
    for n in days:
        process(model="tiny", partition=day(n))
        assess(model="tiny", partition=day(n))


def shift(folder: Path, *days: int, seed: int = 0) -> None:
    """Give some days the rows of a shifted one.

    Tests that read events need different seeds: the same rows under the same champion are the same fact, and the server that tests
    share keeps one event of each.
    """
    for n in days:
        parcels_of(folder, n, SHIFTED_FROM + n + 100 * seed)


def make_steady(folder: Path, *days: int) -> None:
    """Give some days the rows of a steady one."""
    for n in days:
        parcels_of(folder, n, n % SHIFTED_FROM)


def events(name: str) -> list[dict]:
    body = {"filter": {"event": {"name": [name]}, "resource": {"id": ["evergreen.model.tiny"]}, "order": "ASC"}}
    with get_client(sync_client=True) as client:
        return client._client.post("/events/filter", json=body).json()["events"]


DECAYING = "{block: H, sample_rows: 1000, decay: {partitions: 3}}"


@pytest.mark.slow
def test_a_risen_loss_on_pooled_days_is_a_fact_that_retrains_even_if_drift_does_not_count(champion):
    shift(champion, 10, 11, 12, seed=1)
    configure(champion, monitoring=DECAYING, retraining="{signals: {drift: null, decay: true}}")
    res = open_resources("tiny")
    process_days(10, 11, 12)
    kinds = {(f.kind, f.partition) for f in res.ledger.facts()}
    assert ("decay", day(12)) in kinds
    fact = next(f for f in res.ledger.facts() if (f.kind, f.partition) == ("decay", day(12)))
    assert fact.payload["partitions"] == [day(10), day(11), day(12)]
    assert fact.payload["value"] > fact.payload["expected"] + fact.payload["least"]
    assert (
        fact.payload["skill"] < 0 < fact.payload["skill_lower"] < fact.payload["expected_skill"] - fact.payload["skill"]
    )
    assert fact.payload["told"].startswith(
        f"skill {fact.payload['skill']:.1%}, expected {fact.payload['expected_skill']:.1%}"
    )
    drift = next(f for f in res.ledger.facts() if f.kind == "drift")
    retrain(model="tiny", partition=drift.partition, fact=drift.id)
    assert res.ledger.decision(drift.id).rule == "does not count"
    retrain(model="tiny", partition=day(12), fact=fact.id)
    assert (res.ledger.decision(fact.id).action, res.ledger.decision(fact.id).rule) == ("retrain", "decay")


@pytest.mark.slow
def test_an_estimated_decay_counts_only_after_accurate_estimates(champion):
    """Rows with uncertain predictions raise the estimate before labels come. Whether that counts depends on earlier estimates."""
    rules = "{block: H, sample_rows: 1000, decay: {least: 0.000001, partitions: 3}}"
    configure(champion, monitoring=rules, retraining="{signals: {drift: null, decay: false, estimate: {after: 5}}}")
    res = open_resources("tiny")
    hard_rows(champion, 10, 11, 12)
    process_days(10, 11, 12)
    fact = next(f for f in res.ledger.facts() if (f.kind, f.partition) == ("estimate", day(12)))
    assert fact.payload["value"] > fact.payload["expected"]
    assert fact.payload["not_trusted"] == "estimates were compared with labels in 2 matured partitions, 5 are required"
    assert decide_about(fact.id, res).rule == "not trusted"
    assert distrust_reason(res.lake.record(Stage.ESTIMATES, day(12)), 2, res) == ""
    lower, upper = fact.payload["interval"]
    assert fact.payload["expected"] < lower < fact.payload["value"] < upper


def hard_rows(folder: Path, *days: int) -> None:
    """Give some days rows with uncertain predictions: weights near 0."""
    for n in days:
        frame = parcels(n)
        frame["weight"] = frame["weight"] / 100
        frame.to_parquet(day_file(folder, n), index=False)


def decide_about(fact_id: str, res: Resources) -> Decision:
    retrain(model="tiny", partition="x", fact=fact_id)
    decision = res.ledger.decision(fact_id)
    assert decision
    return decision


MEASURING = "{cool_down: 0D, signals: {drift: null, decay: false}, hindsight: {partitions: 2, rollback: true}}"
NEWEST = "  window: {partitions: 8, min_partitions: 4, min_rows: 100, holdout: 2D}"


def replaced_champion(folder: Path) -> Resources:
    """Train a champion on eight steady days, and replace it after eight shifted days by one that learned only from those."""
    configure(folder, retraining=MEASURING)
    path = folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    path.write_text(text.replace("  window: {min_partitions: 4, min_rows: 200, holdout: 2D}", NEWEST))
    shift(folder, *range(8, 16))
    backfill(model="tiny", start=day(0), end=day(7))
    train(model="tiny", reason="first champion")
    res = open_resources("tiny")
    backfill(model="tiny", start=day(8), end=day(15))
    train(model="tiny", reason="the data have changed")
    assert len(res.ledger.champions()) == 2
    return res


@pytest.mark.slow
def test_a_promotion_that_helped_is_recorded_as_that_after_enough_matured_partitions(
    workspace,
):
    shift(workspace, 16, 17, 18)
    res = replaced_champion(workspace)
    first, second = res.ledger.champions()
    process_days(16)
    assert res.ledger.hindsights() == []
    previous = res.lake.done(Stage.FORMER, day(16))
    assert previous.data["version"] == first.version
    process_days(17)
    (effect,) = res.ledger.hindsights()
    assert (effect.verdict, effect.version, effect.previous) == ("helped", second.version, first.version)
    assert (effect.partitions, effect.sequence, effect.rows) == ((day(16), day(17)), second.sequence, 2 * 147)
    assert effect.gain.value > effect.gain.lower > 0
    process_days(18)
    assert res.lake.record(Stage.FORMER, day(18)) is None, "the effect is known"
    assert res.ledger.hindsights() == [effect]
    assert res.ledger.champion().sequence == second.sequence


@pytest.mark.slow
def test_a_promotion_that_hurt_is_rolled_back_from_and_not_promoted_again_by_automation(workspace):
    make_steady(workspace, 16, 17, 18)
    res = replaced_champion(workspace)
    first, second = res.ledger.champions()
    process_days(16, 17)
    (effect,) = res.ledger.hindsights()
    assert (effect.verdict, effect.version) == ("hurt", second.version)
    champion = res.ledger.champion()
    assert (champion.version, champion.action, champion.by) == (first.version, "rollback", "evergreen")
    assert "hurt" in champion.reason
    assert res.registry.alias() == first.version
    process_days(18)
    assert res.lake.done(Stage.PREDICTIONS, day(18)).data["version"] == first.version
    assert len(res.ledger.hindsights()) == 1, "the effect of a rollback is not measured"


@pytest.mark.slow
def test_a_training_that_is_due_by_new_labels_is_one_fact_with_one_decision(champion):
    configure(champion, retraining="{cool_down: 1D, signals: {drift: null, growth: 0.5}}")
    res = open_resources("tiny")
    process_days(10, 11, 12)
    assert res.ledger.facts() == []
    process_days(13, 14)
    (fact,) = [f for f in res.ledger.facts() if f.kind == "due"]
    assert "labels have matured since the champion's window" in fact.payload["told"]
    assert fact.payload["new_labels"] >= 0.5 * res.registry.cached_version(res.ledger.champion().version).rows
    assert (decide_about(fact.id, res).action, res.ledger.decision(fact.id).rule) == ("retrain", "due")
    assess(model="tiny", partition=day(14))
    assert [f.kind for f in res.ledger.facts()] == ["due"], "the training has just run"


@pytest.mark.slow
def test_a_person_may_retrain_at_any_time_and_name_and_reason_are_recorded(champion):
    configure(champion, retraining="{enabled: false}")
    res = open_resources("tiny")
    process_days(10)
    state = retrain(model="tiny", by="ann", reason="new routes", return_state=True)
    (decision,) = res.ledger.decisions()
    assert (decision.rule, decision.reason) == ("person", "ann: new routes")
    assert decision.outcome in ("promoted", "refused")
    assert "ann: new routes" in state.message


@pytest.mark.slow
def test_a_retraining_that_fails_is_retried_as_often_as_declared_and_no_more(champion):
    configure(
        champion, retraining="{signals: {drift: {times: 1, of: 1}}, cool_down: 0D, budget: {runs: 1, period: 60D}}"
    )
    res = open_resources("tiny")
    shift(champion, 10, seed=2)
    process_days(10)
    (fact,) = res.ledger.facts()
    damaged = res.lake.path(Stage.VALID, day(4))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9])
    with pytest.raises(Exception, match="does not match its record"):
        retrain(model="tiny", partition=day(10), fact=fact.id)
    failed = res.ledger.decision(fact.id)
    assert (failed.outcome, failed.detail[:16]) == ("failed", "CorruptPartition")
    for _ in range(2):
        remind()
    (again,) = [f for f in res.ledger.facts() if f.kind == "retry"]
    assert (again.as_of, again.partition, again.payload["attempt"]) == (fact.as_of, fact.partition, 2)
    with pytest.raises(Exception, match="does not match its record"):
        retrain(model="tiny", partition=day(10), fact=again.id)
    remind()
    assert [f.kind for f in res.ledger.facts()] == ["drift", "retry"], "two attempts, and no loop"
    damaged.write_bytes(whole)


@pytest.mark.slow
def test_a_killed_retraining_is_closed_and_retried_and_then_succeeds(champion):
    configure(champion, retraining="{signals: {drift: {times: 1, of: 1}}, cool_down: 0D}")
    res = open_resources("tiny")
    shift(champion, 10, seed=3)
    process_days(10)
    (fact,) = res.ledger.facts()
    res.ledger.record_decision(Decision(fact.id, "tiny", fact.as_of, "retrain", "drift", "why", flow_run=UNKNOWN_RUN))
    remind()
    assert res.ledger.decision(fact.id).outcome == "failed"
    (again,) = [f for f in res.ledger.facts() if f.kind == "retry"]
    retrain(model="tiny", partition=day(10), fact=again.id)
    assert res.ledger.decision(again.id).outcome in ("promoted", "refused")
    assert res.ledger.in_flight() is None
    remind()
    assert len(res.ledger.facts()) == 2


@pytest.mark.slow
def test_without_new_labels_the_policy_declines_and_rows_that_never_get_labels_do_not_count(champion):
    for n in range(10, 12):
        frame = parcels(SHIFTED_FROM + n)
        frame = parcels(n).assign(weight=frame["weight"], late=float("nan"))
        frame.to_parquet(day_file(champion, n), index=False)
    configure(champion, retraining="{signals: {drift: {times: 1, of: 1}}, cool_down: 0D}")
    res = open_resources("tiny")
    process_days(10)
    (fact,) = res.ledger.facts()
    assert decide_about(fact.id, res).rule == "nothing new"


@pytest.mark.slow
def test_every_decision_is_that_of_the_policy_function_and_is_sent_as_an_event_declined_ones_too(champion):
    configure(champion, retraining="{enabled: false}")
    shift(champion, 10, seed=4)
    res = open_resources("tiny")
    process_days(10)
    (fact,) = res.ledger.facts()
    expected = decide(fact, policy_inputs(fact, res), res.config.retraining)
    decision = decide_about(fact.id, res)
    assert (decision.action, decision.rule, decision.reason) == (expected.action, expected.rule, expected.reason)
    event = wait_for("evergreen.retraining.decided", fact.id)
    assert (event["payload"]["action"], event["payload"]["rule"]) == ("decline", "disabled")
    assert event["payload"]["signals"]["drift"]["detected"] is True


def wait_for(name: str, fact: str) -> dict:
    """Wait for the event about a fact. Events are stored some time after they are sent."""
    assert flush()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in events(name):
            if event["payload"]["fact_id"] == fact:
                return event
        time.sleep(0.3)
    raise AssertionError(f"no event {name} about fact {fact}")
