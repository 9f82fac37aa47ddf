"""How many alerts were left out is kept of every body that tells of an incident, not of the opening one alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from firebreak.domain.errors import LedgerError

revision = "timeline_0003"
down_revision = "timeline_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("truncated", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE incidents SET truncated = coalesce(json_extract(data, '$.truncated'), 0) WHERE json_valid(data)")


def downgrade() -> None:
    raise LedgerError("the timeline is append-only: its store is not migrated backwards")
