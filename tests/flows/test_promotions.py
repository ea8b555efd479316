"""Promotion and rollback by a person: with evidence, a name and a reason, as consecutive rows of the ledger."""

import pytest

from flows.backfill import backfill
from flows.process import process
from flows.promote import promote
from flows.rollback import rollback
from flows.train import train
from tasks.contracts import Stage
from tasks.errors import GateRefused, UnknownVersion
from tasks.resources import open_resources
from tests.conftest import set_up_copy
from tests.flows.conftest import SHIFTED


@pytest.fixture(scope="module")
def history(with_champion, tmp_path_factory):
    """A folder with a champion from before the shift, and one that has learned from days after it."""
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        set_up_copy(with_champion, folder, patch)
        backfill(model="tiny", start="2024-03-11", end="2024-03-23")
        train(model="tiny", reason="after the shift")
        yield folder


def champions() -> list[str]:
    return [p.version for p in open_resources("tiny").ledger.champions()]


def test_the_second_champion_has_a_gain_as_evidence_and_names_the_first(history):
    first, second = open_resources("tiny").ledger.champions()[:2]
    assert second.previous == first.version
    gain = next(v for v in second.evidence["verdicts"] if v["rule"].startswith("gain"))
    assert gain["passed"]
    assert gain["value"] > 0


def test_a_promotion_makes_no_older_prediction_stale(history):
    lake, first = open_resources("tiny").lake, champions()[0]
    assert lake.done(Stage.PREDICTIONS, SHIFTED).data["version"] == first
    assert "everything is fresh" in process(model="tiny", partition=SHIFTED, return_state=True).message


def test_rolling_back_and_promoting_again_are_rows_with_a_name_and_a_reason(history):
    first, second = champions()[:2]
    state = rollback(model="tiny", by="ann", reason="scores weekends badly", return_state=True)
    res = open_resources("tiny")
    row = res.ledger.champion()
    assert (row.action, row.version, row.previous, row.by) == ("rollback", first, second, "ann")
    assert row.evidence["query"]["rows"] > 0
    assert row.assurance == "asserted"
    assert res.registry.alias() == first
    assert "scores weekends badly" in state.message

    promote(model="tiny", version=second, by="bob", reason="it was the scale", return_state=True)
    res = open_resources("tiny")
    row = res.ledger.champion()
    assert (row.action, row.version, row.previous, row.by) == ("promote", second, first, "bob")
    assert row.evidence["judged"] == res.registry.version(second).judged_as
    assert res.registry.alias() == second
    assert champions()[-3:] == [second, first, second]


def test_a_person_cannot_promote_what_the_gate_refuses(history):
    before = champions()
    with pytest.raises(GateRefused, match="gain over the champion"):
        promote(model="tiny", version=before[0], by="ann", reason="for old times' sake")
    assert champions() == before


def test_a_version_that_does_not_exist_is_refused_by_name(history):
    before = champions()
    with pytest.raises(UnknownVersion, match="99"):
        promote(model="tiny", version="99", by="ann", reason="to see")
    with pytest.raises(UnknownVersion, match="earlier champions"):
        rollback(model="tiny", version="99", by="ann", reason="to see")
    assert champions() == before


def test_a_name_and_a_reason_are_required(history):
    with pytest.raises(Exception, match="at least 1 character"):
        rollback(model="tiny", by="", reason="to see")
