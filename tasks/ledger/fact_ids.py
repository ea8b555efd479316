"""Facts with an id that is made from what was observed: the same observation is the same fact, whoever looks and however often."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from tasks.contracts import Fact, FactKind
from tasks.storage.files import digest_json

NAMESPACE = UUID("5d0c8b52-1d1c-4f7e-9f3e-2a9a8f7c1e10")


def fact(kind: FactKind, model: str, partition: str, as_of: datetime, seen: Any, payload: dict[str, Any]) -> Fact:
    """A fact whose id is made from what was seen."""
    number = str(uuid5(NAMESPACE, digest_json([model, kind, partition, seen])))
    return Fact(
        number,
        model,
        kind,
        partition,
        as_of,
        {"model": model, "partition": partition, "as_of": as_of.isoformat()} | payload,
    )
