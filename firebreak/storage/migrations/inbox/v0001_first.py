"""The inbox as first released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "inbox_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("receipt", sa.Integer, primary_key=True),
        sa.Column("accepted_at", sa.Text, nullable=False),
        sa.Column("intake_class", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("truncated", sa.Integer, nullable=False),
        sa.Column("alert", sa.Text, nullable=False),
        sa.Column("disposition", sa.Text),
        sa.Column("detail", sa.Text, nullable=False, server_default=sa.text("''")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "deliveries_unsettled",
        "deliveries",
        ["intake_class", "receipt"],
        sqlite_where=sa.text("disposition IS NULL"),
    )
    op.create_table(
        "probe", sa.Column("id", sa.Integer, primary_key=True), sa.Column("beats", sa.Integer, nullable=False)
    )
    op.execute("INSERT INTO probe (id, beats) VALUES (1, 0)")


def downgrade() -> None:
    op.drop_table("probe")
    op.drop_table("deliveries")
