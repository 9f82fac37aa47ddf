"""Tables of the two files. A change here needs a migration beside it; a test compares both.

`timeline.sqlite`: entries and documents (append-only, guarded by triggers), incidents and their alerts, the outbox,
restores, target locks. `inbox.sqlite`: deliveries. Two files, so that intake never waits for the ledger.

Times are RFC 3339 text in UTC with microseconds (`domain.codec.format_time`), which sorts as it is; JSON is text.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

TIMELINE_REVISION = "timeline_0005"
SAME_RECORD = frozenset({"timeline_0001", "timeline_0002", "timeline_0003", "timeline_0004"})
"""Earlier revisions whose entries and documents are those of today: their record is verified before it is migrated."""
INBOX_REVISION = "inbox_0002"

timeline_metadata = MetaData()
inbox_metadata = MetaData()

entries = Table(
    "entries",
    timeline_metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),  # gap-free over the whole store
    Column("incident_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("duration_ms", Float),
    Column("body", Text, nullable=False),  # RFC 8785 bytes: what the digest covers
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    UniqueConstraint("incident_id", "key", name="entries_once"),
)

Index("entries_close_requests", entries.c.incident_id, sqlite_where=text("kind = 'close.requested'"))

documents = Table(
    "documents",
    timeline_metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of `content`, hex
    Column("content", LargeBinary, nullable=False),
)

incidents = Table(
    "incidents",
    timeline_metadata,
    Column("id", Text, primary_key=True),
    Column("correlation_key", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("alertname", Text, nullable=False),
    Column("intake_class", Text, nullable=False),
    Column("opened_at", Text, nullable=False),
    Column("closed_at", Text),
    Column("outcome", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("data", Text, nullable=False),  # the whole Incident, as it was opened
    Column("truncated", Integer, nullable=False, server_default=text("0")),  # the most that one body left out
)
Index("incidents_open_once", incidents.c.correlation_key, unique=True, sqlite_where=text("closed_at IS NULL"))
Index("incidents_by_time", incidents.c.opened_at)

alerts = Table(
    "alerts",
    timeline_metadata,
    Column("alert_key", Text, primary_key=True),  # fingerprint@start: one owner at a time
    Column("fingerprint", Text, nullable=False),
    Column("starts_at", Text, nullable=False),
    Column("incident_id", Text, nullable=False),
    Column("firing", Integer, nullable=False),
    Column("resolved_at", Text),
    Column("receipt", Integer, nullable=False, server_default=text("0")),  # of the last delivery that changed it
    Column("accepted_at", Text, nullable=False, server_default=text("''")),  # when that one was accepted
    Column("inbox", Text, nullable=False, server_default=text("''")),  # whose receipt that is; empty: an older record's
)
Index("alerts_by_fingerprint", alerts.c.fingerprint)
Index("alerts_by_incident", alerts.c.incident_id)

messages = Table(
    "messages",
    timeline_metadata,
    Column("number", Integer, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("notice", Text, nullable=False),
    Column("pager", Text, nullable=False),
    Column("due_at", Text, nullable=False),
    Column("next_try_at", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", Text, nullable=False),  # waiting | delivered | given_up | cancelled
    Column("receipt", Text, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("incident_id", "key", name="messages_once"),
    sqlite_autoincrement=True,
)
Index(
    "messages_waiting",
    messages.c.incident_id,
    messages.c.channel,
    messages.c.due_at,
    messages.c.number,
    sqlite_where=text("state = 'waiting'"),
)
Index("messages_due", messages.c.channel, messages.c.due_at, sqlite_where=text("state = 'waiting'"))

restores = Table(
    "restores",
    timeline_metadata,
    Column("incident_id", Text, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("opened_at", Text, nullable=False),
    Column("restore", Text, nullable=False),
    Column("ended_at", Text),
    Column("outcome", Text, nullable=False),
    PrimaryKeyConstraint("incident_id", "tier", "step", name="restores_once"),
)

Index("restores_open", restores.c.opened_at, sqlite_where=text("ended_at IS NULL"))

target_locks = Table(
    "target_locks",
    timeline_metadata,
    Column("target", Text, primary_key=True),  # TargetRef.text
    Column("incident_id", Text, nullable=False),
)
Index("target_locks_by_incident", target_locks.c.incident_id)

deliveries = Table(
    "deliveries",
    inbox_metadata,
    Column("receipt", Integer, primary_key=True),
    Column("accepted_at", Text, nullable=False),
    Column("intake_class", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("truncated", Integer, nullable=False),
    Column("alert", Text, nullable=False),
    Column("disposition", Text),  # NULL until a dispatcher settled it
    Column("detail", Text, nullable=False, server_default=text("''")),
    sqlite_autoincrement=True,
)
Index(
    "deliveries_unsettled",
    deliveries.c.intake_class,
    deliveries.c.receipt,
    sqlite_where=text("disposition IS NULL"),
)

probe = Table(
    "probe",
    inbox_metadata,
    Column("id", Integer, primary_key=True),
    Column("beats", Integer, nullable=False),
)

identity = Table(
    "identity",
    inbox_metadata,
    Column("id", Integer, primary_key=True),  # 1: the one row
    Column("inbox", Text, nullable=False),  # random, made with the file: receipts of another one count anew
)
