"""Each alert knows of which inbox the delivery was that changed it last: receipts of another one count anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from firebreak.domain.errors import LedgerError

revision = "timeline_0005"
down_revision = "timeline_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("inbox", sa.Text, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    raise LedgerError("the timeline is append-only: its store is not migrated backwards")
