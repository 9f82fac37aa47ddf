"""A stand-in for Slack's Web API, below `/api/`: chat.postMessage, chat.update, conversations.history and .replies,
auth.test.

Form-encoded and JSON bodies, bearer token or the `token` parameter; a refusal is HTTP 200 with `ok: false`, as the real
one does it (docs.slack.dev, "Web API" and each method's table of errors). Only 429 has a status of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import web

from firebreak.lab.receiver import Receiver, Reply, parsed
from firebreak.lab.slack_access import Access
from firebreak.lab.slack_limits import MAX_ALL_TEXT, Allowance, all_text, block_errors
from firebreak.lab.slack_request import Refused, arguments_of, decoded, number, token_of

_MAX_TEXT = 40_000  # chat.postMessage cuts there
_MAX_UPDATE_TEXT = 4_000  # chat.update refuses there
_BURST = 20  # one message a second and channel, "short bursts" allowed
_UPDATES = 50  # chat.update is of tier 3: that many a minute in the whole workspace


@dataclass(slots=True)
class SlackMessage:
    """One message of a channel. `thread_ts` is its head's `ts`, or empty for a head."""

    ts: str
    text: str
    blocks: list[Any]
    thread_ts: str = ""
    metadata: Any = None
    edits: int = 0


@dataclass(slots=True)
class SlackChannel:
    """A channel with its messages, oldest first. `allowance` is for new ones."""

    id: str
    name: str
    messages: list[SlackMessage] = field(default_factory=list)
    allowance: Allowance = field(default_factory=lambda: Allowance(_BURST, 1.0))

    def find(self, ts: str) -> SlackMessage | None:
        """The message with that timestamp."""
        return next((message for message in self.messages if message.ts == ts), None)


class _TooMany(Exception):
    """A channel or a method got more calls than its tier allows."""


class Slack(Receiver):
    """`token` is the only one it accepts; `channels` maps channel ids to names. `access` is what the app may do, which
    `POST /access` changes."""

    title = "Chat (stand-in for Slack)"

    def __init__(self, log_file: Path, token: str, channels: Mapping[str, str]) -> None:
        super().__init__(log_file)
        self._token = token
        self._last_ts = 0
        self._updates = Allowance(_UPDATES, _UPDATES / 60)
        self.channels = {identity: SlackChannel(identity, name) for identity, name in channels.items()}
        self.access = Access()
        self.app.router.add_post("/access", self._set_access)
        for verb in ("GET", "POST"):
            self.app.router.add_route(verb, "/api/{method}", self._call)

    def ratelimited(self, retry_after: int) -> Reply:
        headers = {"Retry-After": str(retry_after)}
        return Reply(429, {"ok": False, "error": "ratelimited"}, accepted=False, headers=headers)

    async def _call(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        forced = await self.disturbed()
        shown: dict[str, Any] = {}
        try:
            shown = await arguments_of(request)
            token = shown.pop("token", "") or token_of(request)
            reply = forced or self._accepted({"ok": True, **self._do(method, token, shown)})
        except Refused as refusal:
            body: dict[str, Any] = {"ok": False, "error": refusal.error, **refusal.more}
            if refusal.messages:
                body |= {"errors": list(refusal.messages), "response_metadata": {"messages": list(refusal.messages)}}
            reply = forced or Reply(200, body, accepted=False)
        except _TooMany:
            reply = self.ratelimited(1)
        return await self.answered(method, shown, reply)

    def _accepted(self, told: Mapping[str, Any]) -> Reply:
        """Slack names the scopes of the token in a header of each answer (docs.slack.dev, "Permission scopes")."""
        return Reply(200, told, accepted=True, headers={"x-oauth-scopes": ",".join(sorted(self.access.scopes))})

    def _do(self, method: str, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        methods = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
        }
        if method not in methods:
            raise Refused("unknown_method")
        if not token:
            raise Refused("not_authed")
        if token != self._token:
            raise Refused("invalid_auth")
        self.access.check_scope(method)
        return methods[method](arguments)

    async def _set_access(self, request: web.Request) -> web.Response:
        try:
            self.access.change(parsed(await request.text()), frozenset(self.channels))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    def _auth_test(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"team": "lab", "team_id": "T0LAB", "user": "firebreak", "user_id": "U0LAB", "bot_id": "B0LAB"}

    def _channel(self, method: str, arguments: Mapping[str, Any], *, by_name: bool = False) -> SlackChannel:
        wanted = str(arguments.get("channel") or "")
        for channel in self.channels.values():
            if wanted == channel.id or (by_name and wanted.removeprefix("#") == channel.name):
                self.access.check_channel(method, channel.id)
                return channel
        raise Refused("channel_not_found")

    def _post(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._channel("chat.postMessage", arguments, by_name=True)
        text, blocks = _content(arguments)
        metadata = _metadata(arguments)
        thread = str(arguments.get("thread_ts") or "")
        if thread:
            head = channel.find(thread)
            if head is None:
                raise Refused("thread_not_found")
            if head.thread_ts:
                raise Refused("cannot_reply_to_message")
        if not channel.allowance.spend():
            raise _TooMany
        message = SlackMessage(self._next_ts(), text[:_MAX_TEXT], blocks, thread, metadata)
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message.ts, "message": _shown(message)}

    def _update(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if not self._updates.spend():
            raise _TooMany
        channel = self._channel("chat.update", arguments)
        message = channel.find(str(arguments.get("ts") or ""))
        if message is None:
            raise Refused("message_not_found")
        text, blocks = _content(arguments)
        if len(text) > _MAX_UPDATE_TEXT:
            raise Refused("msg_too_long")
        metadata = _metadata(arguments)
        message.text = text
        if arguments.get("blocks") is not None:  # left out: the old ones stay
            message.blocks = blocks
        if metadata is not None:
            message.metadata = metadata
        message.edits += 1
        return {"channel": channel.id, "ts": message.ts, "text": text, "message": _shown(message)}

    def _replies(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.replies", arguments)
        wanted = channel.find(str(arguments.get("ts") or ""))
        if wanted is None:
            raise Refused("thread_not_found")
        head = wanted.thread_ts or wanted.ts
        return _page([m for m in channel.messages if head in (m.ts, m.thread_ts)], arguments, limit=1000)

    def _history(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.history", arguments)
        heads = [m for m in channel.messages if not m.thread_ts]
        return _page(heads[::-1], arguments, limit=100)  # newest first, without the threads' replies

    def _next_ts(self) -> str:
        # Unique and rising in the whole workspace, in microseconds.
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def body_html(self) -> str:
        parts = []
        for channel in self.channels.values():
            heads = [message for message in channel.messages if not message.thread_ts]
            if not heads:
                continue
            parts.append(f"<h2>#{escape(channel.name)}</h2>")
            for head in reversed(heads):
                replies = (m for m in channel.messages if m.thread_ts == head.ts)
                inner = "".join(f"<article>{_html(message)}</article>" for message in replies)
                parts.append(f"<article>{_html(head)}{inner}</article>")
        return "".join(parts) or "<p>No messages.</p>"


def _page(messages: list[SlackMessage], arguments: Mapping[str, Any], *, limit: int) -> dict[str, Any]:
    limit = number(arguments.get("limit"), limit)
    start = number(arguments.get("cursor"), 0)
    more = start + limit < len(messages)
    metadata = str(arguments.get("include_all_metadata", "")).lower() in ("1", "true")
    return {
        "messages": [_shown(m, metadata=metadata) for m in messages[start : start + limit]],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }


def _content(arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
    text = arguments.get("text") or ""
    if not isinstance(text, str):
        raise Refused("invalid_arguments")
    blocks = decoded(arguments.get("blocks") or [], "invalid_blocks_format")
    if not text.strip() and not blocks and not arguments.get("attachments"):
        raise Refused("no_text")
    if blocks:
        errors = block_errors(blocks)
        if errors:
            raise Refused("invalid_blocks", *errors)
        if all_text(blocks) > MAX_ALL_TEXT:
            raise Refused("msg_blocks_too_long")
    return text, list(blocks)


def _metadata(arguments: Mapping[str, Any]) -> Any:
    metadata = decoded(arguments.get("metadata"), "invalid_metadata_format")
    if metadata is None:
        return None
    well = (
        isinstance(metadata, dict)
        and isinstance(metadata.get("event_type"), str)
        and isinstance(metadata.get("event_payload"), dict)
    )
    if not well:
        raise Refused("invalid_metadata_format")
    return metadata


def _shown(message: SlackMessage, *, metadata: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "type": "message",
        "user": "U0LAB",
        "bot_id": "B0LAB",
        "ts": message.ts,
        "text": message.text,
    }
    if message.blocks:
        shown["blocks"] = message.blocks
    if message.thread_ts:
        shown["thread_ts"] = message.thread_ts
    if metadata and message.metadata is not None:
        shown["metadata"] = message.metadata
    return shown


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _html(message: SlackMessage) -> str:
    at = time.strftime("%H:%M:%S", time.gmtime(float(message.ts)))
    edited = f" · edited {message.edits}x" if message.edits else ""
    # What a person reads: the blocks where there are any, the text elsewhere. Markup stays as it was sent.
    lines = _texts(message.blocks) or [message.text]
    shown = "".join(f"<pre>{escape(_as_shown(line))}</pre>" for line in lines)
    return f"<small>{at} UTC · {message.ts}{edited}</small>{shown}"


def _as_shown(text: str) -> str:
    """Slack's clients show the three characters that a sender has to escape (& < >), and nothing else, decoded."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
