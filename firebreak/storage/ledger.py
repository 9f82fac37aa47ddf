"""LedgerPort: the timeline's append, documents, target locks, and the one way an incident closes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.errors import LedgerError
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import MessageDraft
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import Appended, EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.entries import append_entries, entry_of, find_entry, prepared, select_entries
from firebreak.storage.outbox import cancel_messages, cancel_waiting_after, enqueue_messages
from firebreak.storage.restores import keep_restores
from firebreak.storage.schema import documents, entries, incidents, target_locks
from firebreak.storage.store import Store


class LedgerStore(Store):
    """See LedgerPort for the meaning of each method."""

    async def append(
        self,
        drafts: Sequence[EntryDraft],
        *,
        messages: Sequence[MessageDraft] = (),
        cancel: Sequence[tuple[str, str]] = (),
        documents: Sequence[bytes] = (),
        restores: Sequence[RestoreRecord] = (),
        phase: tuple[str, IncidentPhase] | None = None,
    ) -> tuple[Appended, ...]:
        """As the port says. Cancels come before new messages. A restore that is open may be ended by a record with
        `ended_at`; an ended one stays as it is. Documents are kept also when the first draft is found: they are
        their own key. Raises ContractError for a body that is not JSON data, LedgerError when it cannot be kept."""
        items = prepared(drafts)
        kept = [{"digest": hashlib.sha256(content).hexdigest(), "content": content} for content in documents]

        def unit(connection: Connection) -> tuple[Appended, ...]:
            done = append_entries(connection, items)
            if kept:
                _keep_documents(connection, kept)
            if not (done and done[0].found):
                cancel_messages(connection, cancel)
                enqueue_messages(connection, messages)
                keep_restores(connection, restores)
                if phase is not None:
                    _set_phase(connection, *phase)
            return done

        return await self._write(unit)

    async def find(self, incident_id: str, key: str) -> TimelineEntry | None:
        """The entry written under (incident, key), or None."""
        return await self._read(lambda connection: find_entry(connection, incident_id, key))

    async def entries(self, incident_id: str) -> tuple[TimelineEntry, ...]:
        """All entries of one incident in order of `seq`; empty for an unknown one."""
        query = select_entries(entries.c.incident_id == incident_id)
        return await self._read(lambda connection: tuple(entry_of(row) for row in connection.execute(query)))

    async def document(self, digest: str) -> bytes:
        """The kept bytes. LedgerError when there are none of this SHA-256, or other ones."""
        query = select(documents.c.content).where(documents.c.digest == digest)
        content: bytes | None = await self._read(lambda connection: connection.execute(query).scalar_one_or_none())
        if content is None:
            raise LedgerError(f"no document with SHA-256 {digest} was kept")
        if hashlib.sha256(content).hexdigest() != digest:
            raise LedgerError(f"the document kept as {digest} was changed: its SHA-256 is another")
        return content

    async def lock_target(self, target: TargetRef, incident_id: str) -> str:
        """The incident that holds `target` now: `incident_id` when it was free or already its own."""

        def unit(connection: Connection) -> str:
            connection.execute(
                insert(target_locks)
                .values(target=target.text, incident_id=incident_id)
                .on_conflict_do_nothing(index_elements=["target"])
            )
            holder = select(target_locks.c.incident_id).where(target_locks.c.target == target.text)
            return str(connection.execute(holder).scalar_one())

        return await self._write(unit)

    async def release_targets(self, incident_id: str) -> None:
        """Let go of every target that the incident holds."""
        await self._write(lambda connection: _release_targets(connection, incident_id))

    async def close_incident(
        self,
        draft: EntryDraft,
        outcome: IncidentOutcome,
        *,
        messages: Sequence[MessageDraft],
        cancel_all: bool,
        unless_joined: bool = False,
    ) -> Appended | None:
        """As the port says; a second close finds the first one's entry, and lets go of targets taken since.
        `cancel_all` cancels the unsent messages that are due after `draft.at` (deadlines); what is due already is
        still told."""
        items = prepared((draft,))

        def unit(connection: Connection) -> Appended | None:
            if unless_joined and connection.execute(_JOINED_SINCE, {"incident": draft.incident_id}).first():
                return None
            (done,) = append_entries(connection, items)
            if done.found:
                _release_targets(connection, draft.incident_id)
                return done
            connection.execute(
                update(incidents)
                .where(incidents.c.id == draft.incident_id, incidents.c.closed_at.is_(None))
                .values(closed_at=items[0].at, outcome=outcome.value, phase=IncidentPhase.CLOSED.value)
            )
            if cancel_all:
                cancel_waiting_after(connection, draft.incident_id, draft.at)
            enqueue_messages(connection, messages)
            _release_targets(connection, draft.incident_id)
            return done

        return await self._write(unit)


_verdicts = entries.alias("verdicts")
_JOINED_SINCE = select(entries.c.seq).where(
    entries.c.incident_id == bindparam("incident"),
    entries.c.kind == EntryKind.ALERT_JOINED.value,
    entries.c.seq
    > select(func.coalesce(func.max(_verdicts.c.seq), 0))
    .where(_verdicts.c.incident_id == bindparam("incident"), _verdicts.c.kind == EntryKind.VERDICT_REACHED.value)
    .scalar_subquery(),
)
"""Alerts that joined an incident after the evidence was looked at for the last time."""


def _keep_documents(connection: Connection, kept: Sequence[Mapping[str, object]]) -> None:
    connection.execute(insert(documents).on_conflict_do_nothing(index_elements=["digest"]), kept)


def _set_phase(connection: Connection, incident_id: str, phase: IncidentPhase) -> None:
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident_id, incidents.c.closed_at.is_(None))
        .values(phase=phase.value)
    )


def _release_targets(connection: Connection, incident_id: str) -> None:
    connection.execute(delete(target_locks).where(target_locks.c.incident_id == incident_id))
