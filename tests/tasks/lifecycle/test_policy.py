"""The policy, rule by rule. Every moment is as-of time; no clock is read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from configs.retraining import Budget, Drifted, Retraining, Signals, Trusted
from tasks.contracts import Decision, Fact, Promotion, Situation
from tasks.lifecycle.facts import retry_fact
from tasks.lifecycle.policy import decide, refusals


def day(n: int) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n)


def fact(what: str = "drift", **payload) -> Fact:
    return Fact("f", "m", what, "2013-05", day(100), {"told": "5 columns drifted"} | payload)


def promoted(as_of: int, action: str = "promote") -> Promotion:
    return Promotion("m", 1, action, "2", None, day(as_of), day(as_of - 1), "evergreen", "first")


def retrained(as_of: int, outcome: str = "") -> Decision:
    return Decision("g", "m", day(as_of), "retrain", "drift", "", outcome=outcome)


RULES = Retraining(cool_down=timedelta(days=45))
NOW = Situation(champion=promoted(30), trained=day(30), drifted=(True,), new_labels=500)


def ask(about: Fact | None = None, rules: Retraining = RULES, **changed) -> Decision:
    return decide(about or fact(), replace(NOW, **changed), rules)


def signals(**given) -> Retraining:
    return Retraining(signals=Signals(**given))


def test_drift_after_the_cool_down_with_new_labels_retrains_and_says_why():
    decision = ask()
    assert (decision.action, decision.rule, decision.fact_id, decision.as_of) == ("retrain", "drift", "f", day(100))
    assert decision.reason == "5 columns drifted, 70 days since the last training"


@pytest.mark.parametrize(
    ("changed", "rules", "rule"),
    [
        ({}, Retraining(enabled=False), "disabled"),
        ({"champion": None}, RULES, "no champion"),
        ({"in_flight": retrained(90)}, RULES, "in flight"),
        ({"in_shadow": promoted(60, "stage")}, RULES, "in shadow"),
        ({"trained": day(100)}, RULES, "superseded"),
        ({"trained": day(56)}, RULES, "cool-down"),
        ({"last": retrained(60, "refused")}, RULES, "cool-down"),
        ({"new_labels": 0}, RULES, "nothing new"),
        ({"runs": 4}, Retraining(budget=Budget(runs=4)), "budget"),
        ({"seconds": 600.0}, Retraining(budget=Budget(seconds=600)), "budget"),
        ({}, signals(drift=None), "does not count"),
        ({"drifted": (True, False, True)}, signals(drift=Drifted(times=3, of=3)), "not often enough"),
        ({"drifted": ()}, signals(), "not often enough"),
    ],
)
def test_each_rule_declines_by_its_name(changed, rules, rule):
    decision = ask(rules=rules, **changed)
    assert (decision.action, decision.rule) == ("decline", rule)
    assert decision.reason


def test_drift_counts_in_n_of_the_last_m_partitions_older_ones_do_not():
    rules = signals(drift=Drifted(times=2, of=3))
    assert ask(rules=rules, drifted=(False, True, True)).action == "retrain"
    assert ask(rules=rules, drifted=(True, False, True)).action == "retrain"
    assert ask(rules=rules, drifted=(True, True, False, False, True)).rule == "not often enough"


@pytest.mark.parametrize(
    ("about", "off", "on"),
    [
        (fact("decay"), signals(decay=False), signals(decay=True)),
        (fact("estimate", not_trusted=""), signals(estimate=None), signals(estimate=Trusted(after=3))),
        (fact("drift", of="outcomes"), signals(target=False), signals(target=True)),
        (fact("retry", kind="decay", attempt=2, error="MemoryError"), signals(decay=False), signals()),
    ],
    ids=["decay", "estimate", "outcomes", "retry of a decay"],
)
def test_a_kind_of_fact_counts_only_where_model_yaml_names_it(about, off, on):
    assert ask(about, off, drifted=()).rule == "does not count"
    assert ask(about, on, drifted=()).action == "retrain"


def test_an_estimate_that_is_not_trusted_never_retrains_and_says_why():
    rules = signals(estimate=Trusted(after=3))
    decision = ask(fact("estimate", not_trusted="1 of 3 partitions"), rules)
    assert (decision.rule, decision.reason) == ("not trusted", "1 of 3 partitions")
    assert ask(fact("estimate"), rules).rule == "not trusted"


def test_the_cool_down_ends_at_its_last_moment():
    assert ask(trained=day(55)).action == "retrain"


def test_a_return_to_an_earlier_champion_is_no_training():
    """After a rollback of now the cool-down still counts from the training before."""
    back = promoted(99, "rollback")
    assert ask(champion=back).action == "retrain"


def test_what_was_seen_of_a_version_that_is_champion_no_longer_is_superseded():
    assert ask(fact("decay", champion="1")).rule == "superseded"
    assert ask(fact("decay", champion="2")).action == "retrain"


def test_a_person_passes_every_rule_but_those_that_keep_one_training_at_a_time():
    wish = fact("person", by="ann", reason="new routes")
    rules = Retraining(enabled=False, cool_down=timedelta(days=400), budget=Budget(runs=1))
    decision = ask(wish, rules, runs=9, new_labels=0, drifted=())
    assert (decision.action, decision.rule, decision.reason) == ("retrain", "person", "ann: new routes")
    again = fact("retry", kind="person", attempt=2, error="MemoryError", told="ann asks")
    assert ask(again, rules, runs=9, new_labels=0, drifted=()).action == "retrain"
    for one_at_a_time in ({"in_flight": retrained(90)}, {"in_shadow": promoted(60, "stage")}, {"champion": None}):
        assert ask(wish, rules, **one_at_a_time).action == "decline"


@pytest.mark.parametrize(
    ("about", "rules"),
    [
        (fact("drift"), signals()),
        (fact("drift", of="outcomes"), signals(drift=None, target=True)),
        (fact("estimate", not_trusted=""), signals(estimate=Trusted(after=3))),
        (fact("due"), signals()),
    ],
    ids=["drift", "outcomes", "estimate", "due"],
)
def test_what_failed_is_tried_again_whatever_kind_of_fact_it_was(about, rules):
    """The retry is asked with the facts that the first attempt was made for."""
    failed = replace(ask(about, rules), outcome="failed", detail="MemoryError")
    assert failed.action == "retrain"
    again = retry_fact(failed, about, rules.attempts)
    assert ask(again, rules).action == "retrain"
    other = replace(again, payload={**again.payload, "champion": "another"})
    assert ask(other, rules).rule == "superseded"


def test_the_retry_of_a_wish_yields_to_a_training_that_came_after_it():
    wish = fact("person", by="ann", reason="new routes")
    again = retry_fact(replace(ask(wish), outcome="failed"), wish, RULES.attempts)
    assert ask(again).action == "retrain"
    assert ask(again, trained=again.as_of).rule == "superseded"


def test_a_retry_says_which_attempt_it_is_and_what_failed():
    decision = ask(fact("retry", kind="drift", attempt=2, error="MemoryError: no room"))
    assert (decision.action, decision.rule) == ("retrain", "retry")
    assert decision.reason == "attempt 2 after MemoryError: no room; 5 columns drifted"


def test_a_decision_has_the_values_that_the_policy_saw():
    seen = ask(runs=2, seconds=12.34, seen={"decay": {"rise": 0.1}}).signals
    assert seen["kind"] == "drift"
    assert (seen["drifted"], seen["new_labels"], seen["runs"], seen["seconds"]) == ([True], 500, 2, 12.3)
    assert (seen["decay"], seen["last_training"]) == ({"rise": 0.1}, day(30).isoformat())


def test_the_first_rule_that_refuses_decides_and_the_others_are_still_known():
    now = replace(NOW, in_flight=retrained(90), new_labels=0, runs=5)
    rules = Retraining(enabled=False, budget=Budget(runs=1))
    assert [rule for rule, _ in refusals(fact(), now, rules)] == ["in flight", "disabled", "budget", "nothing new"]
    assert decide(fact(), now, rules).rule == "in flight"


def test_drift_that_can_never_be_found_often_enough_is_an_error_of_the_config():
    with pytest.raises(ValueError, match="3 of the last 2 partitions can never have drifted"):
        Drifted(times=3, of=2)
