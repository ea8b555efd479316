"""Claims: one process at a time works on a partition, and the claims of a dead process can be acquired."""

import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from configs.settings import ROOT
from tasks.ledger.claims import Claims, boot_id, lease_time
from tasks.ledger.database import open_database
from tasks.ledger.tables import holders
from tests.tasks.ledger.test_store import postgres_schema

pytestmark = pytest.mark.long

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
    """Start another process that holds the claim on a partition."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_cannot_acquire_a_claim_and_gets_the_holder(url):
    other = holder(url)
    try:
        claims = Claims(url, "tiny")
        claim = claims.acquire("2024-03-01")
        assert claim
        assert "tiny 2024-03-01: flow run another has been working on it since 2" in str(claim)
        assert list(claims.active()) == ["2024-03-01"]
        assert claims.acquire("2024-03-02") is None
        assert Claims(url, "other").acquire("2024-03-01") is None, (
            "the same partition of another model has its own claim"
        )
    finally:
        other.kill()


@pytest.mark.long
def test_the_claims_of_a_killed_process_can_be_acquired_at_once(url):
    other = holder(url)
    other.kill()
    other.wait()
    claims = Claims(url, "tiny")
    assert claims.active() == {}
    assert claims.acquire("2024-03-01") is None
    claims.release("2024-03-01")
    assert claims.acquire("2024-03-01") is None
    assert list(claims.active()) == ["2024-03-01"]


def test_the_claims_of_a_process_on_another_machine_can_be_acquired_after_its_lease_expires(url, monkeypatch):
    other = holder(url)
    monkeypatch.setattr("tasks.ledger.claims.LEASE", timedelta(seconds=2))
    try:
        move_to_another_host(url)
        assert Claims(url, "tiny").acquire("2024-03-01"), "it may still be alive"
        other.kill()
        end_lease(url)
        with Claims(url, "tiny").hold("2024-03-01"):
            pass
    finally:
        other.kill()


def test_a_living_process_on_another_machine_keeps_its_claims_when_the_clock_of_the_database_is_set(monkeypatch):
    """All leases are expired until they are renewed."""
    url = postgres_schema()
    other = holder(url)
    try:
        move_to_another_host(url)
        monkeypatch.setattr("tasks.ledger.claims.LEASE", timedelta(seconds=1))
        end_lease(url)
        assert Claims(url, "tiny").acquire("2024-03-01"), "it has had no time to renew its lease"
        end_lease(url)
        time.sleep(0.5)
        assert Claims(url, "tiny").acquire("2024-03-01"), "it has renewed its lease, by the clock before another step"
        time.sleep(0.5)
        with open_database(url).begin() as con:
            con.execute(sa.delete(holders))
        assert Claims(url, "tiny").acquire("2024-03-01"), "its row was deleted, and it writes another one"
        time.sleep(0.5)
        assert Claims(url, "tiny").acquire("2024-03-01") is None, "it is dead"
    finally:
        other.kill()


def move_to_another_host(url: str) -> None:
    """Change the holder into one in another container of this machine."""
    with open_database(url).begin() as con:
        con.execute(sa.update(holders).values(host=f"elsewhere {boot_id()}", pid=1))


def end_lease(url: str) -> None:
    """Let every lease end a second ago."""
    with open_database(url).begin() as con:
        con.execute(sa.update(holders).values(expires_at=lease_time(con.engine, timedelta(seconds=-1))))


def set_clock(monkeypatch: pytest.MonkeyPatch, step: timedelta) -> None:
    """Let this process see a clock that was set by `step` since the other process started, as after a correction by NTP.

    psutil computes the start of a process from the clock: the boot time is the clock minus the uptime.
    """

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + step

    boot_time = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot_time + step.total_seconds())
    monkeypatch.setattr("tasks.ledger.claims.datetime", Clock)
    unix_time = time.time
    monkeypatch.setattr(time, "time", lambda: unix_time() + step.total_seconds())


@pytest.mark.parametrize("step", [timedelta(seconds=6), timedelta(days=2), timedelta(days=-2)], ids=str)
@pytest.mark.parametrize("host", ["this host", "another host"])
def test_a_living_process_keeps_its_claims_when_the_clock_is_set(url, monkeypatch, step, host):
    other = holder(url)
    try:
        if host == "another host":
            move_to_another_host(url)
        set_clock(monkeypatch, step)
        claims = Claims(url, "tiny")
        assert list(claims.active()) == ["2024-03-01"]
        assert claims.acquire("2024-03-01"), "registering this process must not delete the other one either"
    finally:
        other.kill()


@pytest.mark.parametrize("step", [timedelta(days=2), timedelta(days=-2)], ids=str)
def test_a_lease_that_has_expired_stays_expired_when_the_clock_is_set(url, monkeypatch, step):
    other = holder(url)
    try:
        move_to_another_host(url)
        end_lease(url)
        set_clock(monkeypatch, step)
        assert Claims(url, "tiny").active() == {}
        monkeypatch.setattr("tasks.ledger.claims.LEASE", timedelta(seconds=1))
        with Claims(url, "tiny").hold("2024-03-01"):
            pass
    finally:
        other.kill()


def test_after_a_restart_of_the_machine_no_earlier_process_holds_a_claim_on_sqlite(tmp_path):
    """The seconds since a restart begin at 0 again, so a lease of before may seem to end in the future."""
    url = f"sqlite:///{tmp_path}/claims.db"
    other = holder(url)
    try:
        with open_database(url).begin() as con:
            con.execute(sa.update(holders).values(host="elsewhere 00000000-0000-0000-0000-000000000000"))
        assert Claims(url, "tiny").active() == {}
        assert Claims(url, "tiny").acquire("2024-03-01") is None
    finally:
        other.kill()


def test_a_reused_process_id_does_not_keep_the_claims_of_a_dead_process(url):
    other = holder(url)
    try:
        with open_database(url).begin() as con:
            con.execute(sa.update(holders).values(born=holders.c.born - 1))
        assert Claims(url, "tiny").acquire("2024-03-01") is None
    finally:
        other.kill()


def test_a_claim_is_reentrant_within_a_thread_only(url):
    claims, results = Claims(url, "tiny"), []
    with claims.hold("2024-03-01"):
        with claims.hold("2024-03-01"):
            assert claims.held_by_this_thread("2024-03-01")
        thread = threading.Thread(target=lambda: results.append(claims.acquire("2024-03-01")))
        thread.start()
        thread.join()
        assert results[0] is not None
    assert claims.active() == {}


def test_only_one_of_several_threads_holds_a_claim_at_a_time(url):
    """Each thread increments a counter without a lock of its own. Two holders at once would lose an update."""
    claims, count, unchanged = Claims(url, "tiny"), [0], []

    def work() -> None:
        with claims.hold("2024-03-01"):
            before = count[0]
            time.sleep(0.01)
            unchanged.append(count[0] == before)
            count[0] = before + 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [5]
    assert all(unchanged)


def test_a_waiting_caller_is_notified_once_of_the_holder(url):
    claims, waited_for = Claims(url, "tiny"), []
    held = threading.Event()

    def work() -> None:
        with Claims(url, "tiny", "first").hold("2024-03-01"):
            held.set()
            time.sleep(1.2)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    with claims.hold("2024-03-01", waited_for.append):
        assert [claim.flow_run for claim in waited_for] == ["first"]
    thread.join()


@pytest.mark.long
def test_a_zombie_process_counts_as_dead(url):
    other = holder(url)
    other.kill()
    time.sleep(0.5)  # a zombie until it is waited for
    assert Claims(url, "tiny").acquire("2024-03-01") is None
    other.wait()


def test_a_live_process_on_this_machine_keeps_its_claims_after_its_lease_has_expired(url):
    """The machine may have been suspended."""
    other = holder(url)
    try:
        end_lease(url)
        assert Claims(url, "tiny").acquire("2024-03-01")
    finally:
        other.kill()
        other.wait()


def test_a_claim_that_could_not_be_deleted_can_be_acquired_again_by_its_own_process(url, monkeypatch):
    claims = Claims(url, "tiny")
    assert claims.acquire("2024-03-01") is None

    def busy(*_):
        raise sa.exc.OperationalError("DELETE", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(sa, "delete", busy)
        claims.release("2024-03-01")
    assert list(claims.active()) == ["2024-03-01"]
    assert claims.acquire("2024-03-01") is None


def test_two_claims_objects_in_one_thread_do_not_block_each_other(url):
    with Claims(url, "tiny").hold("2024-03-01"):
        assert Claims(url, "tiny").acquire("2024-03-01") is None
