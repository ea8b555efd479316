"""Add signals, cost and gate verdicts to decisions, and the table of the measured effects of promotions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("decisions") as table:
        table.add_column(sa.Column("signals", sa.JSON, nullable=False, server_default="{}"))
        table.add_column(sa.Column("seconds", sa.Float, nullable=False, server_default="0"))
        table.add_column(sa.Column("gate", sa.JSON, nullable=False, server_default="[]"))
    op.create_table(
        "hindsights",
        sa.Column("model", sa.String(40), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("previous", sa.String(16), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("gain", sa.JSON),
        sa.Column("partitions", sa.JSON, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("flow_run", sa.String(64), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("hindsights")
    with op.batch_alter_table("decisions") as table:
        for name in ("signals", "seconds", "gate"):
            table.drop_column(name)
