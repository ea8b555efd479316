"""Stage changes of one model: who is champion, who is challenger, and the compare-and-set that keeps one of each."""

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from tasks.contracts import AFTER, ModelStage, Promotion
from tasks.errors import StaleDecision
from tasks.ledger.chain import plain, row_hash
from tasks.ledger.database import open_database
from tasks.ledger.tables import deliveries, promotions

T = TypeVar("T")


class Promotions:
    """One model's rows of `promotions` in the database at `url`. Rows are added, never changed."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    @functools.cached_property
    def engine(self) -> sa.Engine:
        return open_database(self.url)

    def promotions(self) -> list[Promotion]:
        """Every stage change of the model, oldest first."""
        return self._all(Promotion, self._rows().order_by(promotions.c.sequence))

    def champions(self) -> list[Promotion]:
        """The rows that made a champion, oldest first."""
        return [row for row in self.promotions() if row.to_stage == "champion"]

    def champion(self, as_of: datetime | None = None) -> Promotion | None:
        """The row that made the champion in force at a moment, today's without one.

        A promotion counts for moments after its own as-of: the partition whose facts led to
        it was scored by the version before.
        """
        query = self._rows().where(promotions.c.to_stage == "champion")
        if as_of is not None:
            query = query.where(promotions.c.as_of < as_of)
        found = self._all(Promotion, query.order_by(promotions.c.sequence.desc()).limit(1))
        return found[0] if found else None

    def challenger(self, as_of: datetime | None = None) -> Promotion | None:
        """The row that staged the challenger in force at a moment, today's without one. Never more than one."""
        rows = [row for row in self.promotions() if as_of is None or row.as_of < as_of]
        staged = [row for row in rows if row.action == "stage" and stage_of(row.version, rows) == "challenger"]
        return staged[-1] if staged else None

    def digest(self, version: str) -> str:
        """The digest of a version's model as it was registered; empty for a version that no row is about."""
        query = self._rows().where(promotions.c.version == version).order_by(promotions.c.sequence).limit(1)
        found = self._all(Promotion, query)
        return str(found[0].evidence.get("digest", "")) if found else ""

    def append(self, row: Promotion) -> Promotion:
        """Add the next row. A row that makes a champion needs `previous` and `against` to be the champion still.

        Raises:
            StaleDecision: somebody else was first, or the champion is from a later as-of.
        """
        while True:
            before = self.promotions()
            self._refuse_stale(row, before)
            last = before[-1] if before else None
            ready = replace(
                row,
                sequence=last.sequence + 1 if last else 1,
                from_stage=stage_of(row.version, before),
                to_stage=AFTER[row.action],
                recorded_at=datetime.now(UTC),
                previous_hash=last.hash if last else "",
            )
            ready = Promotion(**{name: plain(value) for name, value in vars(ready).items()})
            ready = replace(ready, hash=row_hash(ready))
            try:
                self._insert(promotions, vars(ready))
            except sa.exc.IntegrityError:
                if len(self.promotions()) == len(before):
                    raise  # it is not that another row took the sequence
                continue  # look again at what that row says
            return ready

    def _refuse_stale(self, row: Promotion, before: Sequence[Promotion]) -> None:
        """Raise unless the row still fits what stands in the ledger."""
        if row.action == "canary" and stage_of(row.version, before) != "challenger":
            raise StaleDecision(
                f"{self.model}: version {row.version} is no challenger any more, so it gets no share of requests"
            )
        if row.action == "refuse" and stage_of(row.version, before) == "champion":
            raise StaleDecision(f"{self.model}: version {row.version} is champion by now; `rollback` takes it back")
        if AFTER[row.action] != "champion":
            return
        made = [r for r in before if r.to_stage == "champion"]
        current = made[-1] if made else None
        if (current.version if current else None, current.sequence if current else 0) != (row.previous, row.against):
            judged = f"version {row.previous} (row {row.against})" if row.previous else "no champion"
            now = f"version {current.version} (row {current.sequence})" if current else "none"
            raise StaleDecision(f"{self.model}: judged against {judged}, but the champion now is {now}; judge again")
        if current and row.as_of < current.as_of:
            raise StaleDecision(
                f"{self.model}: as of {row.as_of.isoformat()} is before the champion's promotion, as of "
                f"{current.as_of.isoformat()}; history is not rewritten, choose a later moment"
            )

    # Deliveries: which rows the alias, the MLflow run and the event have been made to follow

    def undelivered(self) -> list[Promotion]:
        """Rows that the world outside has not certainly been told of, oldest first."""
        told = sa.select(deliveries.c.sequence).where(deliveries.c.model == self.model)
        return self._all(
            Promotion, self._rows().where(promotions.c.sequence.not_in(told)).order_by(promotions.c.sequence)
        )

    def delivered(self, sequence: int) -> None:
        """Note that a row was told of; twice is harmless."""
        try:
            self._insert(deliveries, {"model": self.model, "sequence": sequence, "at": datetime.now(UTC)})
        except sa.exc.IntegrityError:
            return

    def _rows(self) -> sa.Select[Any]:
        return sa.select(promotions).where(promotions.c.model == self.model)

    def _insert(self, table: sa.Table, row: dict[str, Any]) -> None:
        with self.engine.begin() as con:
            con.execute(sa.insert(table).values(**row))

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
        with self.engine.connect() as con:
            return [kind(**{k: v for k, v in row._mapping.items() if k in names}) for row in con.execute(query)]


def newest_sequences(url: str) -> dict[str, int]:
    """The sequence of each model's newest row, in one cheap look."""
    query = sa.select(promotions.c.model, sa.func.max(promotions.c.sequence)).group_by(promotions.c.model)
    with open_database(url).connect() as con:
        return {str(model): int(sequence) for model, sequence in con.execute(query)}


def stage_of(version: str, rows: Sequence[Promotion]) -> ModelStage:
    """The stage that a version is in after these rows, oldest first; empty when none is about it."""
    own = [row for row in rows if row.version == version]
    if not own:
        return ""
    made = [row for row in rows if row.to_stage == "champion"]
    if own[-1].to_stage == "champion" and made[-1].version != version:
        return "retired"
    return own[-1].to_stage
