"""The tables of the database.

Rows of `promotions`, `deliveries`, `facts`, `decisions`, `hindsights` and `chain` are never deleted. Rows of `claims` and `holders` are
temporary.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

HEAD = "0005"
"""The migration that these tables correspond to. A test compares it with the newest file in `migrations/`."""


class Moment(sa.TypeDecorator[datetime]):
    """A time-zone-aware datetime, stored in UTC, because SQLite does not store the zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value and value.astimezone(UTC)


metadata = sa.MetaData()

promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("model", sa.String(40), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("version", sa.String(16), nullable=False),
    sa.Column("previous", sa.String(16)),
    sa.Column("as_of", Moment, nullable=False),
    sa.Column("window_end", Moment, nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("flow_run", sa.String(64), nullable=False),
    sa.Column("against", sa.Integer, nullable=False),
    sa.Column("assurance", sa.String(16), nullable=False),
    sa.Column("from_stage", sa.String(16), nullable=False),
    sa.Column("to_stage", sa.String(16), nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
"""The primary key is the compare-and-set: of concurrent promotions only one gets the next sequence."""

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("model", sa.String(40), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
)
"""The rows of `promotions` that were delivered to MLflow and Prefect. The next run delivers rows that are missing here."""

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("model", sa.String(40), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("partition", sa.String(16), nullable=False),
    sa.Column("as_of", Moment, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("fact_id", sa.String(36), sa.ForeignKey("facts.id"), primary_key=True),
    sa.Column("model", sa.String(40), nullable=False, index=True),
    sa.Column("as_of", Moment, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("rule", sa.String(40), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("flow_run", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("version", sa.String(16), nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
    sa.Column("signals", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("gate", sa.JSON, nullable=False),
    sa.Index(
        "one_retraining_in_flight",
        "model",
        unique=True,
        sqlite_where=sa.text("action = 'retrain' AND outcome = ''"),
        postgresql_where=sa.text("action = 'retrain' AND outcome = ''"),
    ),
)
"""The database enforces at most one decision per fact and at most one unfinished retraining per model."""

hindsights = sa.Table(
    "hindsights",
    metadata,
    sa.Column("model", sa.String(40), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.String(16), nullable=False),
    sa.Column("previous", sa.String(16), nullable=False),
    sa.Column("as_of", Moment, nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("gain", sa.JSON),
    sa.Column("partitions", sa.JSON, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("flow_run", sa.String(64), nullable=False),
    sa.Column("recorded_at", Moment, nullable=False),
)
"""The measured effect of each promotion, by its sequence in `promotions`."""

chain = sa.Table(
    "chain",
    metadata,
    sa.Column("model", sa.String(40), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("key", sa.String(36), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
"""The hash chain over all that was written about a model, see `tasks/ledger/chain.py`. An entry is written with what it is about."""

holders = sa.Table(
    "holders",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.Float, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
"""Processes that work on partitions.

`born` is when the process started, by `claims.started_at`, since process ids are reused.
`expires_at` is by the clock of `claims.lease_time`.
"""

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("model", sa.String(100), primary_key=True),
    sa.Column("partition", sa.String(16), primary_key=True),
    sa.Column("holder", sa.String(36), nullable=False),
    sa.Column("flow_run", sa.String(64), nullable=False),
    sa.Column("taken_at", Moment, nullable=False),
)
"""The primary key allows only one process at a time to work on a partition."""
