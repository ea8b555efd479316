"""What a played history leaves behind: partitions, a champion, a fact, a decision."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from flows.process import process
from flows.retrain import retrain
from tasks.contracts import Stage
from tasks.drift.report import MISSING
from tasks.events import untold_drift
from tasks.resources import open_resources
from tasks.stages import freshness
from tasks.walk import ALL, steps_of
from tests.conftest import parcels
from tests.flows.conftest import SHIFTED, STEADY

pytestmark = pytest.mark.usefixtures("played")


def test_every_stage_of_a_processed_day_is_fresh(played):
    res = open_resources("tiny")
    assert [freshness(step, res.ref(STEADY), res).state for step in steps_of(res.config)] == ["fresh"] * 6


def test_days_before_the_first_champion_wait_for_their_predictions(played):
    res = open_resources("tiny")
    found = freshness(ALL[2], res.ref("2024-03-05"), res)
    assert (ALL[2].verb, found.state) == ("score", "waiting")
    assert "no champion before" in found.why


def test_predictions_carry_key_version_and_as_of_and_are_the_champions(played):
    res = open_resources("tiny")
    champion, found = res.ledger.champion(), res.lake.read(Stage.PREDICTIONS, STEADY)
    assert list(found.columns) == ["parcel", "sent", "prediction", "model_version", "as_of"]
    assert set(found["model_version"]) == {champion.version}
    assert set(found["as_of"]) == {pd.Timestamp("2024-03-13", tz="UTC")}
    rows = parcels(10)[["weight", "distance", "city"]]
    expected = res.registry.load(champion.version).predict_proba(rows)[:, 1]
    np.testing.assert_array_equal(found["prediction"], expected.astype("float64"))


def test_performance_is_scikit_learns_on_the_rows_that_have_a_label(played):
    res = open_resources("tiny")
    record, scored = res.lake.record(Stage.PERFORMANCE, STEADY), res.lake.read(Stage.PREDICTIONS, STEADY)
    truth = parcels(10)["late"]
    known = truth.notna()
    assert record.data["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(truth[known], scored["prediction"][known]))
    assert record.data["metrics"]["log_loss"] == pytest.approx(log_loss(truth[known], scored["prediction"][known]))
    assert (record.data["scored"], record.data["mature"], record.data["never"], record.data["pending"]) == (
        150,
        147,
        3,
        0,
    )


def test_the_shifted_day_is_a_fact_that_names_the_column_and_the_steady_one_is_none(played):
    res = open_resources("tiny")
    facts = res.ledger.facts()
    assert [f.partition for f in facts] == [SHIFTED]
    assert "weight" in {signal["column"] for signal in facts[0].payload["signals"]}
    assert facts[0].as_of == res.ref(SHIFTED).as_of
    assert untold_drift(res.ref(SHIFTED), res) is None


def test_the_report_and_its_snapshot_are_there_and_say_what_the_record_says(played):
    res = open_resources("tiny")
    record = res.lake.record(Stage.MONITORING, SHIFTED)
    page = res.lake.path(Stage.MONITORING, SHIFTED, "html").read_text()
    assert f"{record.data['share']:.1%} of columns" in page
    snapshot = (
        res.settings.evidently_workspace / record.data["project"] / "snapshots" / f"{record.data['snapshot']}.json"
    )
    metrics = {m["params"]["column"]: m for m in _metrics(json.loads(snapshot.read_text()))}
    scored = [c for c in record.data["columns"] if c["method"] != MISSING]
    assert {c["column"] for c in scored} == set(metrics)


def _metrics(snapshot) -> list[dict]:
    """The drift metrics of an Evidently snapshot file, wherever its layout keeps them."""
    found = []
    stack = [snapshot]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            params = item.get("params")
            if isinstance(params, dict) and "column" in params and "ValueDrift" in str(params.get("type", "")):
                found.append(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return found


def test_the_alias_is_the_ledgers_champion(played):
    res = open_resources("tiny")
    assert res.registry.alias() == res.ledger.champion().version


def test_a_promotion_says_why_on_what_evidence_and_by_which_run(played):
    promotion = open_resources("tiny").ledger.champions()[0]
    assert (promotion.reason, promotion.previous, promotion.against) == ("first champion", None, 0)
    assert all(v["passed"] for v in promotion.evidence["verdicts"])
    assert promotion.run_id
    assert promotion.flow_run


def test_processing_again_changes_no_byte_and_sends_nothing(played):
    before = {p: p.read_bytes() for p in (played / "lake").rglob("*") if p.is_file()}
    state = process(model="tiny", partition=SHIFTED, return_state=True)
    assert "everything is fresh" in state.message
    assert {p: p.read_bytes() for p in (played / "lake").rglob("*") if p.is_file()} == before
    assert len(open_resources("tiny").ledger.facts()) == 1


def test_a_fact_leads_to_one_decision_and_one_training_however_often_it_is_told(played):
    res = open_resources("tiny")
    fact = res.ledger.facts()[0]
    retrain(model="tiny", partition=SHIFTED, fact=fact.id)
    first = res.ledger.decision(fact.id)
    assert (first.action, first.rule) == ("retrain", "drift")
    assert first.outcome in ("promoted", "refused")
    versions = len(res.ledger.promotions())
    retrain(model="tiny", partition=SHIFTED, fact=fact.id)
    assert res.ledger.decisions() == [first]
    assert len(res.ledger.promotions()) == versions
