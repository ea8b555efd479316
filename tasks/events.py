"""Tell Prefect of a fact. The only module that emits events; the fact itself is in the ledger."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from tasks.contracts import Fact, PartitionRef, Record, Stage
from tasks.lake import digest_json
from tasks.resources import Resources

NAMESPACE = UUID("5d0c8b52-1d1c-4f7e-9f3e-2a9a8f7c1e10")
EVENT = {"drift": "evergreen.drift.detected"}
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


def emit(fact: Fact) -> None:
    """Send a fact's event. Sending is asynchronous and may be lost; the ledger's row is not."""
    emit_event(
        event=EVENT[fact.kind],
        resource={
            "prefect.resource.id": f"evergreen.model.{fact.model}",
            "prefect.resource.name": fact.model,
            "evergreen.model": fact.model,
            "evergreen.partition": fact.partition,
        },
        payload={"fact_id": fact.id, **fact.payload},
    )


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
