"""Bad input and failures: a clear error, no incomplete file, and a message that names what to do."""

import numpy as np
import pandas as pd
import pytest

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from flows.retrain import retrain
from flows.rollback import rollback
from flows.train import train
from tasks.contracts import Stage
from tasks.errors import (
    CorruptPartition,
    LeakFound,
    MissingPartition,
    MissingSource,
    NotEnoughData,
    RegistryUnavailable,
    UnknownFact,
    UnknownVersion,
)
from tasks.reports.health import Severity, alerts
from tasks.resources import open_resources
from tests.conftest import DAYS, day_file, parcels

DAY = "2024-03-05"


def rewrite(folder, frame: pd.DataFrame, day: int = 4) -> None:
    frame.to_parquet(day_file(folder, day), index=False)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: f.assign(weight=np.nan), "weight"),
        (lambda f: pd.concat([f, f.iloc[:40]]), "parcel"),
        (lambda f: f.assign(weight=f["weight"] * 1000), "weight"),
        (lambda f: f.drop(columns="weight"), "weight"),
        (lambda f: f.assign(weight="heavy"), "weight"),
    ],
    ids=["all null", "duplicate keys", "out of range", "missing column", "wrong type"],
)
def test_a_critical_failure_blocks_the_day_with_the_reason_and_writes_no_valid_rows(workspace, damage, reason):
    rewrite(workspace, damage(parcels(4)))
    state = process(model="tiny", partition=DAY, return_state=True)
    assert state.is_failed()
    assert "blocked" in state.message
    assert reason in state.message
    assert not open_resources("tiny").lake.path(Stage.VALID, DAY).exists()


def test_a_blocked_day_is_skipped_until_its_input_changes(workspace):
    for day in range(DAYS):
        if day not in (3, 4):
            day_file(workspace, day).unlink()
    day_file(workspace, 4).write_bytes(b"PAR1 this was cut short")
    first, second = (process(model="tiny", return_state=True) for _ in range(2))
    assert first.is_failed()
    assert "everything is fresh" in second.message
    rewrite(workspace, parcels(4))
    assert process(model="tiny", return_state=True).is_completed()
    assert open_resources("tiny").lake.done(Stage.VALID, DAY).rows == 150


def test_a_source_without_any_file_is_a_warning_and_never_fresh(workspace):
    for day in range(DAYS):
        day_file(workspace, day).unlink()
    state = process(model="tiny", return_state=True)
    assert (state.name, state.is_completed()) == ("Completed", True)
    assert "no file of table 'parcels' matches" in state.message
    alert = alerts(open_resources("tiny"))[0]
    assert (alert.severity, alert.message) == (Severity.WARNING, state.message.removeprefix("tiny: ").removesuffix("."))
    refused = backfill(model="tiny", start="2024-03-01", end="2024-03-03", return_state=True)
    assert refused.is_failed()
    assert "no file of table 'parcels' matches" in refused.message


def test_days_without_a_file_are_counted_apart_from_fresh_ones(workspace):
    for day in (1, *range(3, DAYS)):
        day_file(workspace, day).unlink()
    first, second = (process(model="tiny", return_state=True).message for _ in range(2))
    assert "2 partitions processed, 1 without source data, first 2024-03-02" in first
    assert "2 of 3 partitions fresh, 1 without source data, first 2024-03-02" in second


def test_a_few_bad_rows_are_quarantined_with_their_reason_and_the_others_are_valid(workspace):
    frame = parcels(4)
    frame.loc[[7, 9], "weight"] = [1048.36, np.inf]
    rewrite(workspace, frame)
    assert process(model="tiny", partition=DAY, return_state=True).is_completed()
    lake = open_resources("tiny").lake
    quarantine = pd.read_parquet(lake.path(Stage.QUARANTINE, DAY))
    assert list(quarantine["parcel"]) == ["04-007", "04-009"]
    assert "weight 1048.36 is not between -50 and 50" in quarantine["reasons"].iloc[0]
    assert lake.done(Stage.VALID, DAY).rows == 148
    assert not lake.read(Stage.VALID, DAY)["parcel"].isin(quarantine["parcel"]).any()


def test_a_day_that_does_not_exist_is_an_error_that_names_it(workspace):
    with pytest.raises(MissingSource, match="tiny 2031-01-01"):
        process(model="tiny", partition="2031-01-01")


def test_a_leaking_source_is_refused_before_anything_is_written(workspace):
    sql = workspace / "configs" / "tiny" / "source.sql"
    sql.write_text(
        sql.read_text().replace(
            "distance", "(SELECT avg(o.late) FROM parcels o WHERE o.sent < parcels.sent) AS distance"
        )
    )
    with pytest.raises(LeakFound, match="'distance'"):
        process(model="tiny", partition=DAY)
    assert not list((workspace / "lake").rglob("*.parquet"))


def test_faulty_labels_block_their_day_and_no_other(workspace):
    rewrite(workspace, parcels(4).assign(late=7.0))
    backfill(model="tiny", start="2024-03-04", end=DAY, return_state=True)
    lake = open_resources("tiny").lake
    assert lake.record(Stage.LABELS, DAY).status == "blocked"
    assert "late is not 0 or 1" in lake.record(Stage.LABELS, DAY).reason
    assert lake.done(Stage.LABELS, "2024-03-04").rows == 150


def test_labels_for_keys_that_no_row_has_are_skipped_and_counted(workspace):
    sql = workspace / "configs" / "tiny" / "labels.sql"
    sql.write_text(sql.read_text() + " UNION ALL SELECT 'nobody', 1, $end + INTERVAL 1 DAY")
    assert backfill(model="tiny", start=DAY, end=DAY, return_state=True).is_completed()
    record = open_resources("tiny").lake.done(Stage.LABELS, DAY)
    assert record.data["reasons"] == {"no row has this key": 1}


def test_the_next_assessment_reads_corrected_labels(workspace):
    backfill(model="tiny", start=DAY, end=DAY)
    before = open_resources("tiny").lake.read(Stage.LABELS, DAY)["late"].sum()
    rewrite(workspace, parcels(4).assign(late=1.0))
    assess(model="tiny")
    assert open_resources("tiny").lake.read(Stage.LABELS, DAY)["late"].sum() == 150 > before


@pytest.mark.slow
def test_training_needs_a_window_without_gaps_and_the_error_names_what_to_run(workspace):
    with pytest.raises(MissingPartition, match="run `backfill` first"):
        train(model="tiny")
    backfill(model="tiny", start="2024-03-01", end="2024-03-02")
    with pytest.raises(NotEnoughData, match="min_partitions"):
        train(model="tiny")
    backfill(model="tiny", start="2024-03-04", end="2024-03-06")
    with pytest.raises(MissingPartition, match="2024-03-03"):
        train(model="tiny")


@pytest.mark.slow
def test_a_window_of_one_class_is_refused(workspace):
    for day in range(8):
        rewrite(workspace, parcels(day).assign(late=0.0), day)
    backfill(model="tiny", start="2024-03-01", end="2024-03-08")
    with pytest.raises(NotEnoughData, match="a classifier needs both"):
        train(model="tiny")


@pytest.mark.slow
def test_a_damaged_file_of_the_lake_is_refused_and_made_again_after_it_is_deleted(workspace):
    backfill(model="tiny", start="2024-03-01", end="2024-03-08")
    lake = open_resources("tiny").lake
    path = lake.path(Stage.VALID, DAY)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(CorruptPartition, match=f"{path}.*run `backfill` with mode=verify for {DAY}"):
        train(model="tiny")
    path.unlink()
    backfill(model="tiny", start=DAY, end=DAY)
    assert path.read_bytes() == whole
    train(model="tiny")
    assert open_resources("tiny").ledger.champion()


def test_a_registry_that_is_down_fails_the_run_and_leaves_no_incomplete_file(champion, monkeypatch):
    open_resources("tiny").registry.delete_copies()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryUnavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        process(model="tiny", partition="2024-03-11")
    lake = open_resources("tiny").lake
    assert lake.done(Stage.VALID, "2024-03-11")
    assert lake.record(Stage.PREDICTIONS, "2024-03-11") is None
    assert "RegistryUnavailable" in lake.failure(Stage.PREDICTIONS, "2024-03-11")
    monkeypatch.undo()


@pytest.mark.slow
def test_a_category_that_training_did_not_have_is_scored_as_missing(champion):
    rewrite(champion, parcels(10).assign(city="Atlantis"), 10)
    assert process(model="tiny", partition="2024-03-11", return_state=True).is_completed()
    res = open_resources("tiny")
    pipeline, rows = res.registry.load(res.ledger.champion().version), parcels(10)[["weight", "distance"]]
    expected = pipeline.predict_proba(rows.assign(city=None))[:, 1]
    np.testing.assert_array_equal(
        res.lake.read(Stage.PREDICTIONS, "2024-03-11")["prediction"], expected.astype("float64")
    )


def test_an_unknown_fact_is_refused(workspace):
    with pytest.raises(UnknownFact, match="no fact 'x'"):
        retrain(model="tiny", partition=DAY, fact="x")


def test_without_an_earlier_champion_there_is_nothing_to_roll_back_to(workspace):
    with pytest.raises(UnknownVersion, match="never champion before"):
        rollback(model="tiny", by="ann", reason="to see")


def test_an_unknown_model_is_refused_with_the_choices(workspace):
    with pytest.raises(Exception, match="there are: tiny"):
        process(model="tinny")
