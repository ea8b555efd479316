"""Literals of a range: each dialect and format selects exactly the rows of the range, also next to a change of the clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from configs.database import database_problem, parameters, render
from tasks.source.stored_times import ISO, LOCAL, ZONED, StoredTime

VIENNA = ZoneInfo("Europe/Vienna")
START, END = datetime(2024, 3, 1, 23, tzinfo=UTC), datetime(2024, 3, 2, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "start"),
    [
        (ZONED, "TIMESTAMPTZ '2024-03-01 23:00:00.000000+00:00'"),
        (LOCAL, "TIMESTAMP '2024-03-02 00:00:00.000000'"),
        (ISO, "'2024-03-02 00:00:00'"),
        ("%Y%m%d", "'20240302'"),
        ("epoch", "1709334000"),
        ("epoch_ms", "1709334000000"),
        ("epoch_us", "1709334000000000"),
    ],
)
def test_a_moment_is_a_literal_as_the_column_stores_it(form, start):
    assert StoredTime(form, VIENNA).literals(START, END)["start"] == start


def test_local_times_of_the_repeated_hour_are_in_the_range_of_either_hour():
    """In Vienna 2024-10-27 02:30 occurs twice, at 00:30 and 01:30 UTC."""
    stored, first = StoredTime(ISO, VIENNA), datetime(2024, 10, 27, tzinfo=UTC)
    for hour in (first, first + timedelta(hours=1)):
        ends = stored.literals(hour, hour + timedelta(hours=1))
        assert ends["start"] <= "'2024-10-27 02:30:00'" < ends["end"]


def test_ranges_of_zoned_and_epoch_times_are_never_wider():
    first = datetime(2024, 10, 27, tzinfo=UTC)
    assert StoredTime("epoch", VIENNA).literals(first, first + timedelta(hours=1)) == {
        "start": "1729987200",
        "end": "1729990800",
    }


@pytest.mark.parametrize("form", [ISO, "%Y-%m-%dT%H:%M:%S.%f", "epoch", "epoch_us"])
def test_a_stored_value_is_parsed_to_the_moment_that_it_was_rendered_from(form):
    stored = StoredTime(form, VIENNA)
    assert stored.parse(stored.literals(START, END)["start"].strip("'")) == START


def test_parameters_in_texts_names_and_comments_are_none():
    sql = """SELECT '$start', "$end", $start -- $end\n/* $end */ FROM t WHERE x = 'it''s $end' AND y < $END;"""
    assert parameters(sql) == {"start", "end"}
    shown = """SELECT '$start', "$end", 1  \n  FROM t WHERE x = 'it''s $end' AND y < 2"""
    assert render(sql, {"start": "1", "end": "2"}) == shown


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%y-%m-%d", "%Y-%m-%d %I:%M", "%Y-%-m-%d", "%Y-%m-%d %H:%M:%S%z", "%Y-%j %M:%H"]
)
def test_formats_whose_texts_do_not_sort_by_time_are_refused(form):
    assert "do not sort by time" in database_problem("t", None, "time", form, None, None, None)


@pytest.mark.parametrize(
    "form", [ISO, "%Y-%m-%dT%H:%M:%SZ", "%Y%m%d", "%Y-%m", "%Y-%m-%d %H:%M:%S+00:00", "%Y-%j", "epoch"]
)
def test_formats_whose_texts_sort_by_time_are_allowed(form):
    assert not database_problem("t", None, "time", form, None, None, None)
