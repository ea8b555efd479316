"""The training window over partitions without rows, without a file, and that were never validated."""

import pytest

from tasks.errors import MissingPartition, NotEnoughData
from tasks.resources import Resources, open_resources
from tasks.steps.ingest import INGEST
from tasks.steps.step import advance
from tasks.steps.validate import VALIDATE
from tasks.training.window import locate_window
from tests.conftest import day_file, parcels

DAYS = [f"2024-03-{day:02d}" for day in range(1, 9)]


def validate(*keys: str) -> Resources:
    res = open_resources("tiny")
    for key in keys:
        for step in (INGEST, VALIDATE):
            advance(step, res.ref(key), res)
    return res


def test_partitions_without_rows_are_neither_counted_nor_learned_from(tiny):
    for day in (0, 3, 7):
        parcels(day).iloc[:0].to_parquet(day_file(tiny, day), index=False)
    res = validate(*DAYS)
    window = locate_window(res)
    assert window.partitions == ("2024-03-02", "2024-03-03", "2024-03-05", "2024-03-06", "2024-03-07")
    assert window.passed_over == ()
    assert (window.start, window.end) == (res.ref("2024-03-02").start, res.ref("2024-03-07").end)
    assert window.as_of == res.ref("2024-03-08").as_of, "the newest partition, although it has no rows"
    with pytest.raises(NotEnoughData, match=r"3 validated partitions have matured labels as of .*, without empty ones"):
        locate_window(res, res.ref("2024-03-05").as_of)


def test_a_day_without_a_file_is_skipped_and_a_day_with_a_file_must_be_validated(tiny):
    day_file(tiny, 3).unlink()
    res = validate(*DAYS[:3], *DAYS[4:])
    window = locate_window(res)
    assert (window.partitions, window.passed_over) == ((*DAYS[:3], *DAYS[4:]), ("2024-03-04",))
    parcels(3).to_parquet(day_file(tiny, 3), index=False)
    with pytest.raises(MissingPartition, match="2024-03-04 in the training window was never validated"):
        locate_window(res)
