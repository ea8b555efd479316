"""Create the chain over promotions, facts, decisions, outcomes and measured effects, with an entry for each that exists."""

import sqlalchemy as sa
from alembic import op

from tasks.ledger.chain import Entry, next_entry
from tasks.ledger.contents import COLUMNS, contents

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("DROP TABLE IF EXISTS chain")  # of an upgrade that was killed before upgrades were transactions
    table = op.create_table(
        "chain",
        sa.Column("model", sa.String(40), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    con = op.get_bind()
    models = sa.union(*(sa.select(written.c.model) for written, *_ in COLUMNS.values()))
    for model in con.execute(models).scalars().all():
        last: Entry | None = None
        for kind, key, _, digest in sorted(contents(con, model), key=lambda content: content[2]):
            last = next_entry(model, last, kind, key, digest)
            con.execute(sa.insert(table).values(**vars(last)))


def downgrade() -> None:
    op.drop_table("chain")
