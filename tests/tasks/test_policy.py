"""The policy, rule by rule. Every moment is as-of time; no clock is read."""

from datetime import UTC, datetime, timedelta

import pytest

from configs.schema import Retraining
from tasks.contracts import Decision, Fact, Promotion
from tasks.policy import decide


def day(n: int) -> datetime:
    return datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n)


FACT = Fact("f", "m", "drift", "2013-05", day(100), {"drift_share": 0.5})
CHAMPION = Promotion("m", 1, "promote", "2", None, day(30), day(29), "evergreen", "first")
RULES = Retraining(cool_down=timedelta(days=45))


def ask(fact=FACT, **known) -> Decision:
    given = {"champion": CHAMPION, "last": None, "in_flight": None, "in_shadow": None, "rules": RULES}
    given["learnable_until"] = day(99)
    return decide(fact, **(given | known))


def test_drift_after_the_cool_down_with_new_data_retrains_and_says_why():
    decision = ask()
    assert (decision.action, decision.rule, decision.fact_id, decision.as_of) == ("retrain", "drift", "f", day(100))
    assert "50%" in decision.reason
    assert "70 days" in decision.reason


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        ({"rules": Retraining(enabled=False)}, "disabled"),
        ({"champion": None}, "no champion"),
        ({"in_flight": Decision("g", "m", day(90), "retrain", "drift", "")}, "in flight"),
        ({"in_shadow": Promotion("m", 2, "stage", "3", "2", day(60), day(59), "", "")}, "in shadow"),
        ({"champion": Promotion("m", 1, "promote", "2", None, day(100), day(99), "", "")}, "superseded"),
        ({"champion": Promotion("m", 1, "promote", "2", None, day(56), day(55), "", "")}, "cool-down"),
        ({"last": Decision("g", "m", day(60), "retrain", "drift", "", outcome="refused")}, "cool-down"),
        ({"learnable_until": day(29)}, "nothing new"),
        ({"learnable_until": None}, "nothing new"),
    ],
)
def test_each_rule_declines_by_its_name(known, rule):
    decision = ask(**known)
    assert (decision.action, decision.rule) == ("decline", rule)
    assert decision.reason


def test_the_cool_down_ends_at_its_last_moment():
    at_the_end = Promotion("m", 1, "promote", "2", None, day(55), day(54), "", "")
    assert ask(champion=at_the_end).action == "retrain"
