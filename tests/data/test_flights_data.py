"""The committed flights: the contents of the files, and that source.sql and labels.sql use only what was known."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
DATA, CONFIGS = ROOT / "data" / "flights", ROOT / "configs" / "flights"
SOURCE, LABELS = (CONFIGS / "source.sql").read_text(), (CONFIGS / "labels.sql").read_text()
NEW_YORK = ZoneInfo("America/New_York")
LOOKBACK, DAY = timedelta(days=30), pd.Timedelta(24, "h")
OUTCOMES = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
KNOWN_AT = "time_hour + to_minutes(minute) + INTERVAL 24 HOUR"
RATES = {
    f"{key}_late_{days}d": (key, days)
    for key, spans in {"origin": (1, 7, 28), "carrier": (1, 7, 28), "dest": (7, 28)}.items()
    for days in spans
}
SHA256 = {
    "flights-2013-01.parquet": "1cdf5550ec0871d5693468cf5ce371044ab384648dc7257d3c14499171cc9071",
    "flights-2013-02.parquet": "a15a7956ebf57fb277fe04ca09ef22f058771d1619753d40c55dadc1916c2057",
    "flights-2013-03.parquet": "f728118a79eb460e5f88a15af11f4f57209b70da27d0ac5236372b938b13ceb1",
    "flights-2013-04.parquet": "84bbc71cd97997f0ed0435f66b132d9f60deec11ca0def8b875fbd27975e9cbb",
    "flights-2013-05.parquet": "50a4c4823162ce7aba8ab4e24ea16a024cdc13c289872c6537c73cb43cbc8ead",
    "flights-2013-06.parquet": "6cbf283eb63b11f420e6177eab13986bf71a83b192b181352b40fee8fd4fdeab",
    "flights-2013-07.parquet": "942ce2687a26d831782fff3f6df7839c61b43875286c1426887b627784ae0b96",
    "flights-2013-08.parquet": "20a69c8128aab97fee57dea3f3554096cd811d7c46252945f86731647a4f9a00",
    "flights-2013-09.parquet": "45b4202471428d595145993e4bb7fea594e7adad6fa0167a598ec754458bad01",
    "flights-2013-10.parquet": "84e60ffecc517585cea7f3f821fb9b02189bb4c2e738b75e8c643a092ee3eebd",
    "flights-2013-11.parquet": "c935941fee7d288827e16e198dccb78ed59c0c874b7405cd7773b7e49db6c31a",
    "flights-2013-12.parquet": "1f1bde2f3763e78c4e460cacc5e4545a61d4880d162fb4de5f155a48b303edc1",
    "planes.parquet": "b8b1f6d8d0343976761d09b180ac21ae36a308e711b34a6582d3196f1c173348",
    "weather.parquet": "ac6270a28d902302394de722af1709431bb3dbb7fb4c1001b38fed32cffad38c",
}


def local(month: int, day: int = 1, hour: int = 0) -> datetime:
    return datetime(2013, month, day, hour, tzinfo=NEW_YORK)


def files_of(start: datetime, end: datetime) -> list[str]:
    """Return the monthly files that overlap `[start - LOOKBACK, end)`, as the pipeline chooses them."""
    first, last = (start - LOOKBACK).astimezone(NEW_YORK), (end - timedelta(microseconds=1)).astimezone(NEW_YORK)
    months = range(1 if first.year < 2013 else first.month, 13 if last.year > 2013 else last.month + 1)
    return [str(DATA / f"flights-2013-{month:02d}.parquet") for month in months]


@contextmanager
def database(files: list[str], threads: int = 2) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": threads}) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"CREATE VIEW flights AS FROM read_parquet({files})")
        for table in ("weather", "planes"):
            con.execute(f"CREATE VIEW {table} AS FROM read_parquet('{DATA / table}.parquet')")
        yield con


def read(
    sql: str, start: datetime, end: datetime, threads: int = 2, views: dict[str, str] | None = None
) -> pd.DataFrame:
    """Return the rows of `sql` for `[start, end)`. `views` replaces tables, by SQL in which `{}` is the original."""
    with database(files_of(start, end), threads) as con:
        for table, query in (views or {}).items():
            con.execute(f"CREATE TABLE original_{table} AS FROM {table}")
            con.execute(f"CREATE OR REPLACE VIEW {table} AS {query.format(f'original_{table}')}")
        return con.execute(sql, {"start": start, "end": end}).df()


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    with database(files_of(local(1), datetime(2014, 1, 1, tzinfo=NEW_YORK))) as con:
        return con.execute(f"SELECT *, {KNOWN_AT} AS known_at FROM flights").df()


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return read(LABELS, local(1), datetime(2014, 1, 1, tzinfo=NEW_YORK))


@pytest.fixture(scope="module")
def quarter() -> pd.DataFrame:
    return read(SOURCE, local(1), local(4))


@pytest.fixture(scope="module")
def july() -> pd.DataFrame:
    return read(SOURCE, local(7), local(8))


# The files


def test_the_committed_files_are_the_recorded_ones():
    """An intended change of the files changes this list."""
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in DATA.glob("*.parquet")} == SHA256


def test_the_source_is_complete_with_its_known_faults(flights: pd.DataFrame):
    with database(files_of(local(12), local(12, 2))) as con:
        weather, planes = con.execute("FROM weather").df(), con.execute("FROM planes").df()
    assert (len(flights), len(weather), len(planes)) == (336_776, 26_115, 3_322)
    cancelled = flights.dep_time.isna()
    assert (cancelled.sum(), (flights.arr_delay.isna() & ~cancelled).sum()) == (8_255, 1_175)
    assert flights.tailnum.isna().sum() == (flights.tailnum.isna() & cancelled).sum() == 2_512
    without_plane = flights[flights.tailnum.notna() & ~flights.tailnum.isin(planes.tailnum)]
    assert (len(without_plane), without_plane.tailnum.nunique()) == (50_094, 721)
    observed = flights.merge(weather, on=["origin", "time_hour"], how="left", indicator=True, suffixes=("", "_w"))
    assert (len(observed), (observed._merge == "left_only").sum()) == (336_776, 1_556)
    assert (weather.wind_speed > 100).sum() == 1
    assert not (observed.wind_speed > 100).any()  # no flight was scheduled in that hour


def test_weather_repeats_a_local_hour_when_clocks_go_back_but_never_a_utc_hour():
    with database(files_of(local(12), local(12, 2))) as con:
        weather = con.execute("FROM weather").df()
    assert weather.duplicated(["origin", "year", "month", "day", "hour"]).sum() == 3
    assert not weather.duplicated(["origin", "time_hour"]).any()


# The rows


def test_every_flight_has_one_row_and_one_label_under_one_key(quarter: pd.DataFrame, labels: pd.DataFrame):
    assert labels.flight_id.is_unique
    assert len(labels) == 336_776
    first = labels[labels.known_at < pd.Timestamp(local(4)) + DAY]
    assert list(first.flight_id) == list(quarter.flight_id)
    assert "2013-01-01-UA1545-EWR" in set(quarter.flight_id)


def test_labels_are_late_or_not_or_null_and_known_within_a_day(flights: pd.DataFrame, labels: pd.DataFrame):
    assert labels.late.isna().sum() == 8_255 + 1_175
    assert labels.late.sum() == (flights.arr_delay > 15).sum()
    assert labels.known_at.notna().all()
    clock = (
        flights.sched_arr_time // 100 * 60 + flights.sched_arr_time % 100 - flights.hour * 60 - flights.minute
    ) % 1440
    assert clock.max() + 6 * 60 + 15 < 24 * 60  # Hawaii is at most six hours behind


def test_numbers_are_doubles_and_rows_are_in_order(quarter: pd.DataFrame):
    assert set(quarter.dtypes.astype(str)) == {"str", "float64", "datetime64[us, UTC]"}
    assert quarter.sort_values(["sched_dep", "flight_id"]).index.equals(quarter.index)
    assert quarter.drop(columns=list(RATES)).loc[:, "minute_of_day":"dest_hour_flights"].notna().all().all()


@pytest.mark.parametrize("month", [1, 2, 3])
def test_a_month_is_the_same_alone_as_in_its_quarter(quarter: pd.DataFrame, month: int):
    start, end = local(month), local(month + 1)
    alone = read(SOURCE, start, end, threads=1)
    within = quarter[(quarter.sched_dep >= start) & (quarter.sched_dep < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, within, check_exact=True)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (local(2, 1), local(2, 2)),
        (local(3, 10), local(3, 11)),  # 23 hours
        (local(3, 31), local(4, 1)),
        (datetime(2013, 2, 11, 12, 20, tzinfo=UTC), datetime(2013, 2, 11, 15, 45, tzinfo=UTC)),
    ],
)
def test_a_day_or_less_is_the_same_as_in_its_quarter(quarter: pd.DataFrame, start: datetime, end: datetime):
    within = quarter[(quarter.sched_dep >= start) & (quarter.sched_dep < end)].reset_index(drop=True)
    assert len(within) > 50
    pd.testing.assert_frame_equal(read(SOURCE, start, end, threads=4), within, check_exact=True)


def test_an_empty_range_has_the_columns_and_no_rows(quarter: pd.DataFrame):
    nothing = read(SOURCE, local(1, 1, 0), local(1, 1, 1))
    assert len(nothing) == 0
    assert list(nothing.columns) == list(quarter.columns)


# Data known at a moment


def late_rate(known_at: np.ndarray, delays: np.ndarray, moment: pd.Timestamp, days: int) -> float:
    """Compute the rate from its definition: outcomes of the row's key that became known in the `days` before its hour began."""
    hour = moment.floor("h")
    since, until = (t.tz_convert(None).to_datetime64() for t in (hour - days * DAY, hour))
    outcomes = delays[(known_at >= since) & (known_at < until)]
    return (outcomes > 15).mean() if len(outcomes) else np.nan


def test_late_rates_are_those_of_the_outcomes_known_by_then(
    flights: pd.DataFrame, quarter: pd.DataFrame, july: pd.DataFrame
):
    early = quarter[quarter.sched_dep < local(1, 4)].sample(60, random_state=1)
    rows = pd.concat([early, quarter.sample(120, random_state=2), july.sample(120, random_state=3)])
    for name, (key, days) in RATES.items():
        keyed = {
            value: (group.known_at.dt.tz_convert(None).to_numpy(), group.arr_delay.to_numpy("float64"))
            for value, group in flights.dropna(subset="arr_delay").groupby(key)
        }
        expected = [late_rate(*keyed[row[key]], row["sched_dep"], days) for row in rows.to_dict("records")]
        np.testing.assert_array_equal(rows[name], expected, err_msg=name)
    assert early.origin_late_28d.isna().any()
    assert early.origin_late_28d.notna().any()


def hidden_after(moment: str) -> dict[str, str]:
    """Return the flights view as of `moment`: outcomes that became known later are null."""
    hidden = ", ".join(f"CASE WHEN {KNOWN_AT} <= TIMESTAMPTZ '{moment}' THEN {c} END AS {c}" for c in OUTCOMES)
    return {"flights": f"SELECT * REPLACE ({hidden}) FROM {{}}"}


@pytest.mark.parametrize("day", [1, 10])
@pytest.mark.parametrize("hour", [6, 17])
def test_data_that_become_known_later_change_no_row(july: pd.DataFrame, day: int, hour: int):
    start, end = local(7, day, hour), local(7, day, hour + 1)
    rows = july[(july.sched_dep >= start) & (july.sched_dep < end)].reset_index(drop=True)
    assert len(rows) > 10
    pd.testing.assert_frame_equal(
        read(SOURCE, start, end, views=hidden_after(start.isoformat())), rows, check_exact=True
    )


def test_a_leaking_window_is_detected():
    """The same check, with a window that includes the flights of the evening before."""
    start, end = local(7, 10, 17), local(7, 10, 18)
    leaking = SOURCE.replace("25 PRECEDING", "1 PRECEDING")
    as_of_then, as_of_now = read(leaking, start, end, views=hidden_after(start.isoformat())), read(leaking, start, end)
    assert (as_of_then.origin_late_1d != as_of_now.origin_late_1d).all()


# Joins and planted rows


def test_joins_never_multiply_or_lose_flights(july: pd.DataFrame):
    views = {
        "weather": "FROM {0} UNION ALL SELECT * REPLACE (temp + 1 AS temp) FROM {0}",
        "planes": "FROM {0} UNION ALL FROM {0}",
    }
    pd.testing.assert_frame_equal(read(SOURCE, local(7), local(8), views=views), july, check_exact=True)
    without = read(SOURCE, local(7, 1), local(7, 2), views={"weather": "FROM {} LIMIT 0", "planes": "FROM {} LIMIT 0"})
    assert len(without) == (july.sched_dep < local(7, 2)).sum()
    assert without[["temp", "plane_age"]].isna().all().all()
    nameless = read(
        SOURCE, local(7, 1), local(7, 2), views={"flights": "SELECT * REPLACE (NULL::VARCHAR AS carrier) FROM {}"}
    )
    assert len(nameless) == len(without)


# Scheduled departure in New York, carrier, flight, dest, scheduled arrival, tail number, arr_delay.
PLANTED = """SELECT
    year(t)::SMALLINT AS year, month(t)::SMALLINT AS month, day(t)::SMALLINT AS day,
    hour(t)::SMALLINT AS hour, minute(t)::SMALLINT AS minute,
    timezone('America/New_York', date_trunc('hour', t)) AS time_hour,
    1::SMALLINT AS dep_time, arrives::SMALLINT AS sched_arr_time, delay::SMALLINT AS arr_delay,
    carrier, flight::SMALLINT AS flight, tailnum, 'EWR' AS origin, dest, 500::SMALLINT AS distance
FROM (VALUES
    (TIMESTAMP '2013-06-08 09:59', 'AA', 1, 'BOS', 1100, NULL, 99),    -- known a minute too early for the last day
    (TIMESTAMP '2013-06-08 10:00', 'AA', 2, 'BOS', 1100, NULL, 16),    -- late, by a minute
    (TIMESTAMP '2013-06-08 12:00', 'UA', 3, 'BOS', 1100, NULL, 15),    -- not late
    (TIMESTAMP '2013-06-08 12:00', 'UA', 4, 'ORD', 1100, NULL, NULL),  -- no outcome, ever
    (TIMESTAMP '2013-06-09 09:59', 'AA', 5, 'BOS', 1100, NULL, -3),    -- the newest that counts
    (TIMESTAMP '2013-06-09 10:00', 'AA', 6, 'BOS', 1100, NULL, 99),    -- known at 10:00, after the hour had begun
    (TIMESTAMP '2013-06-10 10:30', 'AA', 7, 'BOS', 1130, 'N14228', 99),
    (TIMESTAMP '2013-06-10 10:45', 'AA', 8, 'ORD', 15, 'none', NULL)
) AS planted(t, carrier, flight, dest, arrives, tailnum, delay)"""


def test_planted_flights_have_the_features_that_were_counted_by_hand():
    rows = read(SOURCE, local(6, 10), local(6, 11), views={"flights": PLANTED}).set_index("flight_id")
    assert list(rows.index) == ["2013-06-10-AA7-EWR", "2013-06-10-AA8-EWR"]
    boston, chicago = rows.iloc[0], rows.iloc[1]
    assert boston.sched_dep == pd.Timestamp("2013-06-10 14:30", tz="UTC")
    assert (boston.minute_of_day, boston.weekday, boston.scheduled_minutes) == (630, 1, 60)
    assert chicago.scheduled_minutes == 13.5 * 60  # past midnight
    assert (boston.origin_hour_flights, boston.carrier_hour_flights, boston.dest_hour_flights) == (2, 2, 1)
    assert boston.plane_age == 2013 - 1999
    assert chicago[["plane_age", "plane_seats", "dest_late_28d"]].isna().all()
    assert boston.origin_late_1d == 1 / 3
    assert boston.carrier_late_1d == 1 / 2
    assert boston.origin_late_7d == boston.dest_late_28d == 2 / 4


def test_source_sql_keeps_faults_for_validation():
    """The wind of 1,048 mph is recorded for Newark on 12 February, 03:00, when no flight was scheduled. Here one is."""
    planted = PLANTED.replace("2013-06-10 10:30", "2013-02-12 03:10")
    row = read(SOURCE, local(2, 12), local(2, 13), views={"flights": planted}).iloc[0]
    assert row.wind_speed == pytest.approx(1048.36058)
