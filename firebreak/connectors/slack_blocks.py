"""A notice as Slack's blocks, within Slack's limits and with nothing in it that Slack would act on. Pure.

Limits: blocks and objects of docs.slack.dev as slack_sdk's models encode them (50 blocks, header 150, section 3000),
and an undocumented total of about 13,200 characters (slackapi/bolt-js #2509). Text blocks are `plain_text`: no
mentions, links or emoji come to life in them; `& < >` are escaped all the same, as in the fallback text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from firebreak.connectors.wording import plain, shorten, shown
from firebreak.domain.message import NoticeText

MAX_BLOCKS = 50
HEADER_LIMIT = 150
SECTION_LIMIT = 3000
TOTAL_LIMIT = 10_000
"""Characters of all blocks, below the undocumented limit."""

EVENT_TYPE = "firebreak_notice"
_CUT_NOTE = "… shortened for Slack: the whole of it is in `firebreak show`."


def escaped(text: str, limit: int) -> str:
    """`& < >` as entities (docs.slack.dev, Formatting message text), at most `limit` characters *after* escaping,
    never cut inside an entity."""
    text = shown(text)
    out = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    while len(out) > limit:
        text = shorten(text, max(1, len(text) - max(1, (len(out) - limit) // 5)))
        out = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return out


def blocks(text: NoticeText) -> list[dict[str, Any]]:
    """A header and as few sections as hold the lines."""
    header = {"type": "header", "text": _plain(escaped(plain(text.title, HEADER_LIMIT) or "Firebreak", HEADER_LIMIT))}
    room = TOTAL_LIMIT - HEADER_LIMIT
    return [header, *({"type": "section", "text": _plain(part)} for part in _sections(text.lines, room))]


def fallback(text: NoticeText) -> str:
    """What notifications show, and all there is when Slack refuses the blocks."""
    return "\n".join([escaped(plain(text.title, HEADER_LIMIT), HEADER_LIMIT), *_sections(text.lines, SECTION_LIMIT)])


def metadata(dedup: str) -> Mapping[str, Any]:
    """By this a message is found again when it is in doubt whether it was posted."""
    return {"event_type": EVENT_TYPE, "event_payload": {"dedup": dedup}}


def posted(messages: Any) -> dict[str, str]:
    """Dedup id -> `ts` of our own among the messages of `conversations.history` or `.replies`."""
    ours = {}
    for message in messages if isinstance(messages, list) else ():
        match message:
            case {"ts": str() as ts, "metadata": {"event_type": kind, "event_payload": {"dedup": str() as dedup}}}:
                if kind == EVENT_TYPE:
                    ours[dedup] = ts
    return ours


def archived(messages: Any) -> bool:
    """Whether the newest message of `conversations.history` says that the channel was archived (docs.slack.dev,
    "channel_archive message"): its history can be read on."""
    match messages:
        case [{"subtype": "channel_archive" | "group_archive"}, *_]:
            return True
    return False


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _sections(lines: Sequence[str], room: int) -> Iterator[str]:
    """Lines packed into sections; when they do not fit into `room` characters, cut and said so."""
    section = ""
    room -= len(_CUT_NOTE) + 1
    for line in lines:
        part = escaped(line, SECTION_LIMIT)
        if len(part) + 1 > room:
            yield from (text for text in (section, _CUT_NOTE) if text.strip())
            return
        room -= len(part) + 1
        if section and len(section) + 1 + len(part) > SECTION_LIMIT:
            yield section
            section = part
        else:
            section = f"{section}\n{part}" if section else part
    if section.strip():
        yield section
