"""Each alert knows the last delivery that changed it: one that is handled again after a crash is none that is new."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from firebreak.domain.errors import LedgerError

revision = "timeline_0004"
down_revision = "timeline_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("receipt", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("alerts", sa.Column("accepted_at", sa.Text, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    raise LedgerError("the timeline is append-only: its store is not migrated backwards")
