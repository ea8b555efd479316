"""Create the tables claims and holders."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "holders",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("born", sa.Float, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "claims",
        sa.Column("model", sa.String(100), primary_key=True),
        sa.Column("partition", sa.String(16), primary_key=True),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("flow_run", sa.String(64), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("claims")
    op.drop_table("holders")
