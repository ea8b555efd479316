"""A decision about an early partition is the same whether or not later partitions are in the lake already."""

from typing import Any

import pytest

from flows.assess import assess
from flows.backfill import STAGES, backfill
from flows.process import process
from flows.retrain import retrain
from tasks.contracts import Stage
from tasks.errors import MissingPartition
from tasks.lifecycle.policy_inputs import count_new_labels
from tasks.lifecycle.retraining import record_manual_request
from tasks.orchestration.prefect_tasks import simulation
from tasks.resources import open_resources
from tasks.steps.order import newest_ref
from tests.conftest import set_up_copy
from tests.flows.test_controller import configure, day, shift

pytestmark = pytest.mark.slow

LAST = 15
"""The last of the days that are backfilled ahead."""
BY_TIME = "{signals: {drift: null, decay: false, partitions: 1}, hindsight: {partitions: 0}}"
BY_DATA = "{signals: {drift: {times: 2, of: 3}, growth: 0.1}, cool_down: 2D, hindsight: {partitions: 1}}"


def play(*days: int) -> None:
    """Process and assess days in the order of time, and decide about each fact, as the automation does."""
    res = open_resources("tiny")
    for n in days:
        process(model="tiny", partition=day(n))
        assess(model="tiny", partition=day(n))
        while facts := res.ledger.undecided():
            retrain(model="tiny", partition=facts[0].partition, fact=facts[0].id)


def test_a_training_after_a_backfill_ahead_is_due_and_trained_as_of_the_assessed_day(champion):
    configure(champion, retraining=BY_TIME)
    backfill(model="tiny", start=day(10), end=day(LAST), stages=["ingest", "validate"])
    play(10)
    res = open_resources("tiny")
    (fact,), (decision,) = res.ledger.facts(), res.ledger.decisions()
    assert (fact.kind, fact.partition, fact.as_of) == ("due", day(10), res.ref(day(10)).as_of)
    assert (decision.action, decision.as_of) == ("retrain", fact.as_of)
    assert decision.signals["new_labels"] == 147, "of the one day that was processed after the champion's window"
    trained = [row.window_end for row in res.ledger.promotions() if row.as_of == fact.as_of]
    assert set(trained) <= {res.ref(day(10)).end, res.ref(day(8)).end}, "the window's end, and that without the holdout"
    assert trained
    assert max(row.as_of for row in res.ledger.promotions()) == res.ref(day(10)).as_of
    assert count_new_labels(res.ledger.champions()[0], res.ref(day(10)).as_of, res) == 147


def test_an_assessment_of_a_day_before_the_champion_makes_no_training_due(champion):
    configure(champion, retraining=BY_TIME)
    backfill(model="tiny", start=day(10), end=day(LAST), stages=["ingest", "validate"])
    assess(model="tiny", partition=day(5))
    assert open_resources("tiny").ledger.facts() == []


def test_a_request_for_an_earlier_moment_is_about_the_newest_partition_of_that_moment(champion):
    res = open_resources("tiny")
    moment = res.ref(day(6)).as_of
    assert (newest_ref(res).key, newest_ref(res, moment).key) == (day(9), day(6))
    with simulation():
        request = record_manual_request("ann", "a test", moment, res)
    assert (request.partition, request.as_of) == (day(6), moment)
    with pytest.raises(MissingPartition, match=r"no partition is validated as of 2024-03-01T"):
        newest_ref(res, res.ref(day(0)).start)


def history() -> dict[str, Any]:
    """Return what was decided, with its moment, and what each version learned from."""
    ledger = open_resources("tiny").ledger
    return {
        "facts": sorted((f.kind, f.partition, f.as_of) for f in ledger.facts()),
        "decisions": sorted(
            (d.as_of, d.action, d.rule, d.outcome, d.signals["new_labels"]) for d in ledger.decisions()
        ),
        "rows": [(r.action, r.version, r.as_of, r.window_end) for r in ledger.promotions()],
        "effects": [(h.version, h.as_of, h.verdict, h.partitions, h.rows) for h in ledger.hindsights()],
    }


@pytest.mark.slow
def test_a_backfill_ahead_changes_no_fact_decision_training_or_measured_effect(with_champion, tmp_path, monkeypatch):
    """The label delay is a day, so a later day has ended, but was not processed, at the as-of of each of the days."""
    histories = []
    for name, stages in (("in order", None), ("validated ahead", ["ingest", "validate"]), ("all ahead", STAGES)):
        set_up_copy(with_champion, tmp_path / name, monkeypatch)
        shift(tmp_path / name, 12, 13, seed=7)
        configure(tmp_path / name, retraining=BY_DATA)
        if stages:
            backfill(model="tiny", start=day(10), end=day(LAST), stages=stages)
            assert open_resources("tiny").lake.keys(Stage.VALID)[-1] == day(LAST)
        play(10, 11, 12, 13)
        histories.append(history())
    assert histories[1:] == [histories[0]] * 2
    assert any(action == "retrain" for _, action, *_ in histories[0]["decisions"])
