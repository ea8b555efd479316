"""Emit Prefect events: about ledger rows (facts, decisions, stage changes), and about partitions. No other module emits events."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.worker import EventsWorker

from tasks.contracts import Action, Decision, Fact, FactKind, Hindsight, PartitionRef, Promotion
from tasks.ledger.fact_ids import NAMESPACE
from tasks.orchestration.prefect_tasks import as_task, is_simulation, run_log
from tasks.resources import Resources
from tasks.storage.files import digest_json

EVENT: dict[FactKind, str] = {
    "drift": "evergreen.drift.detected",
    "decay": "evergreen.performance.degraded",
    "estimate": "evergreen.performance.degraded",
    "due": "evergreen.retraining.due",
    "retry": "evergreen.retraining.due",
    "alias": "evergreen.alias.diverged",
    "late": "evergreen.partition.late",
    "old": "evergreen.champion.old",
}
"""The event of each kind of fact. Kind `person` has none: the requesting flow run decides itself."""
DECIDED, VERDICT = "evergreen.retraining.decided", "evergreen.retraining.verdict"
CHANGE: dict[Action, str] = {
    "stage": "evergreen.challenger.staged",
    "request": "evergreen.approval.requested",
    "promote": "evergreen.model.promoted",
    "adopt": "evergreen.model.promoted",
    "rollback": "evergreen.model.rolled_back",
}
"""The events of stage changes. The other actions have no event."""
PROCESSED, BLOCKED, ASSESSED = (f"evergreen.partition.{end}" for end in ("processed", "blocked", "assessed"))
"""The events of partitions, which tell flows elsewhere that outputs are there. They are about no ledger row."""
RESEND_AFTER = timedelta(minutes=2)
"""Wall-clock time after which a fact without a decision is sent again."""


def event_resource(model: str, **more: str) -> dict[str, str]:
    """Return the resource of an event: the model, with labels that automations can match."""
    labels = {
        "prefect.resource.id": f"evergreen.model.{model}",
        "prefect.resource.name": model,
        "evergreen.model": model,
    }
    return labels | {f"evergreen.{key}": value for key, value in more.items()}


def _send(**event: Any) -> None:
    """Emit an event, except in simulation mode."""
    if not is_simulation():
        emit_event(**event)


def emit(fact: Fact, chained: str = "") -> None:
    """Emit a fact's event, with the hash of its entry in the ledger's chain.

    Sending is asynchronous, and the event may be lost. The fact is in the ledger.
    """
    labels = {"partition": fact.partition} if fact.partition else {}
    payload = {
        "fact_id": fact.id,
        "kind": fact.kind,
        **fact.payload,
        "hash": chained,
    }  # a retry keeps the first fact's kind
    name = EVENT.get(fact.kind, "evergreen.retraining.due")
    _send(event=name, resource=event_resource(fact.model, fact=fact.id, **labels), payload=payload)


def emit_decision(decision: Decision, fact: Fact, chained: str = "") -> None:
    """Emit a decision, also to decline. The event's id is derived from the fact's, so that a second call emits the same event."""
    payload = {"kind": fact.kind, "partition": fact.partition, "told": fact.payload.get("told", "")}
    for name in ("fact_id", "action", "rule", "reason", "signals", "flow_run"):
        payload[name] = getattr(decision, name)
    _send(
        event=DECIDED,
        id=uuid5(UUID(fact.id), DECIDED),
        resource=event_resource(decision.model, partition=fact.partition),
        payload=payload | {"as_of": decision.as_of.isoformat(), "hash": chained},
    )


def emit_hindsight(effect: Hindsight, chained: str = "") -> None:
    """Emit the measured effect of a promotion. A second call emits the same event."""
    _send(
        event=VERDICT,
        id=uuid5(NAMESPACE, f"{effect.model} {effect.sequence}"),
        resource=event_resource(effect.model, version=effect.version),
        payload=asdict(effect) | {"as_of": effect.as_of.isoformat(), "recorded_at": None, "hash": chained},
    )


def emit_partition(name: str, ref: PartitionRef, payload: Mapping[str, Any]) -> None:
    """Emit that a partition was processed, blocked or assessed. The same content gives the same event id."""
    content = {"model": ref.model, "partition": ref.key, **payload}
    _send(
        event=name,
        id=uuid5(NAMESPACE, digest_json([name, content])),
        resource=event_resource(ref.model, partition=ref.key),
        payload=content,
    )


def change_id(row: Promotion) -> UUID:
    """Return the id of a ledger row's event, derived from the row's hash, so that a second call emits the same event."""
    return uuid5(NAMESPACE, row.hash)


def emit_change(row: Promotion, res: Resources) -> None:
    """Emit the event of a stage change, with the row's hash, if its action has one."""
    if row.action not in CHANGE:
        return
    gain = row.evidence.get("gain")
    _send(
        event=CHANGE[row.action],
        id=change_id(row),
        resource=event_resource(row.model, version=row.version),
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


def event_subject(name: str, payload: Mapping[str, Any]) -> str:
    """Return what an event is about: `row 3 of version 2`, `fact ...`, `decision ...` or `hindsight 3`."""
    if name in CHANGE.values():
        return f"row {payload['sequence']} of version {payload['version']}"
    if name == VERDICT:
        return f"hindsight {payload['sequence']}"
    return f"{'decision' if name == DECIDED else 'fact'} {payload['fact_id']}"


def known_hashes(model: str) -> dict[str, str]:
    """Return the hashes in the events of a model, by event id and by what the event is about, see `event_subject`.

    Prefect deletes events after its retention period.
    """
    event_filter = EventFilter(
        event=EventNameFilter(name=sorted({*CHANGE.values(), *EVENT.values(), DECIDED, VERDICT})),
        resource=EventResourceFilter(id=[f"evergreen.model.{model}"]),
        occurred=EventOccurredFilter(since=datetime.now(UTC) - timedelta(days=3650)),
    )
    hashes: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        page = client.request(
            "POST", "/events/filter", json={"filter": event_filter.model_dump(mode="json"), "limit": 50}
        )
        while True:
            body = page.raise_for_status().json()
            for event in body["events"]:
                if row_hash := event["payload"].get("hash"):
                    hashes |= {event["id"]: row_hash, event_subject(event["event"], event["payload"]): row_hash}
            if not body.get("next_page"):
                return hashes
            page = client._client.get(body["next_page"])


def flush(seconds: float = 30) -> bool:
    """Wait until all events of this process have been sent. Returns False if that takes longer than `seconds`."""
    worker = EventsWorker.instance()
    thread = threading.Thread(target=worker.wait_until_empty, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def emit_new(facts: Iterable[Fact], res: Resources) -> list[Fact]:
    """Record and emit the facts that the ledger does not have yet, and return them."""
    new = [fact for fact in facts if not res.ledger.has_fact(fact.id)]
    for fact in new:
        record_and_emit(fact, res)
    return new


@as_task("emit {fact.kind} event of {fact.partition}")
def record_and_emit(fact: Fact, res: Resources) -> None:
    """Record a fact, then emit its event. A fact that is already recorded is not emitted again here."""
    if res.ledger.record_fact(fact):
        emit(fact, res.ledger.chained("fact", fact.id))
        log = run_log()
        log.warning(
            "%s in %s %s: %s; emitted fact %s",
            fact.kind,
            fact.model,
            fact.partition,
            fact.payload.get("told", ""),
            fact.id,
            extra={"model": fact.model, "partition": fact.partition},
        )


def resend_undecided(res: Resources, now: datetime | None = None) -> list[Fact]:
    """Emit every fact again that has had no decision for longer than `RESEND_AFTER`, and return them."""
    now = now or datetime.now(UTC)
    late = [f for f in res.ledger.undecided() if f.recorded_at and now - f.recorded_at > RESEND_AFTER]
    for fact in late:
        emit(fact, res.ledger.chained("fact", fact.id))
        text, about = "fact %s (%s %s) has no decision yet; emitted again", {"partition": fact.partition}
        run_log().warning(text, fact.id, fact.model, fact.partition, extra=about)
    return late
