"""Add stages, the champion that a row was decided against, the assurance of its author, the hash chain, and deliveries."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from tasks.contracts import Promotion
from tasks.ledger.chain import row_hash

revision = "0002"
down_revision = "0001"

ADDED: dict[str, Any] = {
    "against": sa.Integer,
    "assurance": sa.String(16),
    "from_stage": sa.String(16),
    "to_stage": sa.String(16),
    "previous_hash": sa.String(64),
    "hash": sa.String(64),
}


def upgrade() -> None:
    for name, kind in ADDED.items():
        op.add_column("promotions", sa.Column(name, kind, nullable=True))
    op.create_table(
        "deliveries",
        sa.Column("model", sa.String(40), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    chain_earlier_rows(op.get_bind())
    with op.batch_alter_table("promotions") as table:
        for name, kind in ADDED.items():
            table.alter_column(name, existing_type=kind, nullable=False)


def chain_earlier_rows(con: sa.Connection) -> None:
    """Fill the new columns of existing rows: promotions and rollbacks, each against the row before it, all delivered."""
    moment = sa.DateTime(timezone=True)
    times = {name: sa.column(name, moment) for name in ("as_of", "window_end", "recorded_at")}
    names = ("model", "sequence", "action", "version", "previous", "by", "reason", "run_id", "flow_run")
    table = sa.table(
        "promotions", *times.values(), sa.column("evidence", sa.JSON), *(sa.column(n) for n in (*names, *ADDED))
    )
    deliveries = sa.table("deliveries", sa.column("model"), sa.column("sequence"), sa.column("at", moment))
    last: dict[str, Promotion] = {}
    for found in con.execute(sa.select(table).order_by(table.c.model, table.c.sequence)).mappings().all():
        old = {k: v for k, v in found.items() if k not in ADDED}
        old |= {k: _utc(old[k]) for k in times}
        before = last.get(old["model"])
        row = Promotion(
            **old,
            against=before.sequence if before else 0,
            assurance="automation" if old["by"] == "evergreen" else "asserted",
            from_stage="retired" if old["action"] == "rollback" else "challenger",
            to_stage="champion",
            previous_hash=before.hash if before else "",
        )
        row = Promotion(**(vars(row) | {"hash": row_hash(row)}))
        key = (table.c.model == row.model) & (table.c.sequence == row.sequence)
        con.execute(sa.update(table).where(key).values(**{n: getattr(row, n) for n in ADDED}))
        con.execute(sa.insert(deliveries).values(model=row.model, sequence=row.sequence, at=datetime.now(UTC)))
        last[row.model] = row


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def downgrade() -> None:
    op.drop_table("deliveries")
    with op.batch_alter_table("promotions") as table:
        for name in ADDED:
            table.drop_column(name)
