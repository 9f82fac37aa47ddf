"""The timeline store as first released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from firebreak.domain.errors import LedgerError

revision = "timeline_0001"
down_revision = None
branch_labels = None
depends_on = None

_GUARDS = (
    """CREATE TRIGGER entries_never_change BEFORE UPDATE ON entries
       BEGIN SELECT RAISE(ABORT, 'a timeline entry is never changed'); END""",
    """CREATE TRIGGER entries_never_go BEFORE DELETE ON entries
       BEGIN SELECT RAISE(ABORT, 'a timeline entry is never deleted'); END""",
    """CREATE TRIGGER entries_without_gap BEFORE INSERT ON entries
       WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
       BEGIN SELECT RAISE(ABORT, 'timeline entries are numbered without a gap'); END""",
    # REPLACE deletes without firing delete triggers: refused before it gets there.
    """CREATE TRIGGER entries_once BEFORE INSERT ON entries
       WHEN EXISTS (SELECT 1 FROM entries WHERE incident_id = NEW.incident_id AND key = NEW.key)
       BEGIN SELECT RAISE(ABORT, 'a timeline entry is never replaced'); END""",
    """CREATE TRIGGER documents_never_change BEFORE UPDATE ON documents
       BEGIN SELECT RAISE(ABORT, 'a kept document is never changed'); END""",
    """CREATE TRIGGER documents_never_go BEFORE DELETE ON documents
       BEGIN SELECT RAISE(ABORT, 'a kept document is never deleted'); END""",
    """CREATE TRIGGER documents_once BEFORE INSERT ON documents
       WHEN EXISTS (SELECT 1 FROM documents WHERE digest = NEW.digest)
       BEGIN SELECT RAISE(IGNORE); END""",
)


def upgrade() -> None:
    _create_record()
    _create_incidents()
    _create_outbox()
    for guard in _GUARDS:
        op.execute(guard)


def _create_record() -> None:
    op.create_table(
        "entries",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.Float),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.UniqueConstraint("incident_id", "key", name="entries_once"),
    )
    op.create_index(
        "entries_close_requests", "entries", ["incident_id"], sqlite_where=sa.text("kind = 'close.requested'")
    )
    op.create_table(
        "documents",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("correlation_key", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("alertname", sa.Text, nullable=False),
        sa.Column("intake_class", sa.Text, nullable=False),
        sa.Column("opened_at", sa.Text, nullable=False),
        sa.Column("closed_at", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index(
        "incidents_open_once",
        "incidents",
        ["correlation_key"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("incidents_by_time", "incidents", ["opened_at"])
    op.create_table(
        "alerts",
        sa.Column("alert_key", sa.Text, primary_key=True, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("starts_at", sa.Text, nullable=False),
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("firing", sa.Integer, nullable=False),
        sa.Column("resolved_at", sa.Text),
    )
    op.create_index("alerts_by_fingerprint", "alerts", ["fingerprint"])
    op.create_index("alerts_by_incident", "alerts", ["incident_id"])
    op.create_table(
        "target_locks",
        sa.Column("target", sa.Text, primary_key=True, nullable=False),
        sa.Column("incident_id", sa.Text, nullable=False),
    )
    op.create_index("target_locks_by_incident", "target_locks", ["incident_id"])


def _create_outbox() -> None:
    op.create_table(
        "messages",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("notice", sa.Text, nullable=False),
        sa.Column("pager", sa.Text, nullable=False),
        sa.Column("due_at", sa.Text, nullable=False),
        sa.Column("next_try_at", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("incident_id", "key", name="messages_once"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "messages_waiting",
        "messages",
        ["incident_id", "channel", "due_at", "number"],
        sqlite_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "restores",
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("plan_digest", sa.Text, nullable=False),
        sa.Column("opened_at", sa.Text, nullable=False),
        sa.Column("restore", sa.Text, nullable=False),
        sa.Column("ended_at", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "tier", "step", name="restores_once"),
    )
    op.create_index("restores_open", "restores", ["opened_at"], sqlite_where=sa.text("ended_at IS NULL"))


def downgrade() -> None:
    raise LedgerError("the timeline is append-only: its store is not migrated backwards")
