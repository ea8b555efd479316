"""A stage is done only if its record matches its file."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pytest

from configs.settings import ROOT
from tasks.contracts import PartitionRef, Stage
from tasks.errors import CorruptPartition, MissingPartition
from tasks.storage.files import replacing
from tasks.storage.lake import Lake

REF = PartitionRef("m", "2013-05", *(datetime(2013, m, 1, tzinfo=UTC) for m in (5, 6, 6, 6)))
FRAME = pd.DataFrame({"id": ["a", "b"], "x": [1.0, None]})


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path, "m")


def write(lake: Lake, frame: pd.DataFrame = FRAME, **inputs: str):
    digest = lake.write_frame(Stage.RAW, REF.key, frame)
    return lake.write_record(REF, Stage.RAW, version=1, inputs=inputs, rows=len(frame), digest=digest)


def test_written_rows_are_read_back(lake):
    write(lake)
    pd.testing.assert_frame_equal(lake.read(Stage.RAW, REF.key), FRAME)


def test_the_same_rows_give_the_same_bytes(lake):
    first = write(lake), lake.path(Stage.RAW, REF.key).read_bytes()
    second = write(lake), lake.path(Stage.RAW, REF.key).read_bytes()
    assert first == second


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_reading_and_writing_in_batches_keeps_all_rows(lake, monkeypatch, rows):
    monkeypatch.setattr("tasks.storage.lake.BATCH_ROWS", 3)
    frame = pd.DataFrame({"id": [f"k{i}" for i in range(rows)], "x": [float(i) for i in range(rows)]}).astype(
        {"id": str}
    )
    write(lake, frame)
    parts = list(lake.batches(Stage.RAW, REF.key))
    assert [part.num_rows for part in parts] == {0: [0], 1: [1], 7: [3, 3, 1]}[rows]
    count, digest = lake.write_batches(Stage.VALID, REF.key, parts)
    lake.write_record(REF, Stage.VALID, version=1, inputs={}, rows=count, digest=digest)
    pd.testing.assert_frame_equal(lake.read(Stage.VALID, REF.key), frame)
    assert count == rows
    assert [c for part in lake.batches(Stage.VALID, REF.key, ["x"]) for c in part.column_names] == ["x"] * len(parts)


def test_one_batch_gives_the_same_bytes_as_a_frame(lake):
    write(lake)
    before = lake.path(Stage.RAW, REF.key).read_bytes()
    lake.write_batches(Stage.RAW, REF.key, list(lake.batches(Stage.RAW, REF.key)))
    assert lake.path(Stage.RAW, REF.key).read_bytes() == before


def test_batches_of_a_damaged_file_raise_before_the_first(lake):
    write(lake)
    lake.path(Stage.RAW, REF.key).write_bytes(b"something else")
    with pytest.raises(CorruptPartition, match="does not match its record"):
        next(iter(lake.batches(Stage.RAW, REF.key)))


def test_a_failing_batch_leaves_the_existing_file(lake):
    write(lake)

    def broken():
        yield from lake.batches(Stage.RAW, REF.key)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        lake.write_batches(Stage.RAW, REF.key, broken())
    pd.testing.assert_frame_equal(lake.read(Stage.RAW, REF.key), FRAME)
    assert sorted(p.name for p in (lake.root / "raw").iterdir()) == ["2013-05.json", "2013-05.parquet"]


def test_a_writer_that_fails_before_the_rename_leaves_the_existing_file(lake):
    write(lake)

    def write_half() -> None:
        with replacing(lake.path(Stage.RAW, REF.key)) as draft:
            draft.write_bytes(b"half a fi")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    pd.testing.assert_frame_equal(lake.read(Stage.RAW, REF.key), FRAME)
    assert sorted(p.name for p in (lake.root / "raw").iterdir()) == ["2013-05.json", "2013-05.parquet"]


@pytest.mark.long
def test_a_writer_that_is_killed_before_the_rename_leaves_the_existing_file(lake):
    write(lake)
    path = lake.path(Stage.RAW, REF.key)
    code = f"""
import os, pathlib, signal
from tasks.storage.files import replacing
with replacing(pathlib.Path({str(path)!r})) as draft:
    draft.write_bytes(b"half a fi")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    pd.testing.assert_frame_equal(lake.read(Stage.RAW, REF.key), FRAME)
    assert lake.keys(Stage.RAW) == [REF.key]

    (draft,) = path.parent.glob(".*.part")
    write(lake)
    assert draft.exists(), "its writer may still be running"
    os.utime(draft, (0, 0))
    write(lake)
    assert not draft.exists()


def test_a_file_without_a_record_is_a_missing_stage(lake):
    lake.write_frame(Stage.RAW, REF.key, FRAME)
    assert lake.freshness(Stage.RAW, REF.key, 1, {}).state == "missing"
    with pytest.raises(MissingPartition, match="run `backfill`"):
        lake.read(Stage.RAW, REF.key)


def test_new_rows_with_an_old_record_are_refused(lake):
    write(lake)
    lake.write_frame(Stage.RAW, REF.key, FRAME.assign(x=9.0))
    with pytest.raises(CorruptPartition, match="does not match"):
        lake.read(Stage.RAW, REF.key)


def test_the_error_for_a_damaged_file_has_its_path(lake):
    write(lake)
    path = lake.path(Stage.RAW, REF.key)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptPartition, match=r"raw/2013-05\.parquet"):
        lake.read(Stage.RAW, REF.key)


def test_a_truncated_record_is_a_missing_stage(lake):
    write(lake)
    path = lake.path(Stage.RAW, REF.key, "json")
    path.write_bytes(path.read_bytes()[:30])
    assert lake.freshness(Stage.RAW, REF.key, 1, {}).state == "missing"


@pytest.mark.parametrize(
    ("version", "inputs", "state", "why"),
    [
        (1, {"source": "s"}, "fresh", ""),
        (2, {"source": "s"}, "stale", "the stage's code"),
        (1, {"source": "t"}, "stale", "source"),
        (1, {"source": "s", "config": "c"}, "stale", "config"),
        (1, {}, "stale", "source"),
    ],
)
def test_freshness_has_the_inputs_that_changed(lake, version, inputs, state, why):
    write(lake, source="s")
    freshness = lake.freshness(Stage.RAW, REF.key, version, inputs)
    assert freshness.state == state
    assert why in freshness.why


def test_a_failure_keeps_the_existing_file(lake):
    write(lake)
    lake.write_failure(REF, Stage.RAW, OSError("disk full"))
    assert lake.freshness(Stage.RAW, REF.key, 1, {}).state == "fresh"
    assert lake.failure(Stage.RAW, REF.key) == "OSError: disk full"
    write(lake)
    assert lake.failure(Stage.RAW, REF.key) == ""


def test_a_blocked_partition_has_no_rows_to_read(lake):
    write(lake)
    lake.write_record(REF, Stage.RAW, version=1, inputs={}, data={"reason": "no rows"}, blocked=True)
    assert not lake.path(Stage.RAW, REF.key).exists()
    with pytest.raises(MissingPartition, match="blocked: no rows"):
        lake.read(Stage.RAW, REF.key)
