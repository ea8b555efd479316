"""Which partitions of a backfill must wait for others."""

import pytest

from tasks.backfill.scheduler import Schedule
from tasks.contracts import Cell, Outcome, Plan, Request
from tasks.resources import open_resources

KEYS = ("2024-03-05", "2024-03-07", "2024-03-10")


@pytest.fixture
def schedule(tiny) -> Schedule:
    """Three partitions with a first part, `ingest`, and a second part, `score`."""
    cells = {key: (Cell("ingest", "make"), Cell("score", "make")) for key in KEYS}
    return Schedule(Plan(Request.__new__(Request), "", cells, "digest"), open_resources("tiny"))


def verbs(work) -> list[tuple[str, str]]:
    return [(key, todos[0][0]) for key, todos in work]


def test_a_second_part_waits_for_the_first_part_of_earlier_partitions(schedule):
    (early,), (second,), (late,) = (schedule.next(1) for _ in range(3))
    assert verbs([early, second, late]) == [(key, "ingest") for key in KEYS]
    schedule.finish(late, Outcome(KEYS[2]))
    assert schedule.next(1) == (), "the two partitions before it are not ready"
    schedule.finish(early, Outcome(KEYS[0]))
    assert verbs(schedule.next(1)) == [(KEYS[0], "score")]
    schedule.finish(second, Outcome(KEYS[1]))
    assert verbs(schedule.next(2)) == [(KEYS[1], "score"), (KEYS[2], "score")]


def test_after_a_cancellation_a_second_part_still_waits_for_a_first_part_that_runs(schedule):
    """It would read rows that the other one is writing."""
    (early,), (second,) = schedule.next(1), schedule.next(1)
    schedule.finish(second, Outcome(KEYS[1]))
    dropped = [outcome.partition for outcome in schedule.cancel(finish=5)]
    assert KEYS[2] in dropped, "it was not started"
    assert schedule.next(1) == ()
    schedule.finish(early, Outcome(KEYS[0]))
    assert verbs(schedule.next(1)) == [(KEYS[1], "score")], "the partition that was not started does not count"
    assert schedule.next(1) == ()
