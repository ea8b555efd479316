"""Claims: one process at a time works on a partition, and a killed one's work is taken over."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from configs.settings import ROOT
from tasks.ledger.claims import Claims
from tasks.ledger.database import open_database
from tasks.ledger.tables import holders
from tests.tasks.ledger.test_store import postgres_schema

HOLD = """
import sys, time
from tasks.ledger.claims import Claims
with Claims(sys.argv[1], "tiny", "another").hold("2024-03-01"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/claims.db" if request.param == "sqlite" else postgres_schema()


def holder(url: str) -> subprocess.Popen[str]:
    """Another process that holds a partition."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_kept_off_and_told_who_is_at_work(url):
    other = holder(url)
    try:
        claims = Claims(url, "tiny")
        found = claims.take("2024-03-01")
        assert found
        assert "tiny 2024-03-01: flow run another is at work on it since 2" in str(found)
        assert list(claims.running()) == ["2024-03-01"]
        assert claims.take("2024-03-02") is None
        assert Claims(url, "other").take("2024-03-01") is None, "another model's partition is another one"
    finally:
        other.kill()


def test_a_killed_process_is_taken_over_at_once(url):
    other = holder(url)
    other.kill()
    other.wait()
    claims = Claims(url, "tiny")
    assert claims.running() == {}
    assert claims.take("2024-03-01") is None
    claims.leave("2024-03-01")
    assert claims.take("2024-03-01") is None
    assert list(claims.running()) == ["2024-03-01"]


def test_a_process_of_another_machine_is_taken_over_when_it_was_silent_for_its_lease(url):
    other = holder(url)
    try:
        change = sa.update(holders).values(host="elsewhere", pid=1)
        with open_database(url).begin() as con:
            con.execute(change)
        assert Claims(url, "tiny").take("2024-03-01"), "it may well live"
        with open_database(url).begin() as con:
            con.execute(sa.update(holders).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        assert Claims(url, "tiny").take("2024-03-01") is None
    finally:
        other.kill()


def test_the_number_of_a_dead_process_that_another_one_has_now_does_not_keep_its_claims(url):
    other = holder(url)
    try:
        with open_database(url).begin() as con:
            con.execute(sa.update(holders).values(born=time.time() - 86400))
        assert Claims(url, "tiny").take("2024-03-01") is None
    finally:
        other.kill()


def test_a_claim_may_be_held_again_by_what_is_called_and_not_by_another_thread(url):
    claims, seen = Claims(url, "tiny"), []
    with claims.hold("2024-03-01"):
        with claims.hold("2024-03-01"):
            assert claims.mine("2024-03-01")
        thread = threading.Thread(target=lambda: seen.append(claims.take("2024-03-01")))
        thread.start()
        thread.join()
        assert seen[0] is not None
    assert claims.running() == {}


def test_of_many_threads_one_at_a_time_is_at_work(url):
    """Each adds one to a number without any other care; a lost update would show."""
    claims, count, alone = Claims(url, "tiny"), [0], []

    def work() -> None:
        with claims.hold("2024-03-01"):
            before = count[0]
            time.sleep(0.01)
            alone.append(count[0] == before)
            count[0] = before + 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [5]
    assert all(alone)


def test_who_waits_is_told_once_for_whom(url):
    claims, told = Claims(url, "tiny"), []
    held = threading.Event()

    def work() -> None:
        with Claims(url, "tiny", "first").hold("2024-03-01"):
            held.set()
            time.sleep(1.2)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    with claims.hold("2024-03-01", told.append):
        assert [claim.flow_run for claim in told] == ["first"]
    thread.join()


def test_a_killed_process_that_nobody_has_waited_for_is_dead(url):
    other = holder(url)
    other.kill()
    time.sleep(0.5)  # a zombie until it is waited for
    assert Claims(url, "tiny").take("2024-03-01") is None
    other.wait()


def test_a_live_process_of_this_machine_keeps_its_claims_though_it_was_silent(url):
    """It may have been suspended with the machine."""
    other = holder(url)
    try:
        with open_database(url).begin() as con:
            con.execute(sa.update(holders).values(expires_at=datetime.now(UTC) - timedelta(hours=1)))
        assert Claims(url, "tiny").take("2024-03-01")
    finally:
        other.kill()
        other.wait()


def test_a_row_that_could_not_be_deleted_does_not_keep_its_own_process_off(url, monkeypatch):
    claims = Claims(url, "tiny")
    assert claims.take("2024-03-01") is None

    def busy(*_):
        raise sa.exc.OperationalError("DELETE", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(sa, "delete", busy)
        claims.leave("2024-03-01")
    assert list(claims.running()) == ["2024-03-01"]
    assert claims.take("2024-03-01") is None


def test_two_views_of_a_model_in_one_thread_do_not_wait_for_each_other(url):
    with Claims(url, "tiny").hold("2024-03-01"):
        assert Claims(url, "tiny").take("2024-03-01") is None
