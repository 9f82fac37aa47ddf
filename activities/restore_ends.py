"""How the promise to take a step back ends: with one entry, its messages, and its targets let go.

Temporal is not needed for it: where a restore's own workflow has ended, the sweeper writes the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from activities import notices
from activities.messages import RestoreInput
from firebreak.domain import ids
from firebreak.domain.message import MessageDraft
from firebreak.domain.ports import LedgerPort, RestoreRecord
from firebreak.domain.timeline import EntryDraft, EntryKind, TimelineEntry

NOT_FLIPPED = "Nothing was flipped."
FLIPPED = "It was begun, and whether the write took effect is not known: look at the target."
UNREAD = "Whether that was begun cannot be read: look at the target."


async def give_up(ledger: LedgerPort, record: RestoreRecord, why: str, now: datetime) -> None:
    """End a promise that nobody keeps any more, with a page. A promise that is kept, or ended, by now stays as it is.
    `why`: what became of its workflow, a sentence without its full stop."""
    place = record.tier, record.step
    begun = await ledger.find(record.incident_id, ids.move_key("undo-intent", *place)) is not None
    told = f"{why}. {FLIPPED}" if begun else f"not taken back: {why}. {NOT_FLIPPED}"
    reason = f"{told} Take the step back by hand once the broken part is well."
    body = {"tier": record.tier, "step": record.step, "outcome": "abandoned", "reason": reason, "begun": begun}
    key = ids.move_key("restore-ended", *place)
    call = notices.person_needed(record.incident_id, key, reason, now)
    await write_end(ledger, record, key, body, call, now, begun=begun)


async def write_end(
    ledger: LedgerPort,
    of: RestoreInput | RestoreRecord,
    key: str,
    body: Mapping[str, Any],
    messages: Sequence[MessageDraft],
    now: datetime,
    *,
    begun: bool,
) -> TimelineEntry:
    """The entry that stands. Unless it was `begun` here, an undo that another attempt has begun since comes first."""
    entry = EntryDraft(
        incident_id=of.incident_id,
        key=key,
        kind=EntryKind.RESTORE_ENDED,
        at=now,
        body=json.loads(json.dumps(body)),
    )
    place = of.tier, of.step
    ended = await ledger.end_restore(
        place,
        outcome=str(body["outcome"]),
        entry=entry,
        messages=(*messages, notices.postmortem(of.incident_id, f"postmortem/{key}", now)),
        unless=() if begun else (ids.move_key("undo-intent", *place),),
    )
    await ledger.release_targets(lock_name(of))
    return ended.entry


def lock_name(of: RestoreInput | RestoreRecord) -> str:
    """A restore holds its targets in its own name: its incident's locks were released when that closed."""
    return f"restore/{of.incident_id}/{of.tier}.{of.step}"
