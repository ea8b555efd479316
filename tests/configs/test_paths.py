"""Dated paths: which ones are refused, and that the name of a period's file is read as that period."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.paths import any_date, dated_path, parse_date, path_problem
from tasks.storage.partitions import floor, parse_key

PATHS = {
    "M": [
        "data/%Y/%m.parquet",
        "d/year=%Y/month=%m/rows.csv",
        "d/year=%Y/month=%-m/*.parquet",
        "d/%Y-%m-%d.csv",
        "d/%y%m.csv",
        "d/%b %Y.csv",
    ],
    "W": ["d/rows-%G-W%V.parquet", "d/week=%G-W%V/rows.parquet", "d/%Y-%m-%d.csv", "d/%Y/%G-W%V.csv", "d/%Y-%j.csv"],
    "D": [
        "d/date=%Y-%m-%d/rows.parquet",
        "d/%Y/%m/%d/%Y%m%d.csv",
        "d/%Y/%j.csv",
        "d/year=%Y/month=%-m/day=%-d/part-*.parquet",
        "d/100%%-%Y%m%d.csv",
    ],
    "H": ["d/%Y-%m-%dT%H.csv", "d/date=%Y-%m-%d/hour=%-H/rows.parquet", "d/%Y%m%d%H%M%S.csv", "/srv/a.b+c/%Y%j-%H.csv"],
}


@pytest.mark.parametrize(("every", "path"), [(every, path) for every, paths in PATHS.items() for path in paths])
@given(moment=st.datetimes(parse_key("1970-01-01", "D"), parse_key("2068-12-31", "D")))
def test_the_file_of_a_period_is_recognised_as_that_period(every, path, moment):
    assert path_problem(path, every) == ""
    start = floor(moment, every)
    name = dated_path(path, start).replace("*", "00000-abc")
    assert parse_date(path, name, every) == start
    assert parse_date(path, f"{name}x", every) is None
    assert Path(name).match(any_date(path))


def test_names_that_no_period_has_are_no_dates():
    assert parse_date("d/%Y/%Y-%m.csv", "d/2023/2024-03.csv", "M") is None
    assert parse_date("d/%Y-%m-%d.csv", "d/2024-02-30.csv", "D") is None
    assert parse_date("d/%Y-%m-%d.csv", "d/2024-3-01.csv", "D") is None
    assert parse_date("d/%Y-%m-%d.csv", "d/2024-03-02.csv", "M") is None, "a month starts on the first"
    assert parse_date("d/%G-W%V.csv", "d/2021-W53.csv", "W") is None, "2021 has 52 ISO weeks"
    assert parse_date("d/%G-W%V.csv", "d/2020-W53.csv", "W") == parse_key("2020-12-28", "D")


@pytest.mark.parametrize(
    ("path", "every", "part"),
    [
        ("d/%Y-%U.csv", "W", "%U cannot be used"),
        ("d/%F.csv", "D", "%F cannot be used"),
        ("d/100%/%Y-%m-%d.csv", "D", "%% for a percent sign"),
        ("d/%Y-%m.csv", "D", "%Y %m %d or %Y %j"),
        ("d/%Y-W%V.csv", "W", "%G %V or %Y %m %d"),
        ("d/%Y-%m-%d.csv", "H", "%Y %m %d %H"),
        ("d/rows.csv", "D", "needs a path with %Y"),
        ("d/rows-%Y.csv", None, "needs `every`"),
        ("d/year=%Y/month=%m/", "M", "*.parquet"),
        ("~/rows.csv", None, "~"),
        ("d/rows**.csv", None, "data/**/rows.csv"),
    ],
)
def test_a_path_under_which_no_file_can_be_found_is_refused(path, every, part):
    assert part in path_problem(path, every)


def test_redundant_directives_must_agree_and_wildcards_may_match_in_several_ways():
    assert parse_date("d/*%Y-%m-%d_%d*.csv", "d/x2024-03-05_05.csv", "D") == parse_key("2024-03-05", "D")
    assert parse_date("d/*%Y-%m-%d*.csv", "d/12024-03-051.csv", "D") == parse_key("2024-03-05", "D")
    assert parse_date("d/%Y-%m-%d_%b.csv", "d/2024-03-05_Mar.csv", "D") == parse_key("2024-03-05", "D")
    assert parse_date("d/%Y-%m-%d_%b.csv", "d/2024-03-05_Apr.csv", "D") is None
    assert parse_date("d/%Y-%m-%d_%-d*.csv", "d/2024-03-05_6.csv", "D") is None
