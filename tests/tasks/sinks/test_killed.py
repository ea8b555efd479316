"""A sender that is killed in the middle of its transaction loses nothing and doubles nothing, nor do two senders at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.tasks.sinks.targets import DAY, NEXT, SENDER, configure, predict, query, send_all
from tests.tasks.source.databases import ADDRESS, connect, new_database, run

ROWS = 300_000
HELD = 7_310_501
"""Key of the lock on which the insertion of one row waits."""
BY_VERSION = "SELECT model_version, count(*), count(DISTINCT parcel) FROM ml.predictions GROUP BY 1"


@pytest.fixture
def postgresql(tmp_path, monkeypatch):
    with new_database("postgresql", tmp_path) as address:
        monkeypatch.setenv(ADDRESS, address)
        yield address


def start():
    process = subprocess.Popen([sys.executable, "-c", SENDER], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout.readline() == "start\n"
    return process


def wait_until(condition, process=None):
    while not condition():
        assert process is None or process.poll() is None, process.stdout.read()
        time.sleep(0.05)


def test_killed_half_way_the_earlier_rows_stay_and_the_next_run_sends_all_once(tiny, postgresql):
    schema = postgresql.rpartition("%3D")[2]
    table, waiting = f"{schema}.predictions", f"SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = {HELD}"
    by_version = BY_VERSION.replace("ml.predictions", table)
    res = configure(tiny, publish={"warehouse": {"connection": "warehouse", "table": table}})
    predict(res, DAY, 1000)
    send_all(res)
    run(
        postgresql,
        f"CREATE FUNCTION {schema}.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.parcel = '{DAY}-{ROWS // 2}' THEN PERFORM pg_advisory_xact_lock({HELD}); END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER hold BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {schema}.hold()",
    )
    predict(res, DAY, ROWS, version="2")
    with connect(postgresql) as other, other.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM (SELECT pg_advisory_lock({HELD})) AS held")
        cursor.fetchall()
        killed = start()
        wait_until(lambda: query(postgresql, waiting) == [(1,)], killed)  # 150,000 rows are inserted, and not committed
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert query(postgresql, by_version) == [("1", 1000, 1000)]
    wait_until(lambda: query(postgresql, waiting) == [(0,)])
    assert query(postgresql, by_version) == [("1", 1000, 1000)]
    assert start().communicate()[0] == "1\n"
    assert query(postgresql, by_version) == [("2", ROWS, ROWS)]
    assert start().communicate()[0] == "0\n"


@pytest.mark.parametrize("is_claimed", [True, False])
def test_two_senders_at_once_send_each_partition_once(tiny, postgresql, monkeypatch, is_claimed):
    """Without common claims, as if a lease had expired, the database's own lock excludes the other."""
    schema = postgresql.rpartition("%3D")[2]
    res = configure(tiny, publish={"warehouse": {"connection": "warehouse", "table": f"{schema}.predictions"}})
    for key in (DAY, NEXT):
        predict(res, key, 50_000)
    first = start()
    if not is_claimed:
        monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"sqlite:///{tiny}/other.db")
    second = start()
    counts = [int(process.communicate()[0]) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert sum(counts) == 2 if is_claimed else sum(counts) >= 2
    rows = query(postgresql, f"SELECT partition, count(*), count(DISTINCT parcel) FROM {schema}.predictions GROUP BY 1")
    assert sorted(rows) == [(DAY, 50_000, 50_000), (NEXT, 50_000, 50_000)]
