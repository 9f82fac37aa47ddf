"""LedgerPort: the timeline's append, documents, target locks, and the one way an incident closes."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, bindparam, case, delete, func, literal_column, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from firebreak.domain.errors import ChainBroken, TargetHeld
from firebreak.domain.ids import close_key
from firebreak.domain.incident import IncidentOutcome, IncidentPhase
from firebreak.domain.message import MessageDraft
from firebreak.domain.ports import RestoreRecord
from firebreak.domain.target import TargetRef
from firebreak.domain.timeline import Appended, EntryDraft, EntryKind, TimelineEntry
from firebreak.storage.entries import (
    append_entries,
    entry_of,
    excluded,
    few_entries_after,
    find_entry,
    find_first_entry,
    newest_entry_of,
    newest_seq,
    prepared,
    select_entries,
)
from firebreak.storage.faults import UNREADABLE
from firebreak.storage.outbox import enqueue_messages
from firebreak.storage.restores import open_anew
from firebreak.storage.schema import documents, entries, incidents, target_locks
from firebreak.storage.sql import Sql
from firebreak.storage.store import Store
from firebreak.storage.taken_back import cancel_messages, cancel_waiting_after

MOST_RECORDS = 100
"""Of one beginning that are found."""


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
        holding: Sequence[TargetRef] = (),
        unless: Sequence[str] = (),
    ) -> tuple[Appended, ...]:
        """As the port says. Cancels come before new messages. A restore that was opened before stays as it is.
        Documents are kept also when the first draft is found: they are their own key, but not where one of `unless` has
        an entry. Raises ContractError for a body that is not JSON data, TargetHeld, LedgerError when it cannot be
        kept."""
        if (holding or unless) and not drafts:
            raise ValueError("targets and other keys are those of the incident of the first draft, and there is none")
        items = prepared(drafts)
        kept = [{"digest": hashlib.sha256(content).hexdigest(), "content": content} for content in documents]

        def unit(raw: sqlite3.Connection) -> tuple[Appended, ...]:
            instead = excluded(raw, items, unless)
            if instead is not None:
                return (instead,)
            done = append_entries(raw, items)
            _keep_documents(raw, kept)
            if not (done and done[0].found):
                for target in holding:
                    holder = _take_target(raw, target, drafts[0].incident_id)
                    if holder != drafts[0].incident_id:
                        raise TargetHeld.by(holder, target)  # undoes all of this unit
                cancel_messages(raw, cancel, drafts[0].at if drafts else None)
                enqueue_messages(raw, messages)
                open_anew(raw, restores)
                if phase is not None:
                    _SET_PHASE.run(raw, incident=phase[0], phase=phase[1].value)
            return done

        return await self._write(unit)

    async def find(self, incident_id: str, key: str) -> TimelineEntry | None:
        """The entry written under (incident, key), or None."""
        return await self._peek(lambda raw: find_entry(raw, incident_id, key))

    async def find_first(self, incident_id: str, keys: Sequence[str]) -> TimelineEntry | None:
        """The entry of the first of `keys`, in the order given, that was written; None when none was."""
        return await self._peek(lambda raw: find_first_entry(raw, incident_id, keys)) if keys else None

    async def entries(self, incident_id: str) -> tuple[TimelineEntry, ...]:
        """All entries of one incident in order of `seq`; empty for an unknown one."""
        query = select_entries(entries.c.incident_id == incident_id)
        return await self._read(lambda connection: tuple(entry_of(row) for row in connection.execute(query)))

    async def entries_after(self, incident_id: str, seq: int) -> tuple[TimelineEntry, ...]:
        """As `entries`, those with a greater `seq`: at once where they are few. Large bodies are decoded when they are
        read."""
        few = await self._peek(lambda raw: few_entries_after(raw, incident_id, seq))
        if few is not None:
            return tuple(few)
        return tuple(entry for entry in await self.entries(incident_id) if entry.seq > seq)

    async def newest_of(self, incident_id: str, kind: EntryKind) -> TimelineEntry | None:
        """The incident's last entry of a kind, None for none. ChainBroken when it cannot be read."""
        return await self._peek(lambda raw: newest_entry_of(raw, incident_id, kind))

    async def records(self, prefix: str) -> tuple[str, ...]:
        """Ids of records that begin with `prefix`, the last ones by their text first, MOST_RECORDS at most."""
        beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return await self._peek(lambda raw: tuple(row[0] for row in _RECORDS.run(raw, first=prefix, beyond=beyond)))

    async def newest(self) -> int:
        """`seq` of the store's last entry; 0 while there is none."""
        return await self._peek(newest_seq)

    async def document(self, digest: str) -> bytes:
        """The kept bytes. ChainBroken when there are none of this SHA-256, or other ones: waiting mends neither."""
        row = await self._peek(lambda raw: _DOCUMENT.run(raw, digest=digest).fetchone())
        if row is None:
            raise ChainBroken(f"no document with SHA-256 {digest} was kept", advice=UNREADABLE)
        content = row[0]
        if not isinstance(content, bytes) or hashlib.sha256(content).hexdigest() != digest:
            raise ChainBroken(f"the document kept as {digest} was changed: its SHA-256 is another", advice=UNREADABLE)
        return content

    async def lock_target(self, target: TargetRef, incident_id: str) -> str:
        """The incident that holds `target` now: `incident_id` when it was free or already its own."""
        return await self._write(lambda raw: _take_target(raw, target, incident_id))

    async def release_targets(self, incident_id: str) -> None:
        """Let go of every target that the incident holds."""
        await self._write(lambda raw: _release_targets(raw, incident_id))

    async def close_incident(
        self,
        draft: EntryDraft,
        outcome: IncidentOutcome,
        *,
        messages: Sequence[MessageDraft],
        unless_joined: bool = False,
        if_joined: tuple[EntryDraft, Sequence[MessageDraft]] | None = None,
    ) -> Appended | None:
        """As the port says; a second close finds the first one's entry, and lets go of targets taken since. A deadline
        is an unsent message that is due after `draft.at`; what is due already is still told."""
        items = prepared((draft,))
        told = () if if_joined is None else prepared((if_joined[0],))

        def unit(raw: sqlite3.Connection) -> Appended | None:
            ended = find_entry(raw, draft.incident_id, draft.key) is not None
            asked = not ended and (unless_joined or told)
            joined = _JOINED_SINCE_THE_WISH if outcome is IncidentOutcome.CLOSED_BY_HAND else _JOINED_SINCE
            late = asked and joined.run(raw, incident=draft.incident_id).fetchone()
            if late and unless_joined:
                return None
            (done,) = append_entries(raw, items)
            _release_targets(raw, draft.incident_id)
            if not done.found:
                _CLOSE.run(raw, incident=draft.incident_id, closed_at=items[0].at, outcome=outcome.value)
                cancel_waiting_after(raw, draft.incident_id, draft.at)
                enqueue_messages(raw, messages)
                if late and if_joined is not None:
                    append_entries(raw, told)
                    enqueue_messages(raw, if_joined[1])
            return done

        return await self._write(unit)


_looks = entries.alias("looks")
_LOOKS = or_(
    *(_looks.c.kind == k.value for k in (EntryKind.VERDICT_REACHED, EntryKind.HOLD_ENDED, EntryKind.RECOVERY_SEEN))
)
_began = case((func.json_valid(_looks.c.body) == 1, func.json_extract(_looks.c.body, "$.read_up_to")))
"""Older records lack it; and a damaged one must not keep its incident from ever closing."""


def _joined_after(seq: ColumnElement[int]) -> Sql:
    """Alerts that joined an incident after the entry of that number."""
    mine = (entries.c.incident_id == bindparam("incident"), entries.c.kind == EntryKind.ALERT_JOINED.value)
    return Sql(select(entries.c.seq).where(*mine, entries.c.seq > seq))


_JOINED_SINCE = _joined_after(
    select(func.coalesce(func.max(func.coalesce(_began, _looks.c.seq)), 0))
    .where(_looks.c.incident_id == bindparam("incident"), _LOOKS)
    .scalar_subquery()
)
"""After the last look at the evidence began: it takes a moment until it is written."""
_JOINED_SINCE_THE_WISH = _joined_after(
    select(func.coalesce(func.max(_looks.c.seq), 0))
    .where(_looks.c.incident_id == bindparam("incident"), _looks.c.key == close_key())
    .scalar_subquery()
)
"""After a person asked for the end: it may take long until a story, or Temporal, is there to write it."""


_open_incident = update(incidents).where(incidents.c.id == bindparam("incident"), incidents.c.closed_at.is_(None))
_SET_PHASE = Sql(_open_incident.values(phase=bindparam("phase")))
_CLOSE = Sql(
    _open_incident.values(
        closed_at=bindparam("closed_at"), outcome=bindparam("outcome"), phase=IncidentPhase.CLOSED.value
    )
)
_RECORDS = Sql(
    select(entries.c.incident_id)
    .where(entries.c.incident_id >= bindparam("first"), entries.c.incident_id < bindparam("beyond"))
    .distinct()
    .order_by(entries.c.incident_id.desc())
    .limit(literal_column(str(MOST_RECORDS)))
)
_KEEP_DOCUMENT = Sql(insert(documents).on_conflict_do_nothing(index_elements=["digest"]))
_DOCUMENT = Sql(select(documents.c.content).where(documents.c.digest == bindparam("digest")))
_TAKE_TARGET = Sql(insert(target_locks).on_conflict_do_nothing(index_elements=["target"]))
_HOLDER = Sql(select(target_locks.c.incident_id).where(target_locks.c.target == bindparam("target")))
_RELEASE_TARGETS = Sql(delete(target_locks).where(target_locks.c.incident_id == bindparam("incident")))


def _keep_documents(raw: sqlite3.Connection, kept: Sequence[Mapping[str, object]]) -> None:
    for document in kept:
        _KEEP_DOCUMENT.run(raw, **document)


def _take_target(raw: sqlite3.Connection, target: TargetRef, incident_id: str) -> str:
    """Who holds `target` then."""
    text = target.text
    _TAKE_TARGET.run(raw, target=text, incident_id=incident_id)
    return str(_HOLDER.run(raw, target=text).fetchone()[0])


def _release_targets(raw: sqlite3.Connection, incident_id: str) -> None:
    _RELEASE_TARGETS.run(raw, incident=incident_id)
