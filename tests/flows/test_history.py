"""What a played history leaves behind: partitions, a champion, a fact, a decision."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from flows.process import process
from flows.retrain import retrain
from tasks.contracts import Stage
from tasks.drift.report import NEVER
from tasks.lifecycle.facts import process_facts
from tasks.resources import open_resources
from tasks.steps.estimate import ESTIMATE
from tasks.steps.order import steps_of
from tasks.steps.score import SCORE
from tasks.steps.step import freshness
from tasks.steps.watch import WATCH
from tests.conftest import parcels
from tests.flows.conftest import SHIFTED, STEADY

pytestmark = pytest.mark.usefixtures("played")


def test_every_stage_of_a_processed_day_is_fresh(played):
    res = open_resources("tiny")
    states = {step.verb: freshness(step, res.ref(STEADY), res).state for step in steps_of(res.config)}
    assert states.pop("former") == "waiting", "there was no champion before the first"
    assert states == dict.fromkeys(
        ("ingest", "validate", "sketch", "score", "estimate", "watch", "collect", "assess"), "fresh"
    )


def test_days_before_the_first_champion_wait_for_their_predictions(played):
    res = open_resources("tiny")
    for step in (SCORE, ESTIMATE, WATCH):
        found = freshness(step, res.ref("2024-03-05"), res)
        assert found.state == "waiting"
        assert ("no champion before" if step is SCORE else "no predictions data") in found.why


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
    assert [f.id for f in process_facts(res.ref(SHIFTED), res)] == [facts[0].id], "seen again it is the same fact"


def test_the_report_and_its_snapshot_are_there_and_say_what_the_record_says(played):
    res = open_resources("tiny")
    record = res.lake.record(Stage.MONITORING, SHIFTED)
    page = res.lake.path(Stage.MONITORING, SHIFTED, "html").read_text()
    assert f"{record.data['share']:.0%} of columns" in page
    said = said_by_evidently(res, record)
    scored = {c["column"]: c for c in record.data["columns"] if c["method"] in ("wasserstein", "jensenshannon")}
    assert set(said) == set(scored) == {"weight", "distance", "city", "prediction"}
    for column, (threshold, drifted) in said.items():
        assert threshold == (scored[column]["threshold"] or NEVER)
        assert drifted == scored[column]["drifted"] or column in record.data["differs"]
    assert not record.data["differs"], "the sample has all of the day's rows"


def said_by_evidently(res, record) -> dict[str, tuple[float, bool]]:
    """By column, the threshold and the verdict in the run that the workspace keeps."""
    home = res.settings.evidently_workspace / record.data["project"] / "snapshots"
    results = json.loads((home / f"{record.data['snapshot']}.json").read_text())["metric_results"].values()
    tests = {r["metric_value_location"]["metric"]["params"].get("column"): r for r in results if r.get("tests")}
    return {
        column: (r["metric_value_location"]["metric"]["params"]["threshold"], r["tests"][0]["status"] == "FAIL")
        for column, r in tests.items()
        if column
    }


def test_the_estimate_came_before_the_labels_and_was_held_against_them(played):
    """On the steady day the assumption holds, and the rule of lateness is the one that was learned."""
    res = open_resources("tiny")
    estimated, assessed = (res.lake.record(stage, STEADY) for stage in (Stage.ESTIMATES, Stage.PERFORMANCE))
    assert estimated.run.started < res.lake.record(Stage.LABELS, STEADY).run.started
    found = assessed.data["estimate"]
    assert found["metrics"] == estimated.data["metrics"]
    assert found["error"] == pytest.approx(assessed.data["metrics"]["log_loss"] - estimated.data["metrics"]["log_loss"])
    assert abs(found["error"]) < 0.15
    shifted = res.lake.record(Stage.PERFORMANCE, SHIFTED).data
    assert shifted["estimate"]["error"] > 0.5, "it is blind to a rule that has changed"


def test_performance_has_its_interval_and_the_outcomes_their_own_drift(played):
    data = open_resources("tiny").lake.record(Stage.PERFORMANCE, STEADY).data
    low, high = data["intervals"]["roc_auc"]
    assert low < data["metrics"]["roc_auc"] < high
    assert sum(rows for _, rows, _ in data["blocks"]) == 147
    assert sum(loss for _, _, loss in data["blocks"]) / 147 == pytest.approx(data["metrics"]["log_loss"])
    assert (data["target"]["column"], data["target"]["method"], data["target"]["drifted"]) == (
        "late",
        "jensenshannon",
        False,
    )


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
    assert first.seconds > 0
    assert any(line.startswith("floor") for line in first.gate)
    assert first.signals["drift"]["partition"] == SHIFTED
    assert first.signals["new_labels"] == 7 * 147, "of the seven days after the champion's window"
    versions = len(res.ledger.promotions())
    retrain(model="tiny", partition=SHIFTED, fact=fact.id)
    assert res.ledger.decisions() == [first]
    assert len(res.ledger.promotions()) == versions
