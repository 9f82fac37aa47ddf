"""The hash chain over the timeline."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785

from firebreak.domain.codec import format_time
from firebreak.domain.errors import ContractError
from firebreak.domain.timeline import EntryKind, TimelineEntry
from firebreak.timeline.canonical import canonical
from firebreak.timeline.chain import GENESIS, digest_of, entry_digest, verify_chain

START = datetime(2026, 11, 21, 8, 36, 44, 120000, tzinfo=UTC)


def written(count: int) -> list[TimelineEntry]:
    """A good chain of `count` entries over two incidents."""
    previous, entries = GENESIS, []
    for seq in range(1, count + 1):
        entry = TimelineEntry(
            seq=seq,
            incident_id=f"inc-20261121-083644-0000000{seq % 2}",
            key=f"gather/{seq}",
            kind=EntryKind.FACTS_GATHERED,
            at=START + timedelta(milliseconds=seq),
            actor="engine",
            target="lab/shop/Deployment/pay-v1",
            uid="6f9c",
            duration_ms=None if seq % 2 else seq / 8,
            body={"round": seq, "label": 'x"\n\u20ac', "value": 0.25},
            previous=previous,
        )
        entry = dataclasses.replace(entry, digest=digest_of(entry))
        previous = entry.digest
        entries.append(entry)
    return entries


def test_an_untouched_chain_is_good_and_names_its_head() -> None:
    """All entries count, and the last digest is what an outside anchor would keep."""
    entries = written(6)
    report = verify_chain(entries, digest_of=digest_of)
    assert (report.ok, report.count, report.head, report.first_broken_seq) == (True, 6, entries[-1].digest, None)


def test_a_digest_can_be_recomputed_from_the_json_line_alone() -> None:
    """What the docstring promises to other programs: prefix, line feed, RFC 8785 of the fields without the digest."""
    entry = written(2)[1]
    line = {**dataclasses.asdict(entry), "at": format_time(entry.at), "kind": entry.kind.value}
    digest = line.pop("digest")
    assert digest == hashlib.sha256(b"firebreak/entry/1\n" + rfc8785.dumps(line)).hexdigest()


def test_body_bytes_and_body_data_give_the_same_digest() -> None:
    """The store may canonicalise once and hash the bytes that it keeps; a time's zone does not matter."""
    entry = written(1)[0]
    fields = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry) if f.name != "digest"}
    fields |= {"body": canonical(entry.body), "at": entry.at.astimezone(timezone(timedelta(hours=8)))}
    assert entry_digest(**fields) == entry.digest


CHANGES: dict[str, Any] = {
    "incident_id": "inc-20261121-083644-ffffffff",
    "key": "gather/9",
    "kind": EntryKind.VERDICT_REACHED,
    "at": START,
    "actor": "person:eve",
    "target": "lab/shop/Deployment/edge-v1",
    "uid": "",
    "duration_ms": 0.5000000001,
    "body": {"round": 4},
    "digest": "f" * 64,
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_edit_of_any_field_is_found(name: str) -> None:
    """Each field is covered by the digest."""
    entries = written(6)
    entries[3] = dataclasses.replace(entries[3], **{name: CHANGES[name]})
    report = verify_chain(entries, digest_of=digest_of)
    assert (report.ok, report.first_broken_seq, report.count) == (False, 4, 3)
    assert "changed after it was written" in report.reason


def _resealed(entries: list[TimelineEntry], index: int, **changes: Any) -> None:
    entry = dataclasses.replace(entries[index], **changes)
    entries[index] = dataclasses.replace(entry, digest=digest_of(entry))


def _delete(entries: list[TimelineEntry]) -> None:
    del entries[2]


def _delete_two(entries: list[TimelineEntry]) -> None:
    del entries[2:4]


def _delete_first(entries: list[TimelineEntry]) -> None:
    del entries[0]


def _delete_and_renumber(entries: list[TimelineEntry]) -> None:
    del entries[2]
    for index in range(2, len(entries)):
        _resealed(entries, index, seq=index + 1)


def _swap(entries: list[TimelineEntry]) -> None:
    entries[2], entries[3] = entries[3], entries[2]


def _swap_and_renumber(entries: list[TimelineEntry]) -> None:
    _swap(entries)
    _resealed(entries, 2, seq=3)
    _resealed(entries, 3, seq=4)


def _insert_copy(entries: list[TimelineEntry]) -> None:
    entries.insert(3, entries[2])


def _insert_forged(entries: list[TimelineEntry]) -> None:
    entries.insert(2, entries[2])
    _resealed(entries, 2, key="forged")


def _edit_and_reseal(entries: list[TimelineEntry]) -> None:
    _resealed(entries, 2, body={"round": "forged"})


def _other_start(entries: list[TimelineEntry]) -> None:
    _resealed(entries, 0, previous="1" * 64)


@pytest.mark.parametrize(
    ("tamper", "broken_at", "reason"),
    [
        (_delete, 4, "entry 3 is missing before entry 4"),
        (_delete_two, 5, "entries 3 to 4 are missing before entry 5"),
        (_delete_first, 2, "entry 1 is missing before entry 2"),
        (_delete_and_renumber, 3, "does not follow the entry before it"),
        (_swap, 4, "entry 3 is missing before entry 4"),
        (_swap_and_renumber, 3, "does not follow the entry before it"),
        (_insert_copy, 3, "inserted twice or moved"),
        (_insert_forged, 3, "inserted twice or moved"),
        (_edit_and_reseal, 4, "does not follow the entry before it"),
        (_other_start, 1, "does not follow the entry before it"),
    ],
)
def test_tampering_is_found_where_it_is(
    tamper: Callable[[list[TimelineEntry]], None], broken_at: int, reason: str
) -> None:
    """Delete, insert, swap, re-link and edit, also where the tamperer computed new digests."""
    entries = written(6)
    tamper(entries)
    report = verify_chain(entries, digest_of=digest_of)
    assert (report.ok, report.first_broken_seq) == (False, broken_at)
    assert reason in report.reason


def test_a_chain_can_be_checked_in_batches() -> None:
    """The head of one batch is the anchor of the next, and a gap between batches is found."""
    entries = written(6)
    first = verify_chain(entries[:3], digest_of=digest_of)
    assert verify_chain(entries[3:], digest_of=digest_of, anchor=first.head, first_seq=4).ok
    assert not verify_chain(entries[4:], digest_of=digest_of, anchor=first.head, first_seq=4).ok


def test_an_entry_that_could_not_have_been_written_is_a_broken_one() -> None:
    """A body without a canonical form is reported, not raised."""
    entries = written(2)
    entries[1] = dataclasses.replace(entries[1], body={"n": float("nan")})
    assert "cannot have been written" in verify_chain(entries, digest_of=digest_of).reason


def test_fields_that_json_cannot_carry_are_refused() -> None:
    """A lone surrogate in a field and a number out of range are ContractErrors."""
    entry = written(1)[0]
    with pytest.raises(ContractError, match="surrogate"):
        digest_of(dataclasses.replace(entry, actor="\ud800"))
    with pytest.raises(ContractError, match="entry number"):
        digest_of(dataclasses.replace(entry, seq=0))
