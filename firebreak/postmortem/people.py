"""Who was told what, and which messages did not get through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from firebreak.domain import ids
from firebreak.domain.message import Channel, PagerAction
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.postmortem import reading
from firebreak.postmortem.in_force import PAGE_ACTION
from firebreak.postmortem.model import ActionPart, Called, FaultLine, PersonLine, StepState
from firebreak.postmortem.restores import taken_back

_WHAT = {
    EntryKind.PERSON_CALLED: "called",
    EntryKind.MESSAGE_DELIVERED: "delivered",
    EntryKind.MESSAGE_FAILED: "failed",
}
_PAGED = {PagerAction.TRIGGER_HIGH.value: "high", PagerAction.TRIGGER_LOW.value: "low"}


def people_of(entries: Sequence[TimelineEntry]) -> tuple[PersonLine, ...]:
    """Calls, notices, and the messages that carried them, in order."""
    return tuple(
        PersonLine(
            at=entry.at,
            what=_WHAT[entry.kind],
            urgency=_urgency(entry),
            channel=reading.text(entry.body, "channel"),
            notice=reading.text(entry.body, "notice"),
            detail=next((t for name in ("reason", "error", "receipt") if (t := reading.text(entry.body, name))), ""),
            attempts=max(reading.whole(entry.body, "attempts"), 0),
            message=reading.text(entry.body, "key"),
        )
        for entry in entries
        if entry.kind in _WHAT and not _is_own_file(entry)
    )


def _urgency(entry: TimelineEntry) -> str:
    """As it was decided, or as the pager was told; empty for what calls nobody."""
    told = "high" if entry.kind is EntryKind.PERSON_CALLED else _PAGED.get(reading.text(entry.body, "pager"), "")
    return reading.text(entry.body, "urgency") or told


def _is_own_file(entry: TimelineEntry) -> bool:
    """The post-mortem's files were written: nobody was told by that (that they could not be is told)."""
    return entry.kind is EntryKind.MESSAGE_DELIVERED and reading.text(entry.body, "channel") == Channel.POSTMORTEM.value


def called_of(people: Sequence[PersonLine]) -> Called:
    """Whether a person was called, and whether a page went out."""
    high = {p.what for p in people if p.urgency == "high"}
    if "delivered" in high:
        return Called.DELIVERED
    return Called.NOT_DELIVERED if high else Called.NOBODY


def with_page_tier(actions: Sequence[ActionPart], people: Sequence[PersonLine]) -> tuple[ActionPart, ...]:
    """The page tier has no entries of its own: the call is its effect."""
    call = next((p for p in people if p.what == "called"), None)
    if call is None:
        return tuple(actions)
    state = StepState.PERSON_CALLED if called_of(people) is Called.DELIVERED else StepState.CALL_NOT_DELIVERED
    return tuple(
        replace(part, state=state, reason=call.detail, effect_at=call.at)
        if part.action == PAGE_ACTION and part.state in _NO_ENTRIES
        else part
        for part in actions
    )


_NO_ENTRIES = (StepState.NOT_TRIED, StepState.PERSON_CALLED, StepState.CALL_NOT_DELIVERED)


def open_call(entries: Sequence[TimelineEntry]) -> str:
    """Key of the newest message that called a person with high urgency, or still tries to, and that nothing has
    resolved since. Empty = there is none."""
    key = ""
    for entry in entries:
        told = reading.text(entry.body, "pager")
        if told == PagerAction.RESOLVE_HIGH and entry.kind is EntryKind.MESSAGE_DELIVERED:
            key = ""
        elif told == PagerAction.TRIGGER_HIGH and entry.kind in (EntryKind.MESSAGE_DELIVERED, EntryKind.MESSAGE_FAILED):
            key = "" if entry.body.get("given_up") is True else reading.text(entry.body, "key")
    return key


def called_after(closed: TimelineEntry | None, entries: Sequence[TimelineEntry]) -> bool:
    """Whether somebody was called when the incident was over. By order: entries' times go back where the clock was set
    back."""
    return closed is not None and any(entry.seq > closed.seq and calls(entry) for entry in reversed(entries))


def open_reasons(closed: TimelineEntry | None, entries: Sequence[TimelineEntry]) -> frozenset[str]:
    """Keys of the entries that called a person when the incident was over, and of which nothing says that they are
    done: neither that the restore came back after all, nor that a person handled it, nor that the pager was told."""
    found: dict[str, None] = {}
    for entry in entries:
        if closed is None or entry.seq <= closed.seq:
            continue
        resolved = reading.text(entry.body, "pager") == PagerAction.RESOLVE_HIGH
        if entry.kind is EntryKind.CLOSE_REQUESTED or (entry.kind is EntryKind.MESSAGE_DELIVERED and resolved):
            found.clear()  # all calls of an incident are one page at the pager
        elif calls(entry):
            found[entry.key] = None
        elif entry.kind is EntryKind.RESTORE_ENDED:
            place = (reading.whole(entry.body, "tier"), reading.whole(entry.body, "step"))
            found.pop(ids.overdue_key(*place), None)
    return frozenset(found)


def calls(entry: TimelineEntry) -> bool:
    """Whether a person is called by it, with high urgency."""
    if entry.kind is EntryKind.RESTORE_ENDED:
        return not taken_back(entry.body)
    return entry.kind in (EntryKind.PERSON_CALLED, EntryKind.ENGINE_FAULT)


def faults_of(entries: Sequence[TimelineEntry]) -> tuple[FaultLine, ...]:
    """What broke in the engine itself."""
    return tuple(
        FaultLine(
            at=entry.at,
            where=reading.text(entry.body, "where"),
            error=reading.text(entry.body, "error"),
            next_step=reading.text(entry.body, "next_step"),
        )
        for entry in entries
        if entry.kind is EntryKind.ENGINE_FAULT
    )
