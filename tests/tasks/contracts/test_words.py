"""A decision whose version was staged is described by what the version waits for, or by what became of it."""

from dataclasses import replace
from typing import get_args

import pytest

from tasks.contracts import Decision, ModelStage, Promotion
from tasks.contracts.decisions import STAGE_AFTER, Action
from tasks.contracts.words import change_text, decision_text
from tests.tasks.ledger.test_store import at

STAGED = Decision("f", "m", at(6), "retrain", "drift", "why", outcome="staged", version="5")


def rows(*actions: Action) -> list[Promotion]:
    """Return the rows of version 5, one a month from July on, after a row of another version."""
    other = Promotion("m", 1, "promote", "2", None, at(4), at(4), "evergreen", "r", to_stage="champion")
    own = [
        replace(other, sequence=2 + n, action=action, version="5", as_of=at(7 + n), to_stage=STAGE_AFTER[action])
        for n, action in enumerate(actions)
    ]
    return [other, *own]


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (("register", "stage"), "in shadow mode since 2013-08-02"),
        (("stage", "request"), "waits for approval since 2013-08-02"),
        (("stage", "canary"), "gets a share of requests since 2013-08-02"),
        (("stage", "request", "promote"), "became champion as of 2013-09-02"),
        (("stage", "request", "refuse"), "was refused as of 2013-09-02"),
        (("stage", "retire"), "was retired as of 2013-08-02"),
    ],
)
def test_a_staged_version_is_described_by_its_newest_row(actions: tuple[Action, ...], text: str) -> None:
    assert decision_text(STAGED, rows(*actions)) == f"retrained: v5, {text}"
    assert decision_text(STAGED, rows(*actions)[:1]) == "retrained: v5, staged", "no row about it is known"


def test_the_other_decisions_do_not_depend_on_the_ledger() -> None:
    for changes in ([], rows("stage")):
        assert decision_text(replace(STAGED, outcome="promoted"), changes) == "retrained: v5"
        assert decision_text(replace(STAGED, outcome="refused"), changes) == "retrained: refused"
        assert decision_text(replace(STAGED, action="decline", rule="budget"), changes) == "declined: budget"
        assert decision_text(None, changes) == "no decision yet"


def test_the_text_of_every_change_has_its_date_and_no_present_state() -> None:
    for action in get_args(Action):
        text = change_text(rows(action)[-1])
        assert text.endswith(" as of 2013-07-02")
        assert not text.startswith(("is ", "waits "))


def test_the_text_of_a_change_names_the_stage() -> None:
    stages: dict[ModelStage, str] = {"champion": "became champion", "refused": "was refused", "retired": "was retired"}
    for stage, text in stages.items():
        assert change_text(replace(rows("stage")[-1], action="promote", to_stage=stage)).startswith(text)
