"""Promotion and rollback by a person: with evidence, a name and a reason, as consecutive rows of the ledger."""

import pytest

from flows.backfill import backfill
from flows.process import process
from flows.promote import promote
from flows.rollback import rollback
from flows.train import train
from tasks.backfill.verify import repair
from tasks.contracts import Stage
from tasks.errors import GateRefused, UnknownVersion
from tasks.lifecycle.audit import audit as run_audit
from tasks.resources import open_resources
from tasks.steps.score import SCORE
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
        promote(model="tiny", version=f"0{before[0]}", by="ann", reason="for old times' sake")
    assert champions() == before
    res = open_resources("tiny")
    request, refusal = res.ledger.promotions()[-2:]
    assert (request.action, request.by, request.assurance) == ("propose", "ann", "asserted")
    assert (request.reason, request.version) == ("for old times' sake", before[0])
    assert request.from_stage == request.to_stage == "retired", "a wish changes no stage"
    assert (refusal.action, refusal.by, refusal.assurance) == ("refuse", "evergreen", "automation")
    assert "gain over the champion" in refusal.reason
    assert "verdicts" in refusal.evidence
    assert refusal.version == before[0], "a version is written as in MLflow, however it was typed"
    assert run_audit(res, None, None).problems == ()


@pytest.mark.parametrize("version", ["2.0", "v2", "0", " ", "-1", 2.0])
def test_what_is_no_version_is_refused_before_anything_is_written(history, version):
    rows = open_resources("tiny").ledger.promotions()
    for flow in (promote, rollback):
        with pytest.raises(Exception, match="is no version"):
            flow(model="tiny", version=version, by="ann", reason="to see")
    with pytest.raises(Exception, match="is no version"):
        promote(model="tiny", against=version, by="ann", reason="to see")
    assert open_resources("tiny").ledger.promotions() == rows


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


def test_predictions_whose_record_is_damaged_survive_if_another_version_would_make_them_today(
    history, tmp_path, monkeypatch
):
    """A rollback takes effect as of a moment before that of a day that the replaced version has scored."""
    set_up_copy(history, tmp_path, monkeypatch)
    day = "2024-03-24"  # its own as-of is 2024-03-26, the newest promotion's is 2024-03-25
    backfill(model="tiny", start=day, end=day)
    scored_by = open_resources("tiny").lake.done(Stage.PREDICTIONS, day).data["version"]
    other = next(version for version in champions() if version != scored_by)
    rollback(model="tiny", version=other, by="ann", reason="to see", as_of="2024-03-25T12:00:00+00:00")
    res = open_resources("tiny")
    assert res.ledger.champion(res.ref(day).as_of).version == other
    record, rows = (tmp_path / "lake" / "tiny" / "predictions" / f"{day}.{name}" for name in ("json", "parquet"))
    record.write_text("{}")
    before = rows.read_bytes()
    with res.claims.hold(day):
        ((_, state, why),) = repair(day, [SCORE], res).passed
    assert state == "failed"
    assert "its rows are intact" in why
    assert (record.read_text(), rows.read_bytes()) == ("{}", before)
