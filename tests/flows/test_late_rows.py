"""Rows that come after their partition was scored: what `partition.late_rows` makes of them, and what is kept of before."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from flows.assess import assess
from flows.backfill import backfill
from flows.process import process
from tasks.catalogue import load
from tasks.contracts import Stage
from tasks.errors import CorruptPartition
from tasks.reports.pages.model import describe, render
from tasks.resources import LiveResources, open_resources
from tasks.storage.earlier import keeping_earlier
from tasks.storage.files import digest_file
from tasks.storage.published_contract import KEY
from tests.conftest import ROWS, day_file
from tests.flows.test_controller import day

DAY, LATE = 10, 30
"""The day of which 30 of 150 rows come late, and one row is corrected then."""
CORRECTED = f"{DAY:02d}-000"


def use_rule(folder: Path, rule: str) -> LiveResources:
    path = folder / "configs" / "tiny" / "model.yaml"
    config = yaml.safe_load(path.read_text())
    config["partition"]["late_rows"] = rule
    path.write_text(yaml.safe_dump(config))
    return open_resources("tiny")


def process_twice(folder: Path, rule: str) -> tuple[LiveResources, pd.DataFrame]:
    """Process the day without its last rows, and again with them and another weight of its first row. Returns the first predictions."""
    _, path, rows, before = process_partly(folder, rule)
    rows.assign(weight=rows["weight"].where(rows["parcel"] != CORRECTED, 40.0)).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    return open_resources("tiny"), before


def process_partly(folder: Path, rule: str) -> tuple[LiveResources, Path, pd.DataFrame, pd.DataFrame]:
    """Process the day without its last rows. Returns its file, all of its rows, and the predictions."""
    res, path = use_rule(folder, rule), day_file(folder, DAY)
    rows = pd.read_parquet(path)
    rows.head(ROWS - LATE).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    return res, path, rows, load("tiny", "predictions", day(DAY), day(DAY))


def weight_of_corrected(res: LiveResources) -> float:
    raw = res.lake.read(Stage.RAW, day(DAY)).set_index("parcel")
    return float(raw["weight"][CORRECTED])


def test_late_rows_score_the_partition_again_and_the_earlier_predictions_are_kept_as_superseded(champion):
    res, before = process_twice(champion, "rescore")
    after = load("tiny", "predictions", day(DAY), day(DAY))
    assert (len(before), len(after), weight_of_corrected(res)) == (ROWS - LATE, ROWS, 40.0)
    both = load("tiny", "predictions", day(DAY), day(DAY), superseded=True)
    replaced = both["superseded_at"].notna()
    columns = list(before.columns)
    pd.testing.assert_frame_equal(both.loc[replaced, columns].reset_index(drop=True), before)
    pd.testing.assert_frame_equal(both.loc[~replaced, columns].reset_index(drop=True), after)
    moment = both.loc[replaced, "superseded_at"].unique()
    assert len(moment) == 1
    assert pd.Timestamp.now("UTC") - moment[0] < pd.Timedelta("5min")
    raw = res.lake.done(Stage.RAW, day(DAY)).data
    assert raw == {"late_rows": LATE, "corrected_rows": 1, KEY: 1}
    page = describe(res)
    (shown,) = (p for p in page["partitions"] if p["key"] == day(DAY))
    assert (shown["late"], shown["superseded"]) == (str(LATE), 1)
    assert f"v{shown['version']} (1 superseded)" in render(page)


def test_appended_rows_are_scored_and_the_others_keep_their_prediction(champion):
    res, before = process_twice(champion, "append")
    after = load("tiny", "predictions", day(DAY), day(DAY))
    assert (len(after), weight_of_corrected(res) == 40.0) == (ROWS, False)
    same = after[after["parcel"].isin(before["parcel"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, before)
    assert res.lake.done(Stage.RAW, day(DAY)).data == {"late_rows": LATE, "corrected_rows": 1, KEY: 1}


def test_ignored_rows_change_nothing_are_counted_and_their_labels_block_nothing(champion):
    res, before = process_twice(champion, "ignore")
    pd.testing.assert_frame_equal(load("tiny", "predictions", day(DAY), day(DAY)), before)
    raw = res.lake.done(Stage.RAW, day(DAY))
    assert (raw.rows, raw.data) == (ROWS - LATE, {"late_rows": LATE, "corrected_rows": 1, "left_out": LATE, KEY: 1})
    assert assess(model="tiny", partition=day(DAY), return_state=True).is_completed()
    labels = res.lake.done(Stage.LABELS, day(DAY))
    assert (labels.status, labels.data["faulty"]) == ("done", 0)
    res = use_rule(champion, "rescore")
    process(model="tiny", partition=day(DAY))
    assert len(load("tiny", "predictions", day(DAY), day(DAY))) == ROWS, "another rule reads the source again"


def test_rows_that_the_source_has_always_had_are_not_late(champion):
    res = use_rule(champion, "rescore")
    process(model="tiny", partition=day(DAY))
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.assign(unused=np.arange(len(rows))).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    assert res.lake.done(Stage.RAW, day(DAY)).data == {KEY: 1}


@pytest.mark.parametrize("rule", ["append", "ignore"])
def test_a_day_without_rows_takes_the_rows_that_come_whatever_the_rule(champion, rule):
    res, path = use_rule(champion, rule), day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.iloc[:0].to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    assert res.lake.done(Stage.RAW, day(DAY)).data == {"empty": True, KEY: 1}
    rows.to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    raw = open_resources("tiny").lake.done(Stage.RAW, day(DAY))
    assert (raw.rows, raw.data) == (ROWS, {"late_rows": ROWS, KEY: 1})


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rescore", "append", "ignore"])
def test_a_day_that_was_blocked_is_repaired_whatever_the_rule(champion, rule):
    use_rule(champion, rule)
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.assign(weight=99.0).to_parquet(path, index=False)
    assert process(model="tiny", partition=day(DAY), return_state=True).is_failed()
    rows.to_parquet(path, index=False)
    assert process(model="tiny", partition=day(DAY), return_state=True).is_completed()
    assert len(load("tiny", "predictions", day(DAY), day(DAY))) == ROWS


def test_a_row_that_was_quarantined_is_appended_when_it_is_corrected(champion):
    use_rule(champion, "append")
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.assign(weight=rows["weight"].where(rows["parcel"] != CORRECTED, 99.0)).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    before = load("tiny", "predictions", day(DAY), day(DAY))
    assert CORRECTED not in set(before["parcel"])
    rows.assign(weight=rows["weight"] + 1).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    after = load("tiny", "predictions", day(DAY), day(DAY))
    assert set(after["parcel"]) - set(before["parcel"]) == {CORRECTED}
    pd.testing.assert_frame_equal(after[after["parcel"] != CORRECTED].reset_index(drop=True), before)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["append", "ignore"])
def test_what_was_scored_survives_a_delivery_that_cannot_be_read(champion, rule):
    """The delivery without a column blocks the day. The next one has late rows and a correction."""
    res, path, rows, before = process_partly(champion, rule)
    rows.drop(columns="weight").to_parquet(path, index=False)
    assert process(model="tiny", partition=day(DAY), return_state=True).is_failed()
    rows.assign(weight=rows["weight"].where(rows["parcel"] != CORRECTED, 40.0)).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    after = load("tiny", "predictions", day(DAY), day(DAY))
    same = after[after["parcel"].isin(before["parcel"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, before)
    assert len(after) == (ROWS if rule == "append" else ROWS - LATE)
    counted = res.lake.done(Stage.RAW, day(DAY)).data
    assert (counted["late_rows"], counted["corrected_rows"], counted.get("left_out", 0)) == (
        LATE, 1, LATE if rule == "ignore" else 0,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["append", "ignore"])
def test_damaged_rows_are_repaired_from_the_same_source_and_never_replaced_by_others(champion, rule):
    res = use_rule(champion, rule)
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.head(ROWS - LATE).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    raw, digest = res.lake.path(Stage.RAW, day(DAY)), res.lake.done(Stage.RAW, day(DAY)).digest
    for delivered, repaired in ((rows.head(ROWS - LATE), True), (rows.assign(weight=1.0), False)):
        delivered.to_parquet(path, index=False)
        raw.write_bytes(b"damaged")
        state = backfill(model="tiny", start=day(DAY), end=day(DAY), mode="verify", return_state=True)
        assert state.is_completed() == repaired, state.message
        assert (digest_file(raw) == digest) == repaired
    before = res.lake.path(Stage.PREDICTIONS, day(DAY)).read_bytes()
    with pytest.raises(CorruptPartition, match=f"partition.late_rows is {rule}, so they are not replaced"):
        process(model="tiny", partition=day(DAY))
    assert res.lake.path(Stage.PREDICTIONS, day(DAY)).read_bytes() == before


def test_labels_that_are_collected_before_the_rows_block_nothing_under_ignore(champion):
    res = use_rule(champion, "ignore")
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    rows.head(ROWS - LATE).to_parquet(path, index=False)
    process(model="tiny", partition=day(DAY))
    rows.to_parquet(path, index=False)
    assert assess(model="tiny", partition=day(DAY), return_state=True).is_completed()
    assert (res.lake.done(Stage.LABELS, day(DAY)).data["faulty"], res.lake.done(Stage.RAW, day(DAY)).rows) == (
        0,
        ROWS - LATE,
    )


@pytest.mark.slow
def test_counts_follow_the_first_delivery_whatever_came_between_and_whatever_the_rule_was(champion):
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    counts = []
    for rule, delivered in (
        ("append", rows.head(ROWS - LATE)),
        ("append", rows),
        ("ignore", rows),
        ("rescore", rows),
        ("rescore", rows.head(ROWS - LATE - 5)),
        ("rescore", rows),
        ("rescore", pd.concat([rows, rows.tail(1)])),
    ):
        res = use_rule(champion, rule)
        delivered.to_parquet(path, index=False)
        process(model="tiny", partition=day(DAY), return_state=True)
        counts.append(res.lake.done(Stage.RAW, day(DAY)).data)
    assert [c.get("late_rows", 0) for c in counts] == [0, LATE, LATE, LATE, 0, LATE, LATE + 1]
    assert {name for c in counts for name in c} == {"late_rows", KEY}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["append", "ignore"])
def test_a_kill_between_the_raw_file_and_its_record_changes_no_prediction(champion, rule):
    res, path, rows, before = process_partly(champion, rule)
    rows.assign(weight=rows["weight"] + 1).to_parquet(path, index=False)
    with suppress(KeyboardInterrupt), keeping_earlier(res.lake, Stage.RAW, day(DAY)):
        res.lake.write_table(Stage.RAW, day(DAY), res.lake.read_table(Stage.RAW, day(DAY)).slice(5))  # any other rows
        raise KeyboardInterrupt
    process(model="tiny", partition=day(DAY))
    after = load("tiny", "predictions", day(DAY), day(DAY))
    pd.testing.assert_frame_equal(after[after["parcel"].isin(before["parcel"])].reset_index(drop=True), before)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["append", "ignore"])
def test_a_variant_keeps_the_rows_that_production_has_scored(champion, rule):
    process_twice(champion, rule)
    raw = load("tiny", "raw", day(DAY), day(DAY))
    state = backfill(model="tiny", start=day(DAY), end=day(DAY), mode="all", champion="now", return_state=True)
    assert state.is_completed(), state.message
    lake = next((champion / "lake" / "tiny" / "variants").iterdir())
    assert len(pd.read_parquet(lake / "predictions" / f"{day(DAY)}.parquet")) == len(raw)


def test_labels_of_other_keys_block_under_ignore_too(champion):
    res = use_rule(champion, "ignore")
    process(model="tiny", partition=day(DAY))
    sql = champion / "configs" / "tiny" / "labels.sql"
    sql.write_text(sql.read_text().replace("SELECT parcel", "SELECT 'x' || parcel AS parcel"))
    assert assess(model="tiny", partition=day(DAY), return_state=True).is_failed()
    assert "no row has this key" in res.lake.record(Stage.LABELS, day(DAY)).reason


@pytest.mark.slow
def test_rows_that_are_there_again_after_a_partial_delivery_are_not_late(champion):
    path = day_file(champion, DAY)
    rows = pd.read_parquet(path)
    for delivered in (rows, rows.head(ROWS - LATE), rows, rows.assign(weight=rows["weight"] + 1)):
        delivered.to_parquet(path, index=False)
        process(model="tiny", partition=day(DAY))
    assert open_resources("tiny").lake.done(Stage.RAW, day(DAY)).data == {"corrected_rows": ROWS, KEY: 1}
