"""Facts whose id is derived from the observation, so that the same observation always has the same id."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from tasks.contracts import Fact, FactKind
from tasks.ledger.values import storable
from tasks.storage.files import digest_json

NAMESPACE = UUID("5d0c8b52-1d1c-4f7e-9f3e-2a9a8f7c1e10")


def make_fact(
    kind: FactKind, model: str, partition: str, as_of: datetime, identity: Any, payload: dict[str, Any]
) -> Fact:
    """Return a fact whose id (UUID version 5) is derived from model, kind, partition and `identity`, any JSON value."""
    fact_id = str(uuid5(NAMESPACE, digest_json([model, kind, partition, identity])))
    return Fact(
        fact_id,
        model,
        kind,
        partition,
        as_of,
        {"model": model, "partition": partition, "as_of": as_of.isoformat()} | storable(payload),
    )
