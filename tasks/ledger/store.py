"""The ledger: stage changes, facts, decisions and measured effects of one model."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from tasks.contracts import FOR_PEOPLE, Decision, Fact, Hindsight, Interval
from tasks.errors import EvergreenError, UnknownFact
from tasks.ledger.promotions import Promotions
from tasks.ledger.tables import decisions, facts, hindsights
from tasks.ledger.values import require_storable


class RetrainingInFlight(EvergreenError):
    """Another retraining of this model has not ended. Decide again; the policy will decline."""


class Ledger(Promotions):
    """The rows of one model in the database."""

    # Facts

    def record_fact(self, fact: Fact) -> bool:
        """Insert a fact. Returns False if it exists already.

        Raises:
            NotStorable: a value cannot be stored.
        """
        try:
            self._write("fact", fact.id, facts, vars(fact) | {"recorded_at": datetime.now(UTC)})
        except sa.exc.IntegrityError:
            return False
        return True

    def fact(self, fact_id: str) -> Fact:
        """Return a fact.

        Raises:
            UnknownFact: the model has no fact with this id.
            NotStorable: no fact can have this id.
        """
        require_storable(facts, {"id": fact_id})
        rows = self._all(Fact, sa.select(facts).where(facts.c.id == fact_id, facts.c.model == self.model))
        if not rows:
            raise UnknownFact(
                f"model {self.model!r} has no fact {fact_id!r}; `make status` has the command for each fact without a decision"
            )
        return rows[0]

    def has_fact(self, fact_id: str) -> bool:
        """Whether a fact with this id is recorded, of any model."""
        return bool(self._all(Fact, sa.select(facts).where(facts.c.id == fact_id)))

    def facts(self) -> list[Fact]:
        """Return all facts of the model, ordered by as-of."""
        return self._all(
            Fact, sa.select(facts).where(facts.c.model == self.model).order_by(facts.c.as_of, facts.c.recorded_at)
        )

    def undecided(self) -> list[Fact]:
        """Return the facts without a decision, ordered by as-of. Those that a person handles are left out."""
        query = sa.select(facts).outerjoin(decisions, decisions.c.fact_id == facts.c.id)
        waiting = facts.c.model == self.model, facts.c.kind.notin_(FOR_PEOPLE), decisions.c.fact_id.is_(None)
        query = query.where(*waiting).order_by(facts.c.as_of, facts.c.recorded_at, facts.c.id)
        return self._all(Fact, query)

    # Decisions

    def decisions(self) -> list[Decision]:
        """Return all decisions of the model, ordered by as-of."""
        query = sa.select(decisions).where(decisions.c.model == self.model)
        return [
            _decision(row) for row in self._all(Decision, query.order_by(decisions.c.as_of, decisions.c.recorded_at))
        ]

    def decision(self, fact_id: str) -> Decision | None:
        """Return the decision about a fact, None if there is none yet."""
        rows = self._all(Decision, sa.select(decisions).where(decisions.c.fact_id == fact_id))
        return _decision(rows[0]) if rows else None

    def in_flight(self) -> Decision | None:
        """Return the decision whose retraining has not ended."""
        query = sa.select(decisions).where(
            decisions.c.model == self.model, decisions.c.action == "retrain", decisions.c.outcome == ""
        )
        rows = self._all(Decision, query)
        return _decision(rows[0]) if rows else None

    def record_decision(self, decision: Decision) -> Decision:
        """Insert the decision about a fact. If the fact has a decision already, that one is kept and returned.

        Raises:
            RetrainingInFlight: the action is `retrain`, and another retraining of the model has not ended.
            UnknownFact: the model has no such fact.
            NotStorable: a value cannot be stored.
        """
        self.fact(decision.fact_id)
        row = vars(decision) | {"recorded_at": datetime.now(UTC), "gate": list(decision.gate)}
        try:
            self._write("decision", decision.fact_id, decisions, row)
        except sa.exc.IntegrityError:
            earlier = self.decision(decision.fact_id)
            if earlier is None:
                raise RetrainingInFlight(f"{self.model}: another retraining has not ended") from None
            return earlier
        return _decision(Decision(**row))

    def close_decision(
        self, fact_id: str, outcome: str, detail: str, version: str = "", seconds: float = 0.0, gate: Sequence[str] = ()
    ) -> None:
        """Record the outcome of a retraining, its cost in seconds and the gate's verdicts. A second call has no effect.

        Raises:
            NotStorable: a value cannot be stored.
        """
        values = {
            "outcome": outcome,
            "detail": detail,
            "version": version,
            "seconds": float(seconds),
            "gate": list(gate),
        }
        self._write(
            "outcome", fact_id, decisions, values, sa.and_(decisions.c.fact_id == fact_id, decisions.c.outcome == "")
        )

    # Hindsights

    def hindsights(self) -> list[Hindsight]:
        """Return the measured effects of the model's promotions, oldest promotion first."""
        query = sa.select(hindsights).where(hindsights.c.model == self.model).order_by(hindsights.c.sequence)
        return [_hindsight(row) for row in self._all(Hindsight, query)]

    def hindsight(self, sequence: int) -> Hindsight | None:
        """Return the measured effect of the promotion with this sequence, None if it is not known yet."""
        return next((h for h in self.hindsights() if h.sequence == sequence), None)

    def record_hindsight(self, effect: Hindsight) -> bool:
        """Insert the measured effect of a promotion. Returns False if the promotion has one already.

        Raises:
            NotStorable: a value cannot be stored.
        """
        row = vars(effect) | {"recorded_at": datetime.now(UTC), "partitions": list(effect.partitions)}
        try:
            row["gain"] = asdict(effect.gain) if effect.gain else None
            self._write("hindsight", str(effect.sequence), hindsights, row)
        except sa.exc.IntegrityError:
            return False
        return True


def _decision(row: Decision) -> Decision:
    return replace(row, gate=tuple(row.gate))


def _hindsight(row: Hindsight) -> Hindsight:
    gain = row.gain and Interval(**row.gain)  # type: ignore[arg-type]
    return replace(row, gain=gain, partitions=tuple(row.partitions))
