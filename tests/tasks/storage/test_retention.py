"""Earlier contents are deleted when nothing needs them any more, or when their declared time is over."""

import json
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from upath import UPath

from tasks.storage import earlier, retention
from tasks.storage.earlier import contents_name, earlier_records, keeping_earlier, pin
from tasks.storage.lake import Lake
from tasks.storage.retention import remove_unneeded
from tests.tasks.storage.test_earlier import (
    LABELS,
    OTHER,
    PREDICTIONS,
    RAW,
    VALID,
    kept,
    pipeline,
    rows_of,
    write,
)
from tests.tasks.storage.test_lake import FRAME, REF


@pytest.fixture
def old(monkeypatch) -> None:
    """All notes and copies count as old enough to be deleted."""
    monkeypatch.setattr(retention, "IN_FLIGHT", timedelta(seconds=-1))


def test_contents_are_deleted_when_no_version_needs_them(lake, old):
    pipeline(lake, FRAME)
    pipeline(lake, OTHER, version="4")
    assert remove_unneeded(lake, {"3": "", "4": ""}, None) == 0
    assert remove_unneeded(lake, {"4": ""}, None) == 3
    assert kept(lake) == []


def test_contents_of_a_training_are_deleted_when_its_versions_are_gone(lake, monkeypatch):
    before = pipeline(lake, FRAME)
    contents = {LABELS: {REF.key: before[LABELS].digest}}
    pin(lake, contents)
    pipeline(lake, OTHER)
    assert kept(lake) == [RAW, VALID, LABELS, PREDICTIONS]
    assert remove_unneeded(lake, {"3": ""}, None) == 0, "the training may still be running"
    monkeypatch.setattr(retention, "IN_FLIGHT", timedelta(seconds=-1))
    assert remove_unneeded(lake, {"3": "", "4": contents_name(contents)}, None) == 0
    assert remove_unneeded(lake, {"3": ""}, None) == 1
    assert kept(lake) == [RAW, VALID, PREDICTIONS]


def test_a_declared_time_deletes_contents_that_are_needed_too(tmp_path, old):
    lake = Lake(UPath(tmp_path), "m")
    pipeline(lake, FRAME)
    pipeline(lake, OTHER)
    assert remove_unneeded(lake, {"3": ""}, timedelta(days=2)) == 0
    for path in (lake.root / earlier.FOLDER).glob("**/*.json"):
        content = json.loads(path.read_text())
        before = datetime.fromisoformat(content["superseded_at"][-1]) - timedelta(days=3)
        path.write_text(json.dumps({**content, "superseded_at": [before.isoformat()]}))
    assert remove_unneeded(lake, {"3": ""}, timedelta(days=2)) == 3
    assert not list((lake.root / earlier.FOLDER).glob("**/*.parquet"))


def test_a_copy_that_a_running_step_has_just_made_is_not_deleted(lake):
    before = pipeline(lake, FRAME)
    with keeping_earlier(lake, PREDICTIONS, REF.key):
        assert remove_unneeded(lake, {"3": ""}, None) == 0, "it is a copy of the current content"
        digest = lake.write_frame(PREDICTIONS, REF.key, OTHER)
        lake.write_record(REF, PREDICTIONS, version=1, inputs={}, rows=2, digest=digest, data={"version": "4"})
    assert earlier_records(lake, PREDICTIONS, REF.key) == [before[PREDICTIONS]]


def test_a_kill_between_the_files_of_a_copy_loses_nothing_and_leaves_nothing(lake, old):
    before = pipeline(lake, FRAME)
    copy = lake.root / earlier.FOLDER / VALID / REF.key / f"{before[VALID].digest[:32]}.parquet"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(lake.path(VALID, REF.key).read_bytes())  # killed before it wrote the record
    pipeline(lake, OTHER, version="4")
    assert earlier_records(lake, VALID, REF.key) == [before[VALID]]
    copy.with_suffix(".json").unlink()  # killed between the two deletions
    remove_unneeded(lake, {"4": ""}, None)
    assert not copy.is_file()


def test_after_a_kill_between_file_and_record_the_copy_is_what_the_record_says_and_stays(lake, old):
    """The file is the new one, and its record that of before."""
    before = pipeline(lake, FRAME)
    with suppress(KeyboardInterrupt), keeping_earlier(lake, RAW, REF.key):
        lake.write_frame(RAW, REF.key, OTHER)
        raise KeyboardInterrupt
    assert lake.record(RAW, REF.key) == before[RAW]
    assert remove_unneeded(lake, {"3": ""}, None) == 0
    assert rows_of(lake, before[RAW])["x"][0] == 1.0


def test_what_current_predictions_were_made_from_does_not_expire(lake, monkeypatch):
    monkeypatch.setattr(retention, "IN_FLIGHT", timedelta(seconds=-1))
    pipeline(lake, FRAME)
    write(lake, RAW, OTHER)  # and its rows are blocked, so that nothing else is made from it
    assert remove_unneeded(lake, {"3": ""}, timedelta(0)) == 0
    assert kept(lake) == [RAW]
