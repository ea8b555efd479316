"""Who is at work on a partition: one process at a time, and a killed one's work is taken over.

A claim is a row; its primary key keeps others off. Its holder is a process that says every few seconds that it lives.
On its own machine a dead process is known at once, elsewhere when it has been silent for `LEASE`.
"""

import functools
import logging
import os
import socket
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
from tasks.ledger.tables import claims, holders

log = logging.getLogger(__name__)
LEASE = timedelta(seconds=60)
"""How long a process that was not heard of still holds its claims."""
PAUSE = 0.5
"""Seconds between two looks at a claim that is waited for."""


@dataclass(frozen=True)
class Claim:
    """A partition on which some process is at work."""

    model: str
    partition: str
    holder: str
    flow_run: str
    taken_at: datetime

    def __str__(self) -> str:
        run = f"flow run {self.flow_run}" if self.flow_run else "another process"
        return f"{self.model} {self.partition}: {run} is at work on it since {self.taken_at:%Y-%m-%d %H:%M:%S} UTC"


class Claims:
    """One model's claims in the database at `url`. Within a thread a claim may be held again by what is called."""

    def __init__(self, url: str, model: str, flow_run: str = "") -> None:
        self.url, self.model, self.flow_run = url, model, flow_run

    @functools.cached_property
    def engine(self) -> sa.Engine:
        return open_database(self.url)

    def running(self) -> dict[str, Claim]:
        """The partitions that living processes are at work on."""
        query = sa.select(claims, holders).outerjoin(holders, holders.c.id == claims.c.holder)
        with self.engine.connect() as con:
            rows = con.execute(query.where(claims.c.model == self.model)).mappings().all()
        return {str(row["partition"]): _claim(row) for row in rows if _lives(row)}

    @contextmanager
    def hold(self, partition: str, told: Callable[[Claim], None] = lambda _: None) -> Iterator[None]:
        """Have a partition to oneself; waits for whoever is at work on it, after saying so once to `told`."""
        other = self.take(partition)
        if other:
            told(other)
        while other:
            time.sleep(PAUSE)
            other = self.take(partition)
        try:
            yield
        finally:
            self.leave(partition)

    def mine(self, partition: str) -> bool:
        """Whether this thread holds a partition."""
        return _HELD.get((self.url, self.model, partition), (0, 0))[0] == threading.get_ident()

    def take(self, partition: str) -> Claim | None:
        """Claim a partition; None when it is ours now, else who has it."""
        me, at = threading.get_ident(), (self.url, self.model, partition)
        thread, times = _HELD.get(at, (me, 0))
        if times and thread == me:
            _HELD[at] = (me, times + 1)
            return None
        row = {
            "model": self.model,
            "partition": partition,
            "holder": present(self.url),
            "flow_run": self.flow_run,
            "taken_at": datetime.now(UTC),
        }
        with _TAKING:
            if (other := self._insert(row)) is None:
                _HELD[at] = (me, 1)
        return other

    def leave(self, partition: str) -> None:
        """Give a partition back. Where the database does not take it, the row is this process's, which may take it again."""
        at = (self.url, self.model, partition)
        thread, times = _HELD[at]
        if times > 1:
            _HELD[at] = (thread, times - 1)
            return
        mine = self._at(partition), claims.c.holder == present(self.url)
        with _TAKING:
            del _HELD[at]
            try:
                with self.engine.begin() as con:
                    con.execute(sa.delete(claims).where(*mine))
            except sa.exc.OperationalError as error:
                log.warning("the claim on %s %s stays for now: %s", self.model, partition, error)

    def _insert(self, row: dict[str, object]) -> Claim | None:
        """Write a claim, over one whose holder is dead; returns the one that stands in the way."""
        with suppress(sa.exc.IntegrityError):
            with self.engine.begin() as con:
                con.execute(sa.insert(claims).values(**row))
            return None
        here = self._at(str(row["partition"]))
        query = sa.select(claims, holders).outerjoin(holders, holders.c.id == claims.c.holder).where(here)
        with self.engine.connect() as con:
            found = con.execute(query).mappings().first()
        if found is None:  # it was left at this moment
            return self._insert(row)
        forgotten = found["holder"] == row["holder"] and (self.url, self.model, row["partition"]) not in _HELD
        if _lives(found) and not forgotten:
            return _claim(found)
        dead = sa.update(claims).where(here, claims.c.holder == found["holder"])
        with self.engine.begin() as con:
            taken = con.execute(dead.values(**row)).rowcount
        return None if taken else self._insert(row)

    def _at(self, partition: str) -> sa.ColumnElement[bool]:
        return sa.and_(claims.c.model == self.model, claims.c.partition == partition)


def _claim(row: sa.RowMapping) -> Claim:
    return Claim(row["model"], row["partition"], row["holder"], row["flow_run"], row["taken_at"])


def _lives(row: sa.RowMapping) -> bool:
    """Whether a claim's holder still is at work: here by its process, elsewhere by when it was heard of."""
    if row["expires_at"] is None:
        return False
    if row["host"] != this_host():
        return bool(row["expires_at"] >= datetime.now(UTC))
    with suppress(psutil.Error):
        process = psutil.Process(row["pid"])
        same = abs(process.create_time() - row["born"]) < 5  # clocks are set now and then
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


_ENLISTING, _TAKING = threading.Lock(), threading.Lock()
_HELD: dict[tuple[str, str, str], tuple[int, int]] = {}
"""What this process holds: database, model and partition, by which thread and how often."""


@functools.cache
def this_host() -> str:
    """This machine, or this container of it: where numbers of processes mean the same."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def present(url: str) -> str:
    """The id of this process as a holder; the first call writes it down and begins to renew it."""
    with _ENLISTING:
        return _enlist(url, os.getpid())


@functools.cache
def _enlist(url: str, pid: int) -> str:
    number, engine = str(uuid4()), open_database(url)
    row = {
        "id": number,
        "host": this_host(),
        "pid": pid,
        "born": psutil.Process(pid).create_time(),
        "expires_at": datetime.now(UTC) + LEASE,
    }
    with engine.begin() as con:
        con.execute(sa.delete(holders).where(holders.c.expires_at < datetime.now(UTC) - timedelta(days=1)))
        con.execute(sa.insert(holders).values(**row))
    threading.Thread(target=_renew, args=(engine, row), name="renew claims", daemon=True).start()
    return number


def _renew(engine: sa.Engine, row: Mapping[str, Any]) -> None:
    """Say again and again that this process lives. A database that does not answer is asked again."""
    while True:
        time.sleep(LEASE.total_seconds() / 4)
        with suppress(sa.exc.SQLAlchemyError), engine.begin() as con:
            mine = sa.update(holders).where(holders.c.id == row["id"])
            until = datetime.now(UTC) + LEASE
            if not con.execute(mine.values(expires_at=until)).rowcount:  # it slept for more than a day
                con.execute(sa.insert(holders).values(**{**row, "expires_at": until}))
