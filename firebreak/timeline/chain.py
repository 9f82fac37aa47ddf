"""The hash chain over the timeline: each entry's digest covers all its fields and the digest of the one before.

An entry's digest is SHA-256 over `firebreak/entry/1`, a line feed, and the RFC 8785 form of the JSON object with the
keys actor, at, body, duration_ms, incident_id, key, kind, previous, seq, target, uid. So one line of
`firebreak timeline --json`, without its `digest`, is all that another program needs to check it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, Protocol, TypeVar

from firebreak.domain.codec import format_time
from firebreak.domain.errors import ContractError
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.timeline.canonical import MAX_INTEGER, canonical

GENESIS = "0" * 64
DOMAIN = b"firebreak/entry/1\n"  # a digest of an entry can never be one of anything else


def entry_bytes(
    *,
    seq: int,
    incident_id: str,
    key: str,
    kind: EntryKind | str,
    at: datetime | str,
    actor: str,
    target: str,
    uid: str,
    duration_ms: float | None,
    body: Mapping[str, Any] | bytes,
    previous: str,
) -> bytes:
    """Canonical JSON of all fields. `body` as data, or as the bytes that `canonical` made of it, `at` as a time, or as
    the text that `format_time` made of it (then they are taken as they are: canonicalise once, store and hash the same
    bytes). Raises ContractError for data without a canonical form, ValueError for a time without a zone."""
    if not 0 < seq <= MAX_INTEGER:
        raise ContractError(f"entry number {seq} is not between 1 and 2**53 - 1")
    packed = body if isinstance(body, bytes) else canonical(body)
    when = at if isinstance(at, str) else format_time(at)
    took = "null" if duration_ms is None else canonical(duration_ms).decode()
    quote = encode_basestring
    try:
        head = f'{{"actor":{quote(actor)},"at":{quote(when)},"body":'.encode()
        tail = (
            f',"duration_ms":{took},"incident_id":{quote(incident_id)},"key":{quote(key)},'
            f'"kind":{quote(str(kind))},"previous":{quote(previous)},"seq":{seq},"target":{quote(target)},"uid":{quote(uid)}}}'
        ).encode()
    except UnicodeEncodeError:
        raise ContractError("a field of the entry holds a lone surrogate, which UTF-8 cannot carry") from None
    return head + packed + tail


def entry_digest(
    *,
    seq: int,
    incident_id: str,
    key: str,
    kind: EntryKind | str,
    at: datetime | str,
    actor: str,
    target: str,
    uid: str,
    duration_ms: float | None,
    body: Mapping[str, Any] | bytes,
    previous: str,
) -> str:
    """SHA-256 (64 hex digits) over the domain line and `entry_bytes`; errors as there."""
    data = entry_bytes(
        seq=seq,
        incident_id=incident_id,
        key=key,
        kind=kind,
        at=at,
        actor=actor,
        target=target,
        uid=uid,
        duration_ms=duration_ms,
        body=body,
        previous=previous,
    )
    return hashlib.sha256(DOMAIN + data).hexdigest()


def digest_of(entry: TimelineEntry) -> str:
    """The digest that a written entry must have; its own `digest` is not looked at."""
    return entry_digest(
        seq=entry.seq,
        incident_id=entry.incident_id,
        key=entry.key,
        kind=entry.kind,
        at=entry.at,
        actor=entry.actor,
        target=entry.target,
        uid=entry.uid,
        duration_ms=entry.duration_ms,
        body=entry.body,
        previous=entry.previous,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """`count` entries were good before the first broken one (or the end). `head` is the digest of the last good one,
    which the next batch takes as its `anchor`. `reason` is empty when `ok`."""

    ok: bool
    count: int
    first_broken_seq: int | None
    reason: str
    head: str


class Chained(Protocol):
    """What of an entry, or of a row of the store, makes the chain."""

    @property
    def seq(self) -> int: ...
    @property
    def key(self) -> str: ...
    @property
    def previous(self) -> str: ...
    @property
    def digest(self) -> str: ...


_E = TypeVar("_E", bound=Chained)


def verify_chain(
    entries: Iterable[_E],
    *,
    digest_of: Callable[[_E], str],
    anchor: str = GENESIS,
    first_seq: int | None = 1,
) -> ChainReport:
    """Whether `entries`, in the order of the store, are as they were written. `digest_of` says what an entry's digest
    must be, and raises ContractError or ValueError for one that cannot have been written.

    Finds an edit of any field, a deleted, inserted or swapped entry, a gap, and a link to another predecessor. To
    check in batches pass the digest and number of the last checked entry: `anchor`, and `first_seq` = number + 1.
    It cannot see a tail that was cut off, nor a whole chain written anew by somebody who holds the store: for that
    the last digest must be kept by somebody else (promises.md §3, roadmap: signed checkpoints and witnesses)."""
    previous, expected, count = anchor, first_seq, 0
    for entry in entries:
        why = _broken(entry, digest_of, previous, entry.seq if expected is None else expected)
        if why:
            return ChainReport(ok=False, count=count, first_broken_seq=entry.seq, reason=why, head=previous)
        previous, expected, count = entry.digest, entry.seq + 1, count + 1
    return ChainReport(ok=True, count=count, first_broken_seq=None, reason="", head=previous)


def _broken(entry: _E, digest_of: Callable[[_E], str], previous: str, expected: int) -> str:
    if entry.seq > expected:
        missing = f"entry {expected} is" if entry.seq == expected + 1 else f"entries {expected} to {entry.seq - 1} are"
        return f"{missing} missing before entry {entry.seq}"
    if entry.seq < expected:
        return f"entry {entry.seq} stands where entry {expected} belongs: inserted twice or moved"
    try:
        digest = digest_of(entry)
    except (ContractError, ValueError) as error:
        return f"entry {entry.seq} cannot have been written like this: {error}"
    if digest != entry.digest:
        return f"entry {entry.seq} ({entry.key}) was changed after it was written: its fields give another digest"
    if entry.previous != previous:
        return f"entry {entry.seq} does not follow the entry before it: its link names another digest"
    return ""
