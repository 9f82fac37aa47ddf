"""Each inbox has a name of its own: a receipt is told from one of another inbox, which counts anew."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "inbox_0002"
down_revision = "inbox_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = op.create_table(
        "identity", sa.Column("id", sa.Integer, primary_key=True), sa.Column("inbox", sa.Text, nullable=False)
    )
    op.bulk_insert(identity, [{"id": 1, "inbox": secrets.token_hex(8)}])


def downgrade() -> None:
    op.drop_table("identity")
