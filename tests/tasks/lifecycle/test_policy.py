"""The rules of the retraining policy. All times are as-of times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from configs.retraining import Budget, DriftSignal, EstimateSignal, Retraining, Signals
from tasks.contracts import Action, Decision, ExpectedGain, Fact, FactKind, PolicyInputs, Promotion
from tasks.lifecycle.facts import retry_fact
from tasks.lifecycle.policy import decide, refusals


def day(n: int) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n)


def fact(kind: FactKind = "drift", /, **payload) -> Fact:
    return Fact("f", "m", kind, "2013-05", day(100), {"told": "5 columns drifted"} | payload)


def promoted(as_of: int, action: Action = "promote") -> Promotion:
    return Promotion("m", 1, action, "2", None, day(as_of), day(as_of - 1), "evergreen", "first")


def retrained(as_of: int, outcome: Literal["", "promoted", "staged", "refused", "failed"] = "") -> Decision:
    return Decision("g", "m", day(as_of), "retrain", "drift", "", outcome=outcome)


BY_SIGNALS = Signals()
RULES = Retraining(signals=BY_SIGNALS, cool_down=timedelta(days=45))
NOW = PolicyInputs(champion=promoted(30), trained_at=day(30), drifted=(True,), new_labels=500)


def decide_with(about: Fact | None = None, rules: Retraining = RULES, **changes) -> Decision:
    return decide(about or fact(), replace(NOW, **changes), rules)


def spent(*days: int) -> tuple[tuple[datetime, float], ...]:
    return tuple((day(n), 1.0) for n in days)


def signals(**values) -> Retraining:
    return Retraining(signals=Signals(**values))


def test_drift_after_the_cool_down_with_new_labels_retrains_with_a_reason():
    decision = decide_with()
    assert (decision.action, decision.rule, decision.fact_id, decision.as_of) == ("retrain", "drift", "f", day(100))
    assert decision.reason == "5 columns drifted, 70 days since the last training"


@pytest.mark.parametrize(
    ("changes", "rules", "rule"),
    [
        ({}, Retraining(signals=BY_SIGNALS, enabled=False), "disabled"),
        ({"champion": None}, RULES, "no champion"),
        ({"in_flight": retrained(90)}, RULES, "in flight"),
        ({"in_shadow": promoted(60, "stage")}, RULES, "in shadow"),
        ({"trained_at": day(100)}, RULES, "superseded"),
        ({"trained_at": day(56)}, RULES, "cool-down"),
        ({"last_judged": retrained(60, "refused")}, RULES, "cool-down"),
        ({"new_labels": 0}, RULES, "nothing new"),
        ({"spent": spent(1, 30, 60, 90)}, Retraining(signals=BY_SIGNALS, budget=Budget(runs=4)), "budget"),
        ({"spent": ((day(5), 600.0),)}, Retraining(signals=BY_SIGNALS, budget=Budget(seconds=600)), "budget"),
        ({}, signals(drift=None), "does not count"),
        ({"drifted": (True, False, True)}, signals(drift=DriftSignal(times=3, of=3)), "not often enough"),
        ({"drifted": ()}, signals(), "not often enough"),
    ],
)
def test_each_rule_declines_by_its_name(changes, rules, rule):
    decision = decide_with(rules=rules, **changes)
    assert (decision.action, decision.rule) == ("decline", rule)
    assert decision.reason


def test_the_reason_names_the_partitions_that_count():
    """Partitions that an earlier champion scored do not count, even if they drifted."""
    decision = decide_with(rules=signals(drift=DriftSignal(times=2, of=3)), drifted=(True,))
    assert decision.reason == "drift in 1 of the newest 1 partition that this champion scored, 2 of 3 are required"


def test_only_drift_in_the_last_m_partitions_counts():
    rules = signals(drift=DriftSignal(times=2, of=3))
    assert decide_with(rules=rules, drifted=(False, True, True)).action == "retrain"
    assert decide_with(rules=rules, drifted=(True, False, True)).action == "retrain"
    assert decide_with(rules=rules, drifted=(True, True, False, False, True)).rule == "not often enough"


@pytest.mark.parametrize(
    ("about", "off", "on"),
    [
        (fact("decay"), signals(decay=False), signals(decay=True)),
        (fact("estimate", not_trusted=""), signals(estimate=None), signals(estimate=EstimateSignal(after=3))),
        (fact("drift", of="outcomes"), signals(target=False), signals(target=True)),
        (fact("retry", kind="decay", attempt=2, error="MemoryError"), signals(decay=False), signals()),
    ],
    ids=["decay", "estimate", "outcomes", "retry of a decay"],
)
def test_a_kind_of_fact_counts_only_if_model_yaml_enables_it(about, off, on):
    assert decide_with(about, off, drifted=()).rule == "does not count"
    assert decide_with(about, on, drifted=()).action == "retrain"


def test_an_estimate_that_is_not_trusted_never_retrains_and_the_reason_is_recorded():
    rules = signals(estimate=EstimateSignal(after=3))
    decision = decide_with(fact("estimate", not_trusted="1 of 3 partitions"), rules)
    assert (decision.rule, decision.reason) == ("not trusted", "1 of 3 partitions")
    assert decide_with(fact("estimate"), rules).rule == "not trusted"


def test_the_end_of_the_cool_down_is_exclusive():
    assert decide_with(trained_at=day(55)).action == "retrain"


def test_a_rollback_is_not_a_training():
    """The cool-down counts from the training before the rollback."""
    rolled_back = promoted(99, "rollback")
    assert decide_with(champion=rolled_back).action == "retrain"


def test_a_fact_about_an_earlier_champion_is_superseded():
    assert decide_with(fact("decay", champion="1")).rule == "superseded"
    assert decide_with(fact("decay", champion="2")).action == "retrain"


def test_a_manual_request_is_subject_only_to_the_rules_for_one_training_at_a_time():
    request = fact("person", by="ann", reason="new routes")
    rules = Retraining(enabled=False, cool_down=timedelta(days=400), budget=Budget(runs=1))
    decision = decide_with(request, rules, spent=spent(*range(9)), new_labels=0, drifted=())
    assert (decision.action, decision.rule, decision.reason) == ("retrain", "person", "ann: new routes")
    retry = fact("retry", kind="person", attempt=2, error="MemoryError", told="requested by ann")
    assert decide_with(retry, rules, spent=spent(*range(9)), new_labels=0, drifted=()).action == "retrain"
    for one_at_a_time in ({"in_flight": retrained(90)}, {"in_shadow": promoted(60, "stage")}, {"champion": None}):
        assert decide_with(request, rules, **one_at_a_time).action == "decline"


@pytest.mark.parametrize(
    ("about", "rules"),
    [
        (fact("drift"), signals()),
        (fact("drift", of="outcomes"), signals(drift=None, target=True)),
        (fact("estimate", not_trusted=""), signals(estimate=EstimateSignal(after=3))),
        (fact("due"), signals()),
    ],
    ids=["drift", "outcomes", "estimate", "due"],
)
def test_a_failed_retraining_is_retried_for_every_kind_of_fact(about, rules):
    """The retry has the kind and the payload of the first attempt's fact."""
    failed = replace(decide_with(about, rules), outcome="failed", detail="MemoryError")
    assert failed.action == "retrain"
    retry = retry_fact(failed, about, rules.attempts)
    assert decide_with(retry, rules).action == "retrain"
    other = replace(retry, payload={**retry.payload, "champion": "another"})
    assert decide_with(other, rules).rule == "superseded"


def test_the_retry_of_a_manual_request_is_superseded_by_a_later_training():
    request = fact("person", by="ann", reason="new routes")
    retry = retry_fact(replace(decide_with(request), outcome="failed"), request, RULES.attempts)
    assert decide_with(retry).action == "retrain"
    assert decide_with(retry, trained_at=retry.as_of).rule == "superseded"


def test_the_reason_of_a_retry_has_its_attempt_and_the_error():
    decision = decide_with(fact("retry", kind="drift", attempt=2, error="MemoryError: no room"))
    assert (decision.action, decision.rule) == ("retrain", "retry")
    assert decision.reason == "attempt 2 after MemoryError: no room; 5 columns drifted"


def test_a_decision_has_the_values_that_the_policy_used():
    values = decide_with(spent=((day(3), 12.0), (day(4), 0.34)), latest={"decay": {"rise": 0.1}}).signals
    assert values["kind"] == "drift"
    assert (values["drifted"], values["new_labels"], values["runs"], values["seconds"]) == ([True], 500, 2, 12.3)
    assert (values["decay"], values["last_training"]) == ({"rise": 0.1}, day(30).isoformat())


def test_the_first_rule_that_refuses_decides_and_refusals_lists_all():
    now = replace(NOW, in_flight=retrained(90), new_labels=0, spent=spent(*range(95, 100)))
    rules = Retraining(signals=BY_SIGNALS, enabled=False, budget=Budget(runs=1))
    assert [rule for rule, _ in refusals(fact(), now, rules)] == ["in flight", "disabled", "budget", "nothing new"]
    assert decide(fact(), now, rules).rule == "in flight"


def test_drift_rules_that_can_never_be_met_are_a_config_error():
    with pytest.raises(ValueError, match="3 of the last 2 partitions can never have drifted"):
        DriftSignal(times=3, of=2)


def test_the_refusal_of_a_change_is_no_outcome_if_a_refresh_was_to_follow(tiny):
    """A run that dies in between is repeated. Without this, the champion would stay old, and the refusal would begin the cool-down."""
    from tasks.lifecycle.retraining import ledger_outcome
    from tasks.resources import open_resources

    ledger, moment = open_resources("tiny").ledger, datetime(2024, 3, 12, tzinfo=UTC)
    decision = Decision(
        "f", "tiny", moment, "retrain", "due", "why", recorded_at=datetime.now(UTC) - timedelta(minutes=1)
    )

    def refuse(number: str, **evidence: Any) -> None:
        row = Promotion("tiny", 0, "refuse", number, None, moment, moment, "evergreen", "worse", evidence, "", "", 0)
        ledger.append(row)

    refuse("5", refresh_follows=True)
    assert ledger_outcome(decision, ledger) is None
    refuse("6")
    assert ledger_outcome(decision, ledger) == ("refused", "worse", "6")


def worth(value: float, cost: float = 0.01) -> dict[str, ExpectedGain]:
    return {"gain": ExpectedGain(value, value - 0.005, value + 0.005, cost, 0.002, 3, 12, (2 * cost / 0.002) ** 0.5)}


GAIN = Retraining(cost=0.01)


@pytest.mark.parametrize("kind", ["drift", "decay", "estimate", "due"])
def test_with_a_cost_every_fact_is_judged_by_the_expected_gain(kind):
    """The number of drifted partitions does not matter, and neither does `not_trusted`."""
    assert decide_with(fact(kind), GAIN, drifted=(), **worth(0.0101)).action == "retrain"
    decision = decide_with(fact(kind), GAIN, **worth(0.0099))
    assert (decision.action, decision.rule) == ("decline", "expected gain")
    assert decision.reason == (
        "a retraining is expected to gain 0.0099 (95 % 0.0049 to 0.0149) and costs 0.01: the champion's loss rises by 0.0020 per "
        "partition, as measured on 12 partitions, 3 partitions since the last training; at this rise one is due after 4"
    )
    assert decision.signals["expected_gain"]["cost"] == 0.01


def test_a_fact_of_the_same_partition_after_a_training_is_superseded_whatever_it_would_gain():
    assert decide_with(fact("due"), GAIN, trained_at=day(100), **worth(0.0)).rule == "superseded"


def test_without_a_cost_only_the_calendar_counts():
    assert decide_with(fact("due"), Retraining()).action == "retrain"
    assert decide_with(fact("drift"), Retraining()).rule == "does not count"


def test_a_budget_is_spread_over_its_period():
    """Thirteen a year: seven in half a year, four in a quarter, two in an eighth (46 days), one in a sixteenth (23 days)."""
    rules = Retraining(signals=BY_SIGNALS, budget=Budget(runs=13))
    assert decide_with(rules=rules, spent=spent(76)).action == "retrain"
    assert decide_with(rules=rules, spent=spent(78)).rule == "budget"
    assert decide_with(rules=rules, spent=spent(30, 53)).action == "retrain"
    decision = decide_with(rules=rules, spent=spent(30, 56, 77))
    assert (decision.rule, decision.reason) == (
        "budget",
        "2 retrainings within 45.6 days, 2 allowed: 13 in 365 days are spread evenly",
    )
    seconds = Retraining(signals=BY_SIGNALS, budget=Budget(seconds=100))
    assert decide_with(rules=seconds, spent=((day(80), 12.0),)).action == "retrain"
    assert decide_with(rules=seconds, spent=((day(80), 13.0),)).rule == "budget"
