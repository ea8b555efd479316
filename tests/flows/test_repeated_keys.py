"""A key that is unique in each partition but repeats across them runs through the whole pipeline."""

import pytest
from sklearn.metrics import log_loss

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.train import train
from tasks.contracts import Stage
from tasks.resources import open_resources
from tasks.steps.holdout import labelled_holdout
from tests.conftest import day_file, parcels

pytestmark = pytest.mark.slow

DAY = "2024-03-11"


def test_rows_and_outcomes_are_joined_within_their_partition(workspace):
    for day in range(11):
        rows = parcels(day)
        rows.assign(parcel=rows["parcel"].str[-3:]).to_parquet(day_file(workspace, day), index=False)
    backfill(model="tiny", start="2024-03-01", end="2024-03-10")
    assert train(model="tiny", reason="first champion").decision.passed
    for flow in (process, assess):
        state = flow(model="tiny", partition=DAY, return_state=True)
        assert state.is_completed(), state.message
    res = open_resources("tiny")
    holdout = labelled_holdout(res.champion(), res)
    expected = [late for day in (8, 9) for late in parcels(day)["late"].dropna()]
    assert holdout["late"].tolist() == expected
    known = parcels(10)["late"].notna()
    predicted = res.lake.read(Stage.PREDICTIONS, DAY)["prediction"]
    assert res.lake.done(Stage.PERFORMANCE, DAY).data["metrics"]["log_loss"] == pytest.approx(
        log_loss(parcels(10)["late"][known], predicted[known])
    )
    assert res.lake.done(Stage.ESTIMATES, DAY).data["note"] == ""
    assert all(c["note"] == "" for c in res.lake.done(Stage.MONITORING, DAY).data["columns"])
