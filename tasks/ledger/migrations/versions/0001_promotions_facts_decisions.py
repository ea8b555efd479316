"""Create the tables promotions, facts and decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def moment() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("model", sa.String(40), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("previous", sa.String(16)),
        sa.Column("as_of", moment(), nullable=False),
        sa.Column("window_end", moment(), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("flow_run", sa.String(64), nullable=False),
        sa.Column("recorded_at", moment(), nullable=False),
    )
    op.create_table(
        "facts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(40), nullable=False, index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("partition", sa.String(16), nullable=False),
        sa.Column("as_of", moment(), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("recorded_at", moment(), nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("fact_id", sa.String(36), sa.ForeignKey("facts.id"), primary_key=True),
        sa.Column("model", sa.String(40), nullable=False, index=True),
        sa.Column("as_of", moment(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("rule", sa.String(40), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("flow_run", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("recorded_at", moment(), nullable=False),
    )
    unfinished = sa.text("action = 'retrain' AND outcome = ''")
    op.create_index(
        "one_retraining_in_flight",
        "decisions",
        ["model"],
        unique=True,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def downgrade() -> None:
    for table in ("decisions", "facts", "promotions"):
        op.drop_table(table)
