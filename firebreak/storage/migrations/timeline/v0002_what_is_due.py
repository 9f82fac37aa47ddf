"""What is due of one channel is found without passing over what waits in the others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from firebreak.domain.errors import LedgerError

revision = "timeline_0002"
down_revision = "timeline_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("messages_due", "messages", ["channel", "due_at"], sqlite_where=sa.text("state = 'waiting'"))


def downgrade() -> None:
    raise LedgerError("the timeline is append-only: its store is not migrated backwards")
