"""The ledger: who is champion and why, what was seen, and what was decided. Imports no Prefect."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock

from tasks.contracts import Decision, Fact, Promotion
from tasks.errors import EvergreenError, StaleDecision, UnknownFact
from tasks.ledger.tables import HEAD, decisions, facts, promotions

T = TypeVar("T")


class RetrainingInFlight(EvergreenError):
    """Another retraining of this model has not ended. Decide again: it will be declined."""


class Ledger:
    """One model's rows in the database at `url`; makes or migrates the tables on first use."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    @functools.cached_property
    def engine(self) -> sa.Engine:
        return open_database(self.url)

    # Promotions

    def promotions(self) -> list[Promotion]:
        """Every stage change of the model, oldest first."""
        return self._all(
            Promotion, sa.select(promotions).where(promotions.c.model == self.model).order_by(promotions.c.sequence)
        )

    def champion(self, as_of: datetime | None = None) -> Promotion | None:
        """The promotion in force at a moment, today's without one.

        A promotion counts for moments after its own as-of: the partition whose facts led to
        it was scored by the version before.
        """
        query = sa.select(promotions).where(promotions.c.model == self.model)
        if as_of is not None:
            query = query.where(promotions.c.as_of < as_of)
        found = self._all(Promotion, query.order_by(promotions.c.sequence.desc()).limit(1))
        return found[0] if found else None

    def append(self, promotion: Promotion) -> Promotion:
        """Add the next stage change. `promotion.previous` must still be the champion.

        Raises:
            StaleDecision: somebody else was first, or the champion is from a later as-of.
        """
        current = self.champion()
        if (current.version if current else None) != promotion.previous:
            raise StaleDecision(
                f"{self.model}: judged against version {promotion.previous or 'none'}, but the champion now is version "
                f"{current.version if current else 'none'}; judge again"
            )
        if current and promotion.as_of < current.as_of:
            raise StaleDecision(
                f"{self.model}: as of {promotion.as_of.isoformat()} is before the champion's promotion, as of "
                f"{current.as_of.isoformat()}; history is not rewritten, train as of a later moment"
            )
        row = vars(promotion) | {"sequence": current.sequence + 1 if current else 1, "recorded_at": datetime.now(UTC)}
        try:
            self._insert(promotions, row)
        except sa.exc.IntegrityError:
            raise StaleDecision(
                f"{self.model}: another promotion was written at the same moment; judge again"
            ) from None
        return Promotion(**row)

    # Facts

    def record_fact(self, fact: Fact) -> bool:
        """Write a fact down, once. False when it was there already."""
        try:
            self._insert(facts, vars(fact) | {"recorded_at": datetime.now(UTC)})
        except sa.exc.IntegrityError:
            return False
        return True

    def fact(self, fact_id: str) -> Fact:
        """Raises: UnknownFact."""
        found = self._all(Fact, sa.select(facts).where(facts.c.id == fact_id, facts.c.model == self.model))
        if not found:
            raise UnknownFact(f"model {self.model!r} has no fact {fact_id!r}; `make status` lists the last ones")
        return found[0]

    def has_fact(self, fact_id: str) -> bool:
        return bool(self._all(Fact, sa.select(facts).where(facts.c.id == fact_id)))

    def facts(self) -> list[Fact]:
        """Every fact of the model, by as-of."""
        return self._all(
            Fact, sa.select(facts).where(facts.c.model == self.model).order_by(facts.c.as_of, facts.c.recorded_at)
        )

    def undecided(self) -> list[Fact]:
        """Facts that no decision names yet, by as-of."""
        query = sa.select(facts).outerjoin(decisions, decisions.c.fact_id == facts.c.id)
        query = query.where(facts.c.model == self.model, decisions.c.fact_id.is_(None)).order_by(facts.c.as_of)
        return self._all(Fact, query)

    # Decisions

    def decisions(self) -> list[Decision]:
        """Every decision of the model, by as-of."""
        query = sa.select(decisions).where(decisions.c.model == self.model)
        return self._all(Decision, query.order_by(decisions.c.as_of, decisions.c.recorded_at))

    def decision(self, fact_id: str) -> Decision | None:
        found = self._all(Decision, sa.select(decisions).where(decisions.c.fact_id == fact_id))
        return found[0] if found else None

    def in_flight(self) -> Decision | None:
        """The retraining that was decided on and has not ended."""
        query = sa.select(decisions).where(
            decisions.c.model == self.model, decisions.c.action == "retrain", decisions.c.outcome == ""
        )
        found = self._all(Decision, query)
        return found[0] if found else None

    def record_decision(self, decision: Decision) -> Decision:
        """Write the decision about a fact. A fact that has one keeps it, and that one is returned.

        Raises:
            RetrainingInFlight: it says retrain, and another retraining began at the same moment.
        """
        row = vars(decision) | {"recorded_at": datetime.now(UTC)}
        try:
            self._insert(decisions, row)
        except sa.exc.IntegrityError:
            earlier = self.decision(decision.fact_id)
            if earlier is None:
                raise RetrainingInFlight(f"{self.model}: another retraining is under way") from None
            return earlier
        return Decision(**row)

    def close_decision(self, fact_id: str, outcome: str, detail: str, version: str = "") -> None:
        """Say how a retraining ended. The first answer stands."""
        change = sa.update(decisions).where(decisions.c.fact_id == fact_id, decisions.c.outcome == "")
        with self.engine.begin() as con:
            con.execute(change.values(outcome=outcome, detail=detail, version=version))

    def _insert(self, table: sa.Table, row: dict[str, Any]) -> None:
        with self.engine.begin() as con:
            con.execute(sa.insert(table).values(**row))

    def _all(self, kind: type[T], query: sa.Select[Any]) -> list[T]:
        names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
        with self.engine.connect() as con:
            return [kind(**{k: v for k, v in row._mapping.items() if k in names}) for row in con.execute(query)]


@functools.lru_cache(maxsize=8)
def open_database(url: str) -> sa.Engine:
    """One engine a process and address, its tables up to date."""
    address = sa.make_url(url)
    local = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if local:
        local.parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address, connect_args={"timeout": 30} if local else {}, pool_pre_ping=not local)
    if _version(engine) != HEAD:
        with _exclusively(engine, local):
            migrate(engine)
    return engine


def _version(engine: sa.Engine) -> str | None:
    """The migration that a database stands at."""
    with engine.connect() as con:
        if not sa.inspect(con).has_table("alembic_version"):
            return None
        return con.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


@contextmanager
def _exclusively(engine: sa.Engine, local: Path | None) -> Iterator[None]:
    """One process at a time makes or changes tables."""
    if local:
        with FileLock(f"{local}.lock", timeout=60):
            yield
        return
    with engine.connect() as con:
        con.execute(sa.text("SELECT pg_advisory_lock(713)"))
        try:
            yield
        finally:
            con.execute(sa.text("SELECT pg_advisory_unlock(713)"))


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to the newest migration; nothing to do is fine."""
    from alembic import command  # noqa: PLC0415  (needed once, when tables are made or changed)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as con:
        config.attributes["connection"] = con
        command.upgrade(config, "head")
