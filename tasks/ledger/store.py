"""The ledger: who is champion and why, what was seen, and what was decided."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from tasks.contracts import Decision, Fact, Hindsight, Interval
from tasks.errors import EvergreenError, UnknownFact
from tasks.ledger.promotions import Promotions
from tasks.ledger.tables import decisions, facts, hindsights


class RetrainingInFlight(EvergreenError):
    """Another retraining of this model has not ended. Decide again: it will be declined."""


class Ledger(Promotions):
    """One model's rows in the one database: stage changes, facts, and decisions."""

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
        """Facts that wait for the policy: no decision names them yet; by as-of. A moved alias waits for a person."""
        query = sa.select(facts).outerjoin(decisions, decisions.c.fact_id == facts.c.id)
        waiting = facts.c.model == self.model, facts.c.kind != "alias", decisions.c.fact_id.is_(None)
        query = query.where(*waiting).order_by(facts.c.as_of, facts.c.recorded_at, facts.c.id)
        return self._all(Fact, query)

    # Decisions

    def decisions(self) -> list[Decision]:
        """Every decision of the model, by as-of."""
        query = sa.select(decisions).where(decisions.c.model == self.model)
        return [
            _decision(row) for row in self._all(Decision, query.order_by(decisions.c.as_of, decisions.c.recorded_at))
        ]

    def decision(self, fact_id: str) -> Decision | None:
        found = self._all(Decision, sa.select(decisions).where(decisions.c.fact_id == fact_id))
        return _decision(found[0]) if found else None

    def in_flight(self) -> Decision | None:
        """The retraining that was decided on and has not ended."""
        query = sa.select(decisions).where(
            decisions.c.model == self.model, decisions.c.action == "retrain", decisions.c.outcome == ""
        )
        found = self._all(Decision, query)
        return _decision(found[0]) if found else None

    def record_decision(self, decision: Decision) -> Decision:
        """Write the decision about a fact. A fact that has one keeps it, and that one is returned.

        Raises:
            RetrainingInFlight: it says retrain, and another retraining began at the same moment.
        """
        row = vars(decision) | {"recorded_at": datetime.now(UTC), "gate": list(decision.gate)}
        try:
            self._insert(decisions, row)
        except sa.exc.IntegrityError:
            earlier = self.decision(decision.fact_id)
            if earlier is None:
                raise RetrainingInFlight(f"{self.model}: another retraining is under way") from None
            return earlier
        return _decision(Decision(**row))

    def close_decision(
        self, fact_id: str, outcome: str, detail: str, version: str = "", seconds: float = 0.0, gate: Sequence[str] = ()
    ) -> None:
        """Say how a retraining ended, what it cost and what the gate said. The first answer stands."""
        change = sa.update(decisions).where(decisions.c.fact_id == fact_id, decisions.c.outcome == "")
        told = {"outcome": outcome, "detail": detail, "version": version, "seconds": seconds, "gate": list(gate)}
        with self.engine.begin() as con:
            con.execute(change.values(**told))

    # Hindsights

    def hindsights(self) -> list[Hindsight]:
        """Whether the model's promotions helped, by their order."""
        query = sa.select(hindsights).where(hindsights.c.model == self.model).order_by(hindsights.c.sequence)
        return [_hindsight(row) for row in self._all(Hindsight, query)]

    def hindsight(self, sequence: int) -> Hindsight | None:
        """Whether the promotion with this sequence helped; None where that is not known yet."""
        return next((h for h in self.hindsights() if h.sequence == sequence), None)

    def record_hindsight(self, found: Hindsight) -> bool:
        """Write a judgement down, once a promotion. False when it has one already."""
        row = vars(found) | {"recorded_at": datetime.now(UTC), "partitions": list(found.partitions)}
        try:
            self._insert(hindsights, row | {"gain": asdict(found.gain) if found.gain else None})
        except sa.exc.IntegrityError:
            return False
        return True


def _decision(row: Decision) -> Decision:
    return replace(row, gate=tuple(row.gate))


def _hindsight(row: Hindsight) -> Hindsight:
    gain = row.gain and Interval(**row.gain)  # type: ignore[arg-type]
    return replace(row, gain=gain, partitions=tuple(row.partitions))
