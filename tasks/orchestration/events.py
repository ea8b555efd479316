"""Tell Prefect of facts and of stage changes. The only module that emits events; what they tell of is in the ledger."""

import threading
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.worker import EventsWorker

from tasks.contracts import Action, Decision, Fact, FactKind, Hindsight, Promotion
from tasks.ledger.fact_ids import NAMESPACE
from tasks.orchestration.prefect_tasks import as_task, is_simulation, run_log
from tasks.resources import Resources

EVENT: dict[FactKind, str] = {
    "drift": "evergreen.drift.detected",
    "decay": "evergreen.performance.degraded",
    "estimate": "evergreen.performance.degraded",
    "due": "evergreen.retraining.due",
    "retry": "evergreen.retraining.due",
    "alias": "evergreen.alias.diverged",
}
"""The event that tells of each kind of fact. A person's wish needs none: its run decides at once."""
DECIDED, VERDICT = "evergreen.retraining.decided", "evergreen.retraining.verdict"
CHANGE: dict[Action, str] = {
    "stage": "evergreen.challenger.staged",
    "request": "evergreen.approval.requested",
    "promote": "evergreen.model.promoted",
    "adopt": "evergreen.model.promoted",
    "rollback": "evergreen.model.rolled_back",
}
"""The events of stage changes; the other rows are told by nothing but the ledger."""
PATIENCE = timedelta(minutes=2)
"""Wall time after which a fact without a decision is sent again."""


def resource(model: str, **more: str) -> dict[str, str]:
    """What an event is about: a model, with what automations may match on."""
    named = {
        "prefect.resource.id": f"evergreen.model.{model}",
        "prefect.resource.name": model,
        "evergreen.model": model,
    }
    return named | {f"evergreen.{key}": value for key, value in more.items()}


def _send(**event: Any) -> None:
    """Emit an event, unless this is a rehearsal."""
    if not is_simulation():
        emit_event(**event)


def emit(fact: Fact) -> None:
    """Send a fact's event. Sending is asynchronous and may be lost; the ledger's row is not."""
    about = {"partition": fact.partition} if fact.partition else {}
    payload = {"fact_id": fact.id, "kind": fact.kind, **fact.payload}  # a retry keeps the kind of what it tries again
    name = EVENT.get(fact.kind, "evergreen.retraining.due")
    _send(event=name, resource=resource(fact.model, fact=fact.id, **about), payload=payload)


def emit_decision(decision: Decision, fact: Fact) -> None:
    """Tell of a decision, declined ones too; its id is the fact's, so that telling twice is one event."""
    payload = {"kind": fact.kind, "partition": fact.partition, "told": fact.payload.get("told", "")}
    for name in ("fact_id", "action", "rule", "reason", "signals", "flow_run"):
        payload[name] = getattr(decision, name)
    _send(
        event=DECIDED,
        id=uuid5(UUID(fact.id), DECIDED),
        resource=resource(decision.model, partition=fact.partition),
        payload=payload | {"as_of": decision.as_of.isoformat()},
    )


def emit_hindsight(judged: Hindsight) -> None:
    """Tell whether a promotion helped; told twice it is one event."""
    _send(
        event=VERDICT,
        id=uuid5(NAMESPACE, f"{judged.model} {judged.sequence}"),
        resource=resource(judged.model, version=judged.version),
        payload=asdict(judged) | {"as_of": judged.as_of.isoformat(), "recorded_at": None},
    )


def change_id(row: Promotion) -> UUID:
    """The id of a ledger row's event: sent twice, it is the same event."""
    return uuid5(NAMESPACE, row.hash)


def emit_change(row: Promotion, res: Resources) -> None:
    """Send the event of a stage change, with the row's hash; rows that nobody waits for have none."""
    if row.action not in CHANGE:
        return
    gain = row.evidence.get("gain")
    _send(
        event=CHANGE[row.action],
        id=change_id(row),
        resource=resource(row.model, version=row.version),
        payload={
            "model": row.model,
            "version": row.version,
            "previous": row.previous,
            "sequence": row.sequence,
            "from": row.from_stage,
            "to": row.to_stage,
            "as_of": row.as_of.isoformat(),
            "by": row.by,
            "assurance": row.assurance,
            "reason": row.reason,
            "gain": gain,
            "hash": row.hash,
            "link": res.registry.version_url(row.version),
        },
    )


def known_hashes(model: str) -> dict[str, str]:
    """The hashes in the stage changes' events that Prefect still has of a model, by event id. It forgets after a while."""
    wanted = EventFilter(
        event=EventNameFilter(name=sorted(set(CHANGE.values()))),
        resource=EventResourceFilter(id=[f"evergreen.model.{model}"]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - timedelta(days=3650)),
    )
    found: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        page = client.request("POST", "/events/filter", json={"filter": wanted.model_dump(mode="json"), "limit": 50})
        while True:
            answer = page.raise_for_status().json()
            found |= {event["id"]: event["payload"].get("hash", "") for event in answer["events"]}
            if not answer.get("next_page"):
                return found
            page = client._client.get(answer["next_page"])


def flush(seconds: float = 30) -> bool:
    """Wait until the events of this process have left it. False when they have not in time."""
    worker = EventsWorker.instance()
    waiting = threading.Thread(target=worker.wait_until_empty, daemon=True)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()


def emit_new(facts: Iterable[Fact], res: Resources) -> list[Fact]:
    """Tell of the facts that the ledger does not have yet, and return them."""
    new = [fact for fact in facts if not res.ledger.has_fact(fact.id)]
    for fact in new:
        record_and_emit(fact, res)
    return new


@as_task("tell of {fact.kind} in {fact.partition}")
def record_and_emit(fact: Fact, res: Resources) -> None:
    """Write a fact down, then send its event; one that was written already is not sent here again."""
    if res.ledger.record_fact(fact):
        emit(fact)
        log = run_log()
        log.warning(
            "%s in %s %s: %s; fact %s sent",
            fact.kind,
            fact.model,
            fact.partition,
            fact.payload.get("told", ""),
            fact.id,
        )


def resend_undecided(res: Resources, now: datetime | None = None) -> list[Fact]:
    """Send every fact again that has waited for its decision longer than `PATIENCE`."""
    moment = now or datetime.now(UTC)
    late = [f for f in res.ledger.undecided() if f.recorded_at and moment - f.recorded_at > PATIENCE]
    for fact in late:
        emit(fact)
        run_log().warning("no decision yet about fact %s (%s %s); sent again", fact.id, fact.model, fact.partition)
    return late
