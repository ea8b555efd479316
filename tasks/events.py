"""Tell Prefect of facts and of stage changes. The only module that emits events; what they tell of is in the ledger."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.events.worker import EventsWorker

from tasks.contracts import Action, Fact, PartitionRef, Promotion, Record, Stage
from tasks.lake import digest_json
from tasks.resources import Resources

NAMESPACE = UUID("5d0c8b52-1d1c-4f7e-9f3e-2a9a8f7c1e10")
EVENT = {"drift": "evergreen.drift.detected", "alias": "evergreen.alias.diverged"}
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


def drift_fact(record: Record, res: Resources) -> Fact | None:
    """The fact that a monitoring record states, or None when it found no drift.

    Its id is made from model, partition, the version that was monitored and the scores: the
    same observation is the same fact.
    """
    if record.status != "done" or not record.data["detected"]:
        return None
    columns = [c for c in record.data["columns"] if c["drifted"]]
    seen = digest_json([record.model, record.partition, record.inputs, columns])
    payload = {
        "model": record.model,
        "partition": record.partition,
        "as_of": record.as_of.isoformat(),
        "champion": record.data["version"],
        "drift_share": record.data["share"],
        "threshold": record.data["threshold"],
        "signals": columns,
        "report": record.data["report"],
        "snapshot": record.data["snapshot"],
        "link": snapshot_url(record, res),
    }
    return Fact(str(uuid5(NAMESPACE, seen)), record.model, "drift", record.partition, record.as_of, payload)


def snapshot_url(record: Record, res: Resources) -> str:
    """Where the Evidently UI shows a partition's report."""
    project, snapshot = record.data.get("project"), record.data.get("snapshot")
    return f"{res.settings.evidently_url}/projects/{project}/reports/{snapshot}" if project and snapshot else ""


def resource(model: str, **more: str) -> dict[str, str]:
    """What an event is about: a model, with what automations may match on."""
    named = {
        "prefect.resource.id": f"evergreen.model.{model}",
        "prefect.resource.name": model,
        "evergreen.model": model,
    }
    return named | {f"evergreen.{key}": value for key, value in more.items()}


def emit(fact: Fact) -> None:
    """Send a fact's event. Sending is asynchronous and may be lost; the ledger's row is not."""
    about = {"partition": fact.partition} if fact.partition else {}
    emit_event(
        event=EVENT[fact.kind], resource=resource(fact.model, **about), payload={"fact_id": fact.id, **fact.payload}
    )


def alias_fact(champion: Promotion, found: str | None, res: Resources) -> Fact:
    """The fact that the alias is not where the ledger's champion is. Seen again it is the same fact."""
    seen = digest_json([champion.model, champion.hash, found])
    payload = {
        "model": champion.model,
        "champion": champion.version,
        "alias": found,
        "as_of": champion.as_of.isoformat(),
        "link": res.registry.version_url(found) if found else "",
    }
    return Fact(str(uuid5(NAMESPACE, seen)), champion.model, "alias", "", champion.as_of, payload)


def change_id(row: Promotion) -> UUID:
    """The id of a ledger row's event: sent twice, it is the same event."""
    return uuid5(NAMESPACE, row.hash)


def emit_change(row: Promotion, res: Resources) -> None:
    """Send the event of a stage change, with the row's hash; rows that nobody waits for have none."""
    if row.action not in CHANGE:
        return
    gain = row.evidence.get("gain")
    emit_event(
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


def untold_drift(ref: PartitionRef, res: Resources) -> Fact | None:
    """The drift of a watched partition that the ledger has no fact of yet."""
    record = res.lake.record(Stage.MONITORING, ref.key)
    fact = drift_fact(record, res) if record else None
    return fact if fact and not res.ledger.has_fact(fact.id) else None


@task(cache_policy=NO_CACHE, task_run_name="tell of drift in {fact.partition}")
def tell(fact: Fact, res: Resources) -> None:
    """Write a fact down, then send its event; one that was written already is not sent here again."""
    if res.ledger.record_fact(fact):
        emit(fact)
        get_run_logger().warning("%s in %s %s: fact %s sent", fact.kind, fact.model, fact.partition, fact.id)


def resend_undecided(res: Resources, now: datetime | None = None) -> list[Fact]:
    """Send every fact again that has waited for its decision longer than `PATIENCE`."""
    moment = now or datetime.now(UTC)
    late = [f for f in res.ledger.undecided() if f.recorded_at and moment - f.recorded_at > PATIENCE]
    for fact in late:
        emit(fact)
        get_run_logger().warning(
            "no decision yet about fact %s (%s %s); sent again", fact.id, fact.model, fact.partition
        )
    return late
