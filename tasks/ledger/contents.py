"""The digests of all that the ledger contains about a model, as the chain has them."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tasks.ledger.chain import Kind, as_stored
from tasks.ledger.tables import decisions, facts, hindsights, promotions
from tasks.storage.files import digest_json

COLUMNS: dict[Kind, tuple[sa.Table, str, tuple[str, ...]]] = {
    "promotion": (promotions, "sequence", ("hash",)),
    "fact": (facts, "id", ("id", "model", "kind", "partition", "as_of", "payload", "recorded_at")),
    "decision": (
        decisions,
        "fact_id",
        ("fact_id", "model", "as_of", "action", "rule", "reason", "flow_run", "recorded_at", "signals"),
    ),
    "outcome": (decisions, "fact_id", ("fact_id", "outcome", "detail", "version", "seconds", "gate")),
    "hindsight": (
        hindsights,
        "sequence",
        (
            *("model", "sequence", "version", "previous", "as_of", "verdict", "gain", "partitions", "rows", "note"),
            *("flow_run", "recorded_at"),
        ),
    ),
}
"""Table, key and columns of each kind of entry. The hashes of every existing ledger depend on them: a new column needs a new kind."""


def content_digest(kind: Kind, row: Mapping[str, Any]) -> str:
    """Return the digest of a row's columns; for a promotion its own hash."""
    values = [as_stored(row[name]) for name in COLUMNS[kind][2]]
    return str(values[0]) if kind == "promotion" else digest_json(values)


def contents(con: sa.Connection, model: str) -> Iterator[tuple[Kind, str, datetime, str]]:
    """Yield kind, key, time of writing and digest of all that the ledger contains about a model."""
    for kind, (table, key, columns) in COLUMNS.items():
        names = dict.fromkeys((key, "recorded_at", *columns))
        query = sa.select(*(table.c[name] for name in names)).where(table.c.model == model)
        if kind == "outcome":
            query = query.where(decisions.c.outcome != "")
        for row in con.execute(query.order_by(table.c.recorded_at, table.c[key])).mappings():
            yield kind, str(row[key]), row["recorded_at"], content_digest(kind, dict(row))
