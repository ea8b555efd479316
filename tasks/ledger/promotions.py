"""Stage changes of one model: champion, challenger, and the compare-and-set that allows only one of each."""

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from tasks.contracts import STAGE_AFTER, ModelStage, Promotion
from tasks.errors import StaleDecision
from tasks.ledger.chain import Entry, Kind, as_stored, next_entry, row_hash
from tasks.ledger.contents import content_digest, contents
from tasks.ledger.database import open_database
from tasks.ledger.tables import chain, deliveries, promotions
from tasks.ledger.values import require_storable

T = TypeVar("T")


class Promotions:
    """The rows of one model in the table `promotions` of the database at `url`. Rows are appended, never changed."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    @functools.cached_property
    def engine(self) -> sa.Engine:
        """The database's engine. The first use in a process applies missing migrations."""
        return open_database(self.url)

    def promotions(self) -> list[Promotion]:
        """Return all stage changes of the model, oldest first."""
        return self._all(Promotion, self._rows().order_by(promotions.c.sequence))

    def champions(self) -> list[Promotion]:
        """Return the rows that made a version champion, oldest first."""
        return [row for row in self.promotions() if row.to_stage == "champion"]

    def champion(self, as_of: datetime | None = None) -> Promotion | None:
        """Return the row that made the champion as of a moment, by default the current champion.

        A promotion applies to moments after its own as-of (exclusive): the partition whose facts led to the promotion was
        scored by the previous champion.
        """
        query = self._rows().where(promotions.c.to_stage == "champion")
        if as_of is not None:
            query = query.where(promotions.c.as_of < as_of)
        rows = self._all(Promotion, query.order_by(promotions.c.sequence.desc()).limit(1))
        return rows[0] if rows else None

    def challenger(self, as_of: datetime | None = None) -> Promotion | None:
        """Return the row that staged the challenger as of a moment (exclusive), by default the current one. There is at most one."""
        rows = [row for row in self.promotions() if as_of is None or row.as_of < as_of]
        staged = [row for row in rows if row.action == "stage" and stage_of(row.version, rows) == "challenger"]
        return staged[-1] if staged else None

    def newest(self) -> Promotion | None:
        """Return the newest row, None for an empty ledger."""
        rows = self._all(Promotion, self._rows().order_by(promotions.c.sequence.desc()).limit(1))
        return rows[0] if rows else None

    def digest(self, version: str) -> str:
        """Return the digest that a version's model had when it was registered, empty for an unknown version."""
        query = self._rows().where(promotions.c.version == version).order_by(promotions.c.sequence).limit(1)
        rows = self._all(Promotion, query)
        return str(rows[0].evidence.get("digest", "")) if rows else ""

    def append(self, row: Promotion) -> Promotion:
        """Append the next row; sequence, stages, time and hashes are filled in. Returns the row as it was written.

        Raises:
            StaleDecision: the row makes a version champion, but `previous` and `against` are not the current champion, or its
                as-of is before the champion's. Or the version's stage does not allow the action.
            NotStorable: a value cannot be stored.
        """
        require_storable(promotions, {"as_of": row.as_of, "window_end": row.window_end})
        while True:
            before = self.promotions()
            self._refuse_stale(row, before)
            last = before[-1] if before else None
            stage = stage_of(row.version, before)
            ready = replace(
                row,
                sequence=last.sequence + 1 if last else 1,
                from_stage=stage,
                to_stage=STAGE_AFTER[row.action] or stage or "candidate",
                recorded_at=datetime.now(UTC),
                previous_hash=last.hash if last else "",
            )
            ready = Promotion(**{name: as_stored(value) for name, value in vars(ready).items()})
            ready = replace(ready, hash=row_hash(ready))
            try:
                self._write("promotion", str(ready.sequence), promotions, vars(ready))
            except sa.exc.IntegrityError:
                if len(self.promotions()) == len(before):
                    raise  # not a conflict with another row of the same sequence
                continue  # another process appended a row: check again
            return ready

    def _refuse_stale(self, row: Promotion, before: Sequence[Promotion]) -> None:
        """Raise StaleDecision unless the row is consistent with the rows before it."""
        if row.action == "canary" and stage_of(row.version, before) != "challenger":
            raise StaleDecision(
                f"{self.model}: version {row.version} is no longer challenger, so it gets no share of requests"
            )
        if row.action in ("refuse", "propose") and stage_of(row.version, before) == "champion":
            raise StaleDecision(f"{self.model}: version {row.version} is champion now; use `rollback` instead")
        if STAGE_AFTER[row.action] != "champion":
            return
        champions = [r for r in before if r.to_stage == "champion"]
        current = champions[-1] if champions else None
        if (current.version if current else None, current.sequence if current else 0) != (row.previous, row.against):
            expected = f"version {row.previous} (row {row.against})" if row.previous else "no champion"
            actual = f"version {current.version} (row {current.sequence})" if current else "none"
            raise StaleDecision(
                f"{self.model}: judged against {expected}, but the champion now is {actual}; judge again"
            )
        if current and row.as_of < current.as_of:
            raise StaleDecision(
                f"{self.model}: as of {row.as_of.isoformat()} is before the champion's promotion, as of "
                f"{current.as_of.isoformat()}; history is not rewritten; choose a later moment"
            )

    # Deliveries: the rows for which alias, MLflow tags and event are up to date

    def last_delivered(self) -> int:
        """Return the sequence of the newest delivered row, 0 without one. Rows are delivered in their order."""
        query = sa.select(sa.func.max(deliveries.c.sequence)).where(deliveries.c.model == self.model)
        with self.engine.connect() as con:
            return con.execute(query).scalar() or 0

    def undelivered(self) -> list[Promotion]:
        """Return the rows whose delivery to MLflow and Prefect has not been recorded, oldest first."""
        delivered = sa.select(deliveries.c.sequence).where(deliveries.c.model == self.model)
        return self._all(
            Promotion, self._rows().where(promotions.c.sequence.not_in(delivered)).order_by(promotions.c.sequence)
        )

    def mark_delivered(self, sequence: int) -> None:
        """Record that a row was delivered. A second call has no effect."""
        try:
            with self.engine.begin() as con:
                con.execute(sa.insert(deliveries).values(model=self.model, sequence=sequence, at=datetime.now(UTC)))
        except sa.exc.IntegrityError:
            return

    # The chain over all that was written about the model

    def chain(self, number: int | None = None) -> list[Entry]:
        """Return all entries, oldest first, or the one with a number."""
        query = self._entries() if number is None else self._entries().where(chain.c.number == number)
        return self._all(Entry, query.order_by(chain.c.number))

    def chain_head(self) -> Entry | None:
        """Return the newest entry, None for an empty ledger."""
        entries = self._all(Entry, self._entries().order_by(chain.c.number.desc()).limit(1))
        return entries[0] if entries else None

    def chained(self, kind: Kind, key: str) -> str:
        """Return the hash of the entry about something, empty if there is none."""
        entries = self._all(Entry, self._entries().where(chain.c.kind == kind, chain.c.key == key))
        return entries[0].hash if entries else ""

    def chain_and_contents(self) -> tuple[list[Entry], dict[tuple[str, str], str]]:
        """Return all entries, and the digest of all that the ledger contains about the model, by kind and key, at one moment."""
        while True:
            entries = self.chain()
            with self.engine.connect() as con:
                digests = {(str(kind), key): digest for kind, key, _, digest in contents(con, self.model)}
            if self.chain_head() == (entries[-1] if entries else None):  # no other process has written in the meantime
                return entries, digests

    def _entries(self) -> sa.Select[Any]:
        return sa.select(chain).where(chain.c.model == self.model)

    def _write(
        self, kind: Kind, key: str, table: sa.Table, row: dict[str, Any], where: sa.ColumnElement[bool] | None = None
    ) -> bool:
        """Insert a row, or update those at `where`, and append an entry to the chain, in one transaction.

        Returns:
            False if there was no row to update.

        Raises:
            NotStorable: a value cannot be stored.
            IntegrityError: the row exists already.
        """
        require_storable(table, row)
        statement = sa.insert(table).values(**row) if where is None else sa.update(table).where(where).values(**row)
        digest = content_digest(kind, {"fact_id": key} | row)
        while True:
            last = self.chain_head()
            entry = next_entry(self.model, last, kind, key, digest)
            try:
                with self.engine.begin() as con:
                    if con.execute(statement).rowcount == 0:
                        return False
                    con.execute(sa.insert(chain).values(**vars(entry)))
                return True
            except sa.exc.IntegrityError:
                if self.chain_head() == last:
                    raise  # not a conflict with another entry of the same number

    def _rows(self) -> sa.Select[Any]:
        return sa.select(promotions).where(promotions.c.model == self.model)

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
        with self.engine.connect() as con:
            return [kind(**{k: v for k, v in row._mapping.items() if k in names}) for row in con.execute(query)]


def newest_sequences(url: str) -> dict[str, int]:
    """Return the sequence of each model's newest row, with one query."""
    query = sa.select(promotions.c.model, sa.func.max(promotions.c.sequence)).group_by(promotions.c.model)
    with open_database(url).connect() as con:
        return {str(model): int(sequence) for model, sequence in con.execute(query)}


def newest_entries(url: str) -> dict[str, int]:
    """Return the number of each model's newest entry of the chain, with one query. It grows with all that is written about a model."""
    query = sa.select(chain.c.model, sa.func.max(chain.c.number)).group_by(chain.c.model)
    with open_database(url).connect() as con:
        return {str(model): int(number) for model, number in con.execute(query)}


def stage_of(version: str, rows: Sequence[Promotion]) -> ModelStage:
    """Return the stage of a version after `rows` (oldest first), empty if no row is about it."""
    own = [row for row in rows if row.version == version]
    if not own:
        return ""
    champions = [row for row in rows if row.to_stage == "champion"]
    if own[-1].to_stage == "champion" and champions[-1].version != version:
        return "retired"
    return own[-1].to_stage
