"""The headline of a training states what happened, and is still true when it is read later."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.contracts import GateDecision, Promotion, Selection, Training, Verdict, Version, Window
from tasks.contracts.learning import Recipe, Trial
from tasks.lifecycle.gate import refuse_all_candidates
from tasks.reports.artifacts.training import gate_headline, refused_change, training_headline

AT = datetime(2013, 7, 2, tzinfo=UTC)
RECIPE = Recipe("xgboost", "xgboost", {})
FLOOR = Verdict("floor: log_loss", "failed", False, 0.7, 0.69)
SEGMENTS = Verdict("no segment worse off, upper bound of its gain", "failed", False, -0.1, -0.01)
SIZE = Verdict("size, MB", "passed", True, 1.0, 10.0)
WINDOW = Window("flights", ("2013-01", "2013-06"), (), AT, AT, AT, AT)
VERSION = Version("flights", "5", "run", "d", AT, AT, AT, RECIPE, (0.2,), 100)


def lost() -> Selection:
    """A training whose only candidate has a higher loss than the prior."""
    baseline = Trial("baseline: prior", RECIPE, 0.60, (0.60,))
    return Selection("run", (baseline, Trial("xgboost", RECIPE, 0.69, (0.69,), beats_baseline=False)), None)


def training(decision: GateDecision, row: Promotion | None = None) -> Training:
    return Training(WINDOW, lost(), decision, VERSION if decision.version else None, row=row)


def test_a_training_whose_candidate_lost_does_not_claim_that_it_won() -> None:
    decision = refuse_all_candidates(lost(), "2")
    for headline in (gate_headline(decision), training_headline("flights", training(decision))):
        assert "nothing beats the prior" in headline
        assert "REFUSED (0.69 against 0.6)" in headline
        assert "refused no candidate" not in headline


def test_the_rules_in_a_refusal_are_those_that_it_did_not_pass() -> None:
    headline = gate_headline(GateDecision("3", "2", (FLOOR, SIZE, SEGMENTS)))
    before, _, rules = headline.partition("It did not pass: ")
    assert before == "the gate refused version 3. "
    assert rules == "floor: log_loss; no segment worse off, upper bound of its gain"
    assert gate_headline(GateDecision("3", "2", (SIZE,))) == "the gate passed version 3 on every rule"


@pytest.mark.parametrize(
    ("action", "to_stage", "text"),
    [
        ("promote", "champion", "passed the gate and became champion as of 2013-07-02."),
        ("request", "challenger", "passed the gate and was proposed for approval as of 2013-07-02: run `promote`."),
        ("stage", "challenger", "passed the gate and became challenger as of 2013-07-02, to score in shadow mode"),
    ],
)
def test_a_version_that_passed_is_described_by_an_event_with_its_date(action, to_stage, text: str) -> None:
    row = Promotion("flights", 1, action, "5", "2", AT, AT, "evergreen", "r", to_stage=to_stage)
    assert text in training_headline("flights", training(GateDecision("5", "2", (SIZE,)), row))


def test_a_refused_version_is_not_described_as_passed() -> None:
    refused = replace(training(GateDecision("5", "2", (FLOOR,))))
    assert training_headline("flights", refused) == (
        "flights: version 5 was refused by the gate: floor: log_loss: REFUSED (0.7 against 0.69). The champion stayed."
    )


def test_a_refused_change_is_named_with_its_reasons():
    refused = GateDecision(
        "5", "3", (Verdict("gain over the champion", "failed", False, -0.1, 0.0, "a change of features"),)
    )
    (line,) = refused_change(refused)
    assert line.startswith("- change: version 5 was refused")
    assert "gain over the champion: REFUSED" in line
    assert "a change of features" in line
