"""Claims: locks in the database that let one process at a time work on a partition.

A claim is a row, and its primary key excludes other processes. The holder of a claim is a process that renews its lease every
few seconds. A dead process loses its claims: on its own machine immediately, on another machine when its lease has expired
and was not renewed in the meantime.

Nothing here depends on the machine's clock, which may be set while a claim is held. Leases are measured by PostgreSQL's clock, and
on SQLite, which is a file of one machine, by the seconds since this machine was started.
"""

import functools
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import sqlalchemy as sa

from tasks.ledger.database import open_database
from tasks.ledger.tables import Moment, claims, holders
from tasks.ledger.values import require_storable

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=60)
"""Time after its last renewal during which a process on another machine keeps its claims."""
POLL_SECONDS = 0.5
"""Seconds between two attempts to acquire a claim."""


@dataclass(frozen=True)
class Claim:
    """A partition that a process works on."""

    model: str
    partition: str
    holder: str
    flow_run: str
    taken_at: datetime

    def __str__(self) -> str:
        run = f"flow run {self.flow_run}" if self.flow_run else "another process"
        return (
            f"{self.model} {self.partition}: {run} has been working on it since {self.taken_at:%Y-%m-%d %H:%M:%S} UTC"
        )


class Claims:
    """The claims of one model in the database at `url`. Claims are re-entrant within a thread."""

    def __init__(self, url: str, model: str, flow_run: str = "") -> None:
        self.url, self.model, self.flow_run = url, model, flow_run

    @functools.cached_property
    def engine(self) -> sa.Engine:
        """The database's engine. The first use in a process applies missing migrations."""
        return open_database(self.url)

    def active(self) -> dict[str, Claim]:
        """Return the claims of live processes by partition."""
        query = self._with_holders(claims.c.model == self.model)
        with self.engine.connect() as con:
            rows = con.execute(query).mappings().all()
        return {str(row["partition"]): _claim(row) for row in rows if _is_alive(row)}

    @contextmanager
    def hold(self, partition: str, on_wait: Callable[[Claim], None] = lambda _: None) -> Iterator[None]:
        """Hold the claim on a partition in the body. Waits while another process holds it, after one call of `on_wait`."""
        other = self.acquire(partition)
        if other:
            on_wait(other)
        while other:
            time.sleep(POLL_SECONDS)
            other = self.acquire(partition)
        try:
            yield
        finally:
            self.release(partition)

    def held_by_this_thread(self, partition: str) -> bool:
        """Return whether this thread holds the claim on a partition."""
        return _HELD.get((self.url, self.model, partition), (0, 0))[0] == threading.get_ident()

    def acquire(self, partition: str) -> Claim | None:
        """Try to claim a partition, without waiting. Returns None on success, else the claim of the other process or thread."""
        this_thread, key = threading.get_ident(), (self.url, self.model, partition)
        thread, count = _HELD.get(key, (this_thread, 0))
        if count and thread == this_thread:
            _HELD[key] = (this_thread, count + 1)
            return None
        row = {
            "model": self.model,
            "partition": partition,
            "holder": register_holder(self.url),
            "flow_run": self.flow_run,
            "taken_at": datetime.now(UTC),
        }
        with _CLAIM_LOCK:
            if (other := self._insert(row)) is None:
                _HELD[key] = (this_thread, 1)
        return other

    def release(self, partition: str) -> None:
        """Release the claim on a partition. If the database is locked the row stays, and this process can acquire it again."""
        key = (self.url, self.model, partition)
        thread, count = _HELD[key]
        if count > 1:
            _HELD[key] = (thread, count - 1)
            return
        own = self._at(partition), claims.c.holder == register_holder(self.url)
        with _CLAIM_LOCK:
            del _HELD[key]
            try:
                with self.engine.begin() as con:
                    con.execute(sa.delete(claims).where(*own))
            except sa.exc.OperationalError as error:
                log.warning(
                    "the claim on %s %s could not be deleted; this process can acquire it again: %s",
                    self.model,
                    partition,
                    error,
                )

    def _insert(self, row: dict[str, object]) -> Claim | None:
        """Insert a claim, or replace one whose holder is dead. Returns the claim of a live holder."""
        require_storable(claims, row)
        with suppress(sa.exc.IntegrityError):
            with self.engine.begin() as con:
                con.execute(sa.insert(claims).values(**row))
            return None
        same_partition = self._at(str(row["partition"]))
        with self.engine.connect() as con:
            current = con.execute(self._with_holders(same_partition)).mappings().first()
        if current is None:  # released since the insert failed
            return self._insert(row)
        # A row of this process that it does not hold is left from a delete that failed.
        leftover = current["holder"] == row["holder"] and (self.url, self.model, row["partition"]) not in _HELD
        if not leftover and (_is_alive(current) or self._may_renew(current)):
            return _claim(current)
        lease = sa.select(holders.c.expires_at).where(holders.c.id == current["holder"]).scalar_subquery()
        unchanged = claims.c.holder == current["holder"], lease.is_not_distinct_from(current["expires_at"])
        takeover = sa.update(claims).where(same_partition, *unchanged)
        with self.engine.begin() as con:
            updated = con.execute(takeover.values(**row)).rowcount
        return None if updated else self._insert(row)

    def _may_renew(self, row: sa.RowMapping) -> bool:
        """Return whether a holder on another machine, whose lease has expired, may be alive.

        All leases expire at once when the clock of PostgreSQL's server is set. So a claim is taken over only if this process has seen
        the same expired lease for longer than a holder takes to renew it.
        """
        if self.engine.dialect.name != "postgresql" or row["host"] == this_host():
            return False
        key, lease, now = (self.url, self.model, row["partition"]), (row["holder"], row["expires_at"]), time.monotonic()
        if _EXPIRED.get(key, (None, 0.0))[0] != lease:
            _EXPIRED[key] = (lease, now)
        return now - _EXPIRED[key][1] <= 1.2 * renewal_seconds()

    def _with_holders(self, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """Select claims with their holders, and whether the lease of each has not expired."""
        query = sa.select(claims, holders, _is_leased(self.engine).label("leased"))
        return query.outerjoin(holders, holders.c.id == claims.c.holder).where(condition)

    def _at(self, partition: str) -> sa.ColumnElement[bool]:
        return sa.and_(claims.c.model == self.model, claims.c.partition == partition)


def _claim(row: sa.RowMapping) -> Claim:
    return Claim(row["model"], row["partition"], row["holder"], row["flow_run"], row["taken_at"])


def _is_alive(row: sa.RowMapping) -> bool:
    """Return whether a claim's holder is alive: on this machine by its process, on another by its lease."""
    if row["host"] != this_host():
        return bool(row["leased"])
    with suppress(psutil.Error, OSError):
        return started_at(row["pid"]) == row["born"] and psutil.Process(row["pid"]).status() != psutil.STATUS_ZOMBIE
    return False


def started_at(pid: int) -> float:
    """Return when a process of this machine started, as the kernel has noted it. Setting the clock does not change it.

    On Linux these are seconds since the machine was started: psutil's Unix times are computed with the present clock.

    Raises:
        OSError, psutil.Error: there is no such process.
    """
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    after_the_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(after_the_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), `starttime`


def lease_time(engine: sa.Engine, later: timedelta = timedelta()) -> sa.ColumnElement[datetime]:
    """Return the present time by the clock of the leases, or a later one. On SQLite it counts from 1970 at this machine's start."""
    if engine.dialect.name == "postgresql":
        return sa.func.now() + later
    return sa.literal(datetime.fromtimestamp(0, UTC) + timedelta(seconds=time.monotonic()) + later, Moment())


def _is_leased(engine: sa.Engine, ago: timedelta = timedelta()) -> sa.ColumnElement[bool]:
    """Select whether a holder's lease is valid, or was until a while ago. On SQLite those from before this machine's start are not."""
    valid = holders.c.expires_at >= lease_time(engine, -ago)
    return valid if engine.dialect.name == "postgresql" else valid & holders.c.host.endswith(boot_id())


_REGISTER_LOCK, _CLAIM_LOCK = threading.Lock(), threading.Lock()
_HELD: dict[tuple[str, str, str], tuple[int, int]] = {}
"""Claims of this process: (database, model, partition) -> (thread, how often the thread holds it)."""
_EXPIRED: dict[tuple[str, str, str], tuple[object, float]] = {}
"""Expired leases that were seen: (database, model, partition) -> (holder and end of the lease, `time.monotonic()` of the first time)."""


def renewal_seconds() -> float:
    """Return the time between two renewals of a lease."""
    return LEASE.total_seconds() / 4


@functools.cache
def boot_id() -> str:
    """Return the id of this machine's present run, empty where the system has none. All containers of a machine have the same."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@functools.cache
def this_host() -> str:
    """Return an id of this machine or container since its start: the scope in which process ids are unique. Ends with `boot_id()`."""
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {namespace} {boot_id()}"


def register_holder(url: str) -> str:
    """Return the id of this process as a holder. The first call inserts its row and starts the renewal of its lease."""
    with _REGISTER_LOCK:
        return _insert_holder(url, os.getpid())


@functools.cache
def _insert_holder(url: str, pid: int) -> str:
    holder_id, engine = str(uuid4()), open_database(url)
    row = {"id": holder_id, "host": this_host(), "pid": pid, "born": started_at(pid)}
    with engine.begin() as con:
        con.execute(sa.delete(holders).where(sa.not_(_is_leased(engine, timedelta(days=1)))))
        con.execute(sa.insert(holders).values(**row, expires_at=lease_time(engine, LEASE)))
    threading.Thread(target=_renew, args=(engine, row), name="renew claims", daemon=True).start()
    return holder_id


def _renew(engine: sa.Engine, row: Mapping[str, Any]) -> None:
    """Renew the lease of this process until it ends. Errors of the database are ignored and the next renewal is tried."""
    while True:
        time.sleep(renewal_seconds())
        with suppress(sa.exc.SQLAlchemyError), engine.begin() as con:
            own = sa.update(holders).where(holders.c.id == row["id"])
            until = lease_time(engine, LEASE)
            if not con.execute(own.values(expires_at=until)).rowcount:  # deleted after a suspend of more than a day
                con.execute(sa.insert(holders).values(**row, expires_at=until))
