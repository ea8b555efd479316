"""The controller through the flows: decay, hindsight and rollback, what is due, wishes, failures. The tiny model plays it."""

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
from tasks.lifecycle.facts import distrust, past_errors
from tasks.lifecycle.policy import decide
from tasks.lifecycle.retraining import situation
from tasks.orchestration.events import flush
from tasks.resources import Resources, open_resources
from tests.conftest import SHIFTED_FROM, day_file, parcels
from tests.flows.conftest import parcels_of

NOBODY = "00000000-0000-0000-0000-000000000001"
"""A flow run that the server does not know, as that of a killed run on a server that was set up anew."""


def configure(folder: Path, **changes: str) -> None:
    """Replace top-level lines of the tiny model's YAML by their key."""
    path = folder / "configs" / "tiny" / "model.yaml"
    lines = path.read_text().splitlines()
    for key, value in changes.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        lines[at] = f"{key}: {value}"
    path.write_text("\n".join(lines))


def day(n: int) -> str:
    """The partition of the n-th day, counted from nought."""
    return f"2024-03-{n + 1:02d}"


def pass_by(*days: int) -> None:
    for n in days:
        process(model="tiny", partition=day(n))
        assess(model="tiny", partition=day(n))


def shift(folder: Path, *days: int, seed: int = 0) -> None:
    """Give some days the rows of a shifted one.

    Tests that look at events need a `seed` of their own: the same rows under the same champion are the same fact, and the server that
    tests share keeps one event of each.
    """
    for n in days:
        parcels_of(folder, n, SHIFTED_FROM + n + 100 * seed)


def calm(folder: Path, *days: int) -> None:
    """Give some days the rows of a steady one."""
    for n in days:
        parcels_of(folder, n, n % SHIFTED_FROM)


def events(name: str) -> list[dict]:
    body = {"filter": {"event": {"name": [name]}, "resource": {"id": ["evergreen.model.tiny"]}, "order": "ASC"}}
    with get_client(sync_client=True) as client:
        return client._client.post("/events/filter", json=body).json()["events"]


DECAYING = "{block: H, sample_rows: 1000, decay: {partitions: 3}}"


@pytest.mark.slow
def test_a_loss_that_rose_on_pooled_days_is_a_fact_that_retrains_where_drift_does_not_count(champion):
    shift(champion, 10, 11, 12, seed=1)
    configure(champion, monitoring=DECAYING, retraining="{signals: {drift: null, decay: true}}")
    res = open_resources("tiny")
    pass_by(10, 11, 12)
    kinds = {(f.kind, f.partition) for f in res.ledger.facts()}
    assert ("decay", day(12)) in kinds
    fact = next(f for f in res.ledger.facts() if (f.kind, f.partition) == ("decay", day(12)))
    assert fact.payload["partitions"] == [day(10), day(11), day(12)]
    assert fact.payload["value"] > fact.payload["expected"] + fact.payload["least"]
    drift = next(f for f in res.ledger.facts() if f.kind == "drift")
    retrain(model="tiny", partition=drift.partition, fact=drift.id)
    assert res.ledger.decision(drift.id).rule == "does not count"
    retrain(model="tiny", partition=day(12), fact=fact.id)
    assert (res.ledger.decision(fact.id).action, res.ledger.decision(fact.id).rule) == ("retrain", "decay")


@pytest.mark.slow
def test_an_estimated_decay_counts_only_once_estimates_have_proved_themselves(champion):
    """Rows about which the model is unsure are seen before labels come; whether that counts depends on the estimates before."""
    rules = "{block: H, sample_rows: 1000, decay: {least: 0.000001, partitions: 3}}"
    configure(champion, monitoring=rules, retraining="{signals: {drift: null, decay: false, estimate: {after: 5}}}")
    res = open_resources("tiny")
    hard_rows(champion, 10, 11, 12)
    pass_by(10, 11, 12)
    fact = next(f for f in res.ledger.facts() if (f.kind, f.partition) == ("estimate", day(12)))
    assert fact.payload["value"] > fact.payload["expected"]
    assert fact.payload["not_trusted"] == "estimates were held against 2 matured partitions, 5 are needed"
    assert decide_about(fact.id, res).rule == "not trusted"
    ref = res.ref(day(12))
    worst = max(map(abs, past_errors(ref, res)))
    assert distrust(ref, worst * 1.01, 2, res) == ""
    assert "was wrong by" in distrust(ref, worst * 0.99, 2, res)


def hard_rows(folder: Path, *days: int) -> None:
    """Give some days rows about which the model can only be unsure: weights near nought."""
    for n in days:
        frame = parcels(n)
        frame["weight"] = frame["weight"] / 100
        frame.to_parquet(day_file(folder, n), index=False)


def decide_about(fact_id: str, res: Resources) -> Decision:
    retrain(model="tiny", partition="x", fact=fact_id)
    return res.ledger.decision(fact_id)


LOOKING_BACK = "{cool_down: 0D, signals: {drift: null, decay: false}, hindsight: {partitions: 2, rollback: true}}"
NEWEST = "  window: {partitions: 8, min_partitions: 4, min_rows: 100, holdout: 2D}"


def turned(folder: Path) -> Resources:
    """A champion of eight steady days, replaced after eight shifted ones by one that has learned only from those."""
    configure(folder, retraining=LOOKING_BACK)
    path = folder / "configs" / "tiny" / "model.yaml"
    text = path.read_text()
    path.write_text(text.replace("  window: {min_partitions: 4, min_rows: 200, holdout: 2D}", NEWEST))
    shift(folder, *range(8, 16))
    backfill(model="tiny", start=day(0), end=day(7))
    train(model="tiny", reason="first champion")
    res = open_resources("tiny")
    backfill(model="tiny", start=day(8), end=day(15))
    train(model="tiny", reason="the world has turned")
    assert len(res.ledger.champions()) == 2
    return res


@pytest.mark.slow
def test_a_promotion_that_helped_says_so_after_enough_matured_partitions_and_the_version_before_scored_until_then(
    world,
):
    shift(world, 16, 17, 18)
    res = turned(world)
    first, second = res.ledger.champions()
    pass_by(16)
    assert res.ledger.hindsights() == []
    former = res.lake.done(Stage.FORMER, day(16))
    assert former.data["version"] == first.version
    pass_by(17)
    (judged,) = res.ledger.hindsights()
    assert (judged.verdict, judged.version, judged.previous) == ("helped", second.version, first.version)
    assert (judged.partitions, judged.sequence, judged.rows) == ((day(16), day(17)), second.sequence, 2 * 147)
    assert judged.gain.value > judged.gain.lower > 0
    pass_by(18)
    assert res.lake.record(Stage.FORMER, day(18)) is None, "it is known by then"
    assert res.ledger.hindsights() == [judged]
    assert res.ledger.champion().sequence == second.sequence


def test_a_promotion_that_hurt_is_rolled_back_from_and_not_promoted_again_by_automation(world):
    calm(world, 16, 17, 18)
    res = turned(world)
    first, second = res.ledger.champions()
    pass_by(16, 17)
    (judged,) = res.ledger.hindsights()
    assert (judged.verdict, judged.version) == ("hurt", second.version)
    champion = res.ledger.champion()
    assert (champion.version, champion.action, champion.by) == (first.version, "rollback", "evergreen")
    assert "hurt" in champion.reason
    assert res.registry.alias() == first.version
    pass_by(18)
    assert res.lake.done(Stage.PREDICTIONS, day(18)).data["version"] == first.version
    assert len(res.ledger.hindsights()) == 1, "a rollback is not judged"


@pytest.mark.slow
def test_a_training_that_is_due_by_new_labels_is_told_once_and_decided(champion):
    configure(champion, retraining="{cool_down: 1D, signals: {drift: null, growth: 0.5}}")
    res = open_resources("tiny")
    pass_by(10, 11, 12)
    assert res.ledger.facts() == []
    pass_by(13, 14)
    (fact,) = [f for f in res.ledger.facts() if f.kind == "due"]
    assert "labels have matured since the champion's window" in fact.payload["told"]
    assert fact.payload["new_labels"] >= 0.5 * res.registry.recall(res.ledger.champion().version).rows
    assert (decide_about(fact.id, res).action, res.ledger.decision(fact.id).rule) == ("retrain", "due")
    assess(model="tiny", partition=day(14))
    assert [f.kind for f in res.ledger.facts()] == ["due"], "the training has just been"


def test_a_person_may_retrain_at_any_time_and_stands_with_the_reason(champion):
    configure(champion, retraining="{enabled: false}")
    res = open_resources("tiny")
    pass_by(10)
    state = retrain(model="tiny", by="ann", reason="new routes", return_state=True)
    (decision,) = res.ledger.decisions()
    assert (decision.rule, decision.reason) == ("person", "ann: new routes")
    assert decision.outcome in ("promoted", "refused")
    assert "ann: new routes" in state.message


def test_a_retraining_that_fails_is_tried_again_as_often_as_said_and_then_left_alone(champion):
    configure(champion, retraining="{cool_down: 0D, budget: {runs: 1, period: 60D}}")
    res = open_resources("tiny")
    shift(champion, 10, seed=2)
    pass_by(10)
    (fact,) = res.ledger.facts()
    damaged = res.lake.path(Stage.VALID, day(4))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-9])
    with pytest.raises(Exception, match="is not the file that its record tells of"):
        retrain(model="tiny", partition=day(10), fact=fact.id)
    failed = res.ledger.decision(fact.id)
    assert (failed.outcome, failed.detail[:16]) == ("failed", "CorruptPartition")
    for _ in range(2):
        remind()
    (again,) = [f for f in res.ledger.facts() if f.kind == "retry"]
    assert (again.as_of, again.partition, again.payload["attempt"]) == (fact.as_of, fact.partition, 2)
    with pytest.raises(Exception, match="is not the file that its record tells of"):
        retrain(model="tiny", partition=day(10), fact=again.id)
    remind()
    assert [f.kind for f in res.ledger.facts()] == ["drift", "retry"], "two attempts, and no loop"
    damaged.write_bytes(whole)


def test_a_killed_retraining_is_closed_and_tried_again_and_then_succeeds(champion):
    configure(champion, retraining="{cool_down: 0D}")
    res = open_resources("tiny")
    shift(champion, 10, seed=3)
    pass_by(10)
    (fact,) = res.ledger.facts()
    res.ledger.record_decision(Decision(fact.id, "tiny", fact.as_of, "retrain", "drift", "why", flow_run=NOBODY))
    remind()
    assert res.ledger.decision(fact.id).outcome == "failed"
    (again,) = [f for f in res.ledger.facts() if f.kind == "retry"]
    retrain(model="tiny", partition=day(10), fact=again.id)
    assert res.ledger.decision(again.id).outcome in ("promoted", "refused")
    assert res.ledger.in_flight() is None
    remind()
    assert len(res.ledger.facts()) == 2


@pytest.mark.slow
def test_nothing_new_to_learn_declines_and_labels_that_never_come_are_nothing_new(champion):
    for n in range(10, 12):
        frame = parcels(SHIFTED_FROM + n)
        frame = parcels(n).assign(weight=frame["weight"], late=float("nan"))
        frame.to_parquet(day_file(champion, n), index=False)
    configure(champion, retraining="{cool_down: 0D}")
    res = open_resources("tiny")
    pass_by(10)
    (fact,) = res.ledger.facts()
    assert decide_about(fact.id, res).rule == "nothing new"


def test_every_decision_is_the_pure_policys_and_is_told_as_an_event_declined_ones_too(champion):
    configure(champion, retraining="{enabled: false}")
    shift(champion, 10, seed=4)
    res = open_resources("tiny")
    pass_by(10)
    (fact,) = res.ledger.facts()
    expected = decide(fact, situation(fact, res), res.config.retraining)
    made = decide_about(fact.id, res)
    assert (made.action, made.rule, made.reason) == (expected.action, expected.rule, expected.reason)
    event = wait_for("evergreen.retraining.decided", fact.id)
    assert (event["payload"]["action"], event["payload"]["rule"]) == ("decline", "disabled")
    assert event["payload"]["signals"]["drift"]["detected"] is True


def wait_for(name: str, fact: str) -> dict:
    """The event about a fact; events are stored some time after they are sent."""
    assert flush()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for event in events(name):
            if event["payload"]["fact_id"] == fact:
                return event
        time.sleep(0.3)
    raise AssertionError(f"no event {name} about fact {fact}")
