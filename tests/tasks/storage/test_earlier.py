"""A content from which something was made is kept when another one replaces it, and can be read as it was."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from upath import UPath

from tasks.contracts import Record, Stage
from tasks.errors import CorruptPartition, PartitionChanged
from tasks.storage import earlier
from tasks.storage.earlier import (
    PinnedLake,
    damaged_contents,
    earlier_records,
    keeping_earlier,
    pin,
    superseded,
)
from tasks.storage.lake import Lake
from tests.tasks.storage.test_lake import FRAME, REF

OTHER = FRAME.assign(x=[5.0, 6.0])
RAW, VALID, LABELS, PREDICTIONS = Stage.RAW, Stage.VALID, Stage.LABELS, Stage.PREDICTIONS


def write(lake: Lake, stage: Stage, frame: pd.DataFrame, made_from: Iterable[Record] = (), **data: str) -> Record:
    """Write rows as a step does it."""
    with keeping_earlier(lake, stage, REF.key):
        inputs = {str(record.stage): record.digest for record in made_from}
        digest = lake.write_frame(stage, REF.key, frame)
        return lake.write_record(REF, stage, version=1, inputs=inputs, rows=len(frame), digest=digest, data=data)


def pipeline(lake: Lake, frame: pd.DataFrame, version: str = "3") -> dict[Stage, Record]:
    """Write raw and valid rows, labels, and predictions of a version, each made from the ones before."""
    raw = write(lake, RAW, frame)
    valid = write(lake, VALID, frame.tail(1), [raw])
    labels = write(lake, LABELS, frame.head(1), [raw])
    predictions = write(lake, PREDICTIONS, frame, [valid], version=version)
    return {record.stage: record for record in (raw, valid, labels, predictions)}


def kept(lake: Lake) -> list[Stage]:
    return [stage for stage in (RAW, VALID, LABELS, PREDICTIONS) if earlier_records(lake, stage, REF.key)]


def test_rows_from_which_nothing_was_made_are_not_kept(lake):
    for frame in (FRAME, OTHER):
        raw = write(lake, RAW, frame)
        write(lake, VALID, frame, [raw])
    assert kept(lake) == []


def test_what_a_prediction_was_made_from_is_kept_with_the_prediction(lake):
    before = pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    assert kept(lake) == [RAW, VALID, PREDICTIONS]
    for stage in (RAW, VALID, PREDICTIONS):
        assert earlier_records(lake, stage, REF.key) == [before[stage]]
        assert lake.record(stage, REF.key).digest != before[stage].digest


def test_what_a_training_reads_is_kept_and_read_through_a_pinned_lake(lake):
    before = pipeline(lake, FRAME)
    contents = {stage: {REF.key: before[stage].digest} for stage in (VALID, LABELS)}
    pin(lake, contents)
    pipeline(lake, OTHER)
    pipeline(lake, FRAME.assign(x=[8.0, 9.0]))
    pinned = PinnedLake(lake, contents)
    pd.testing.assert_frame_equal(pinned.read(VALID, REF.key), FRAME.tail(1).reset_index(drop=True))
    pd.testing.assert_frame_equal(pinned.read(LABELS, REF.key), FRAME.head(1))
    assert pinned.done(VALID, REF.key) == before[VALID]
    assert list(pinned.read(RAW, REF.key)["x"]) == [8.0, 9.0], "only what is pinned is earlier"
    assert list(lake.read(VALID, REF.key)["x"]) == [9.0]


def test_a_content_that_is_not_kept_any_more_is_read_as_it_is_now(lake):
    before = pipeline(lake, FRAME)
    lake.path(VALID, REF.key).write_bytes(b"damaged")  # a damaged file is not kept as the content of its record
    pipeline(lake, OTHER)
    assert VALID not in kept(lake)
    assert list(PinnedLake(lake, {VALID: {REF.key: before[VALID].digest}}).read(VALID, REF.key)["x"]) == [6.0]


def test_a_damaged_earlier_content_is_an_error(lake):
    before = pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    copy = lake.root / earlier.FOLDER / VALID / REF.key / f"{before[VALID].digest[:32]}.parquet"
    copy.unlink()
    copy.write_bytes(b"damaged")
    with pytest.raises(CorruptPartition, match="does not match its record"):
        PinnedLake(lake, {VALID: {REF.key: before[VALID].digest}}).read(VALID, REF.key)


def test_writing_the_same_content_keeps_no_copy(lake):
    pipeline(lake, FRAME)
    pipeline(lake, FRAME)
    assert kept(lake) == []
    assert not list((lake.root / earlier.FOLDER).glob("**/*.parquet"))


def test_a_blocked_partition_and_a_failed_write_lose_nothing(lake):
    before = pipeline(lake, FRAME)
    with keeping_earlier(lake, VALID, REF.key):
        lake.write_record(REF, VALID, version=1, inputs={}, blocked=True)
    assert earlier_records(lake, VALID, REF.key) == [before[VALID]]

    def fail() -> None:
        with keeping_earlier(lake, PREDICTIONS, REF.key):
            lake.write_frame(PREDICTIONS, REF.key, OTHER)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert earlier_records(lake, PREDICTIONS, REF.key) == [before[PREDICTIONS]], "its file is replaced already"
    write(lake, PREDICTIONS, OTHER, version="4")
    assert earlier_records(lake, PREDICTIONS, REF.key) == [before[PREDICTIONS]]


def test_a_content_that_is_pinned_while_a_step_replaces_it_is_kept(lake):
    """Nothing needed it when the step began."""
    before = write(lake, LABELS, FRAME)
    contents = {LABELS: {REF.key: before.digest}}
    with keeping_earlier(lake, LABELS, REF.key):
        pin(lake, contents)
        digest = lake.write_frame(LABELS, REF.key, OTHER)
        lake.write_record(REF, LABELS, version=1, inputs={}, rows=2, digest=digest)
    pd.testing.assert_frame_equal(PinnedLake(lake, contents, strict=True).read(LABELS, REF.key), FRAME)


def test_a_training_does_not_read_other_rows_than_it_has_pinned(lake):
    before = write(lake, LABELS, FRAME)
    write(lake, LABELS, OTHER)  # nobody had pinned the first content
    contents = {LABELS: {REF.key: before.digest}}
    with pytest.raises(PartitionChanged, match="2013-05: its labels rows were replaced while they were read"):
        PinnedLake(lake, contents, strict=True).read(LABELS, REF.key)
    assert list(PinnedLake(lake, contents).read(LABELS, REF.key)["x"]) == [5.0, 6.0]


def test_a_file_system_without_hard_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    lake = Lake(UPath(tmp_path), "m")
    before = pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    assert earlier_records(lake, VALID, REF.key) == [before[VALID]]


def test_damaged_contents_are_found(lake):
    before = pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    assert damaged_contents(lake) == []
    copy = lake.root / earlier.FOLDER / RAW / REF.key / f"{before[RAW].digest[:32]}.parquet"
    copy.unlink()
    copy.write_bytes(b"damaged")
    assert damaged_contents(lake) == [str(copy)]


def test_a_copy_of_a_content_that_is_replaced_again_is_as_young_as_that(tmp_path):
    """First A, then B, then A again, and now C: a cleaning while C is written must not take the old copy of A."""
    lake = Lake(UPath(tmp_path), "m")
    before = pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    for path in (lake.root / earlier.FOLDER).glob("**/*.json"):
        path.write_bytes(path.read_bytes())
    pipeline(lake, FRAME)
    copy = lake.root / earlier.FOLDER / PREDICTIONS / REF.key / f"{before[PREDICTIONS].digest[:32]}.json"
    then = copy.stat().st_mtime_ns
    with keeping_earlier(lake, PREDICTIONS, REF.key):
        assert copy.stat().st_mtime_ns > then
        digest = lake.write_frame(PREDICTIONS, REF.key, OTHER.assign(x=[7.0, 8.0]))
        lake.write_record(REF, PREDICTIONS, version=1, inputs={}, rows=2, digest=digest, data={"version": "3"})
    assert before[PREDICTIONS] in earlier_records(lake, PREDICTIONS, REF.key)


def test_an_attempt_that_fails_replaces_nothing(lake):
    before = pipeline(lake, FRAME)
    for _ in range(3):
        with pytest.raises(ValueError, match="no answer"), keeping_earlier(lake, PREDICTIONS, REF.key):
            raise ValueError("no answer")
    assert superseded(lake, PREDICTIONS, REF.key) == []
    pipeline(lake, OTHER)
    ((record, moment),) = superseded(lake, PREDICTIONS, REF.key)
    assert record == before[PREDICTIONS]
    assert datetime.now(UTC) - moment < timedelta(minutes=1)


def test_a_content_that_came_back_was_there_first_and_has_two_moments(lake):
    for frame in (FRAME, OTHER, FRAME, OTHER.assign(x=[7.0, 8.0])):
        pipeline(lake, frame)
    first, other = earlier_records(lake, RAW, REF.key)
    assert [rows_of(lake, record)["x"][0] for record in (first, other)] == [1.0, 5.0]
    replaced = [record.digest for record, _ in superseded(lake, RAW, REF.key)]
    assert replaced == [first.digest, other.digest, first.digest]


def rows_of(lake: Lake, record: Record) -> pd.DataFrame:
    return PinnedLake(lake, {record.stage: {REF.key: record.digest}}, strict=True).read(record.stage, REF.key)
