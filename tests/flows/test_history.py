"""What some processed days leave: outputs of partitions, a champion, a fact, a decision."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from flows.process import process
from flows.retrain import retrain
from tasks.contracts import Stage
from tasks.drift.evidently_run import UNREACHABLE
from tasks.lifecycle.facts import process_facts
from tasks.resources import open_resources
from tasks.steps.estimate import ESTIMATE
from tasks.steps.order import steps_of
from tasks.steps.score import SCORE
from tasks.steps.step import freshness
from tasks.steps.watch import WATCH
from tests.conftest import parcels
from tests.flows.conftest import SHIFTED, STEADY

pytestmark = pytest.mark.usefixtures("processed")


def test_every_stage_of_a_processed_day_is_fresh(processed):
    res = open_resources("tiny")
    states = {step.verb: freshness(step, res.ref(STEADY), res).state for step in steps_of(res.config)}
    assert states.pop("former") == "waiting", "there was no previous champion"
    assert states == dict.fromkeys(
        ("ingest", "validate", "sketch", "score", "estimate", "watch", "collect", "assess"), "fresh"
    )


def test_days_before_the_first_champion_wait_for_their_predictions(processed):
    res = open_resources("tiny")
    for step in (SCORE, ESTIMATE, WATCH):
        freshness_now = freshness(step, res.ref("2024-03-05"), res)
        assert freshness_now.state == "waiting"
        assert ("no champion before" if step is SCORE else "no predictions data") in freshness_now.why


def test_predictions_carry_key_version_and_as_of_and_are_the_champions(processed):
    res = open_resources("tiny")
    champion, predictions = res.ledger.champion(), res.lake.read(Stage.PREDICTIONS, STEADY)
    assert list(predictions.columns) == ["parcel", "sent", "prediction", "model_version", "as_of"]
    assert set(predictions["model_version"]) == {champion.version}
    assert set(predictions["as_of"]) == {pd.Timestamp("2024-03-13", tz="UTC")}
    rows = parcels(10)[["weight", "distance", "city"]]
    expected = res.registry.load(champion.version).predict_proba(rows)[:, 1]
    np.testing.assert_array_equal(predictions["prediction"], expected.astype("float64"))


def test_performance_is_scikit_learns_on_the_rows_that_have_a_label(processed):
    res = open_resources("tiny")
    record, scored = res.lake.record(Stage.PERFORMANCE, STEADY), res.lake.read(Stage.PREDICTIONS, STEADY)
    truth = parcels(10)["late"]
    labelled = truth.notna()
    assert record.data["metrics"]["roc_auc"] == pytest.approx(
        roc_auc_score(truth[labelled], scored["prediction"][labelled])
    )
    assert record.data["metrics"]["log_loss"] == pytest.approx(
        log_loss(truth[labelled], scored["prediction"][labelled])
    )
    assert (record.data["scored"], record.data["mature"], record.data["never"], record.data["pending"]) == (
        150,
        147,
        3,
        0,
    )


def test_the_shifted_day_is_a_fact_that_names_the_column_and_the_steady_one_is_none(processed):
    res = open_resources("tiny")
    facts = res.ledger.facts()
    assert [f.partition for f in facts] == [SHIFTED]
    assert "weight" in {signal["column"] for signal in facts[0].payload["signals"]}
    assert facts[0].as_of == res.ref(SHIFTED).as_of
    assert [f.id for f in process_facts(res.ref(SHIFTED), res)] == [facts[0].id], "a second check gives the same fact"


def test_the_report_and_its_snapshot_have_the_verdicts_of_the_record(processed):
    res = open_resources("tiny")
    record = res.lake.record(Stage.MONITORING, SHIFTED)
    page = res.lake.path(Stage.MONITORING, SHIFTED, "html").read_text()
    assert f"{record.data['share']:.0%} of columns" in page
    verdicts = evidently_results(res, record)
    scored = {c["column"]: c for c in record.data["columns"] if c["method"] in ("wasserstein", "jensenshannon")}
    assert set(verdicts) == set(scored) == {"weight", "distance", "city", "prediction"}
    for column, (threshold, drifted) in verdicts.items():
        assert threshold == (scored[column]["threshold"] or UNREACHABLE)
        assert drifted == scored[column]["drifted"] or column in record.data["differs"]
    assert not record.data["differs"], "the sample has all of the day's rows"


def evidently_results(res, record) -> dict[str, tuple[float, bool]]:
    """Return threshold and verdict of each column, from the run in the workspace."""
    home = res.settings.evidently_workspace / record.data["project"] / "snapshots"
    results = json.loads((home / f"{record.data['snapshot']}.json").read_text())["metric_results"].values()
    tests = {r["metric_value_location"]["metric"]["params"].get("column"): r for r in results if r.get("tests")}
    return {
        column: (r["metric_value_location"]["metric"]["params"]["threshold"], r["tests"][0]["status"] == "FAIL")
        for column, r in tests.items()
        if column
    }


def test_the_estimate_was_made_before_the_labels_and_compared_with_them(processed):
    """On the steady day lateness depends on the weight as in training, so the assumption of the estimate is true."""
    res = open_resources("tiny")
    estimated, assessed = (res.lake.record(stage, STEADY) for stage in (Stage.ESTIMATES, Stage.PERFORMANCE))
    assert estimated.run.started < res.lake.record(Stage.LABELS, STEADY).run.started
    estimate = assessed.data["estimate"]
    assert estimate["metrics"] == estimated.data["metrics"]
    assert estimate["error"] == pytest.approx(
        assessed.data["metrics"]["log_loss"] - estimated.data["metrics"]["log_loss"]
    )
    assert abs(estimate["error"]) < 0.15
    shifted = res.lake.record(Stage.PERFORMANCE, SHIFTED).data
    assert shifted["estimate"]["error"] > 0.5, "it cannot detect that the relation has changed"


def test_performance_has_its_interval_and_the_outcomes_their_own_drift(processed):
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


def test_the_alias_is_the_ledgers_champion(processed):
    res = open_resources("tiny")
    assert res.registry.alias() == res.ledger.champion().version


def test_a_promotion_has_reason_evidence_and_run(processed):
    promotion = open_resources("tiny").ledger.champions()[0]
    assert (promotion.reason, promotion.previous, promotion.against) == ("first champion", None, 0)
    assert all(v["passed"] for v in promotion.evidence["verdicts"])
    assert promotion.run_id
    assert promotion.flow_run


def test_processing_again_changes_no_byte_and_sends_nothing(processed):
    before = {p: p.read_bytes() for p in (processed / "lake").rglob("*") if p.is_file()}
    state = process(model="tiny", partition=SHIFTED, return_state=True)
    assert "everything is fresh" in state.message
    assert {p: p.read_bytes() for p in (processed / "lake").rglob("*") if p.is_file()} == before
    assert len(open_resources("tiny").ledger.facts()) == 1


@pytest.mark.slow
def test_a_fact_leads_to_one_decision_and_one_training_however_often_its_event_comes(processed):
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
