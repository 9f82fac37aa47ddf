"""Slack as ChatPort, by slack_sdk's Web client.

chat.postMessage knows no idempotency key: our dedup id travels in the message's metadata, and when it is in doubt
whether a message got through (a time-out, a process that died while sending) it is looked for before it is posted.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from firebreak.connectors.http import checked_headers
from firebreak.connectors.outcome import retry_after
from firebreak.connectors.slack_blocks import archived, blocks, fallback, metadata, posted
from firebreak.connectors.wire import IDLE_SECONDS
from firebreak.connectors.wording import plain
from firebreak.domain.errors import FirebreakError, PermanentError, SettingsInvalid, TransientError
from firebreak.domain.message import NoticeText

LOOK_FIRST = timedelta(minutes=2)
"""After a start: the process before may have died between sending a message and writing down that it was sent."""

PAGE = 200
"""Messages looked through: the newest of a channel; of a thread the first THREAD_PAGES times as many."""

THREAD_PAGES = 5

_SDK_ERRORS = (
    SlackClientError,
    aiohttp.ClientError,
    OSError,
    ValueError,  # an answer that is no JSON
    AttributeError,  # slack_sdk reads a text/plain answer as if it were an object
    TypeError,  # the same for a JSON list
)
RATE_WAIT = timedelta(seconds=30)  # when Slack asks to wait and does not say how long

PACE = timedelta(seconds=1)
"""Between two messages into one channel: chat.postMessage takes one a second (docs.slack.dev, "Rate limits")."""

_LIMITED = frozenset({"ratelimited", "rate_limited"})
_BUSY = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_BLOCKS_REFUSED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
_THREAD_GONE = frozenset(  # its head was deleted, or is in a channel of before; or the thread was locked
    {"thread_not_found", "message_not_found", "cannot_reply_to_message", "restricted_action_thread_locked"}
)

_ID = re.compile(r"[CDG][A-Z0-9]{2,}")  # by a name chat.postMessage posts, and the history is not found
_TOKEN = "Check the Slack bot token (FIREBREAK_SLACK_TOKEN): it is wrong, expired or revoked."  # noqa: S105 a sentence
_ADVICE: Mapping[str, str] = {
    "invalid_auth": _TOKEN,
    "not_authed": _TOKEN,
    "account_inactive": _TOKEN,
    "token_revoked": _TOKEN,
    "token_expired": _TOKEN,
    "missing_scope": "Give the Slack app chat:write (and channels:history, groups:history), then reinstall it.",
    "channel_not_found": "Check chat_channel in services.yaml: no such channel, or a private one without the app.",
    "not_in_channel": "Invite the Slack app into the channel that services.yaml names.",
    "is_archived": "The channel that services.yaml names is archived: name another one.",
    "restricted_action": "A workspace rule forbids the Slack app to post there: ask the workspace's owner.",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that gave nothing, as a value. `code` is Slack's own word for it; empty = Slack did not say no, and the
    message may have been posted."""

    detail: str
    code: str = ""
    permanent: bool = False
    wait: timedelta | None = None

    def error(self) -> FirebreakError:
        """The error to raise."""
        if not self.permanent:
            return TransientError(self.detail, retry_after=self.wait)
        advice = _ADVICE.get(self.code, f"Look up {self.code} in Slack's documentation of the method.")
        return PermanentError(self.detail, advice=advice)


class Slack:
    """ChatPort over one workspace. `base_url` is `https://slack.com/api/`. Use within one event loop, then `aclose`.

    `look_first`: for that long after the start every message is looked for before it is posted. `proxy`: URL of an HTTP
    proxy, empty = none.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout: timedelta = timedelta(seconds=10),
        look_first: timedelta = LOOK_FIRST,
        proxy: str = "",
    ) -> None:
        if not token.strip():
            raise SettingsInvalid("the Slack token is empty")
        checked_headers({"authorization": f"Bearer {token}"}, "Slack")
        self._token, self._base_url, self._proxy = token, base_url, proxy
        self._seconds = timeout.total_seconds()
        self._look_first_until = time.monotonic() + look_first.total_seconds()
        self._doubtful: set[str] = set()
        self._before_us: dict[tuple[str, str], Mapping[str, str]] = {}
        self._web: AsyncWebClient | None = None
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Slack({self._base_url})"

    async def post(self, channel: str, text: NoticeText, *, thread: str, dedup: str) -> str:
        """See ChatPort. Where the thread is gone the message stands in the channel by itself. Calling again with the
        same `dedup` after TransientError does not post twice, as far as the messages that are looked through tell.
        PermanentError says what to change."""
        if not channel:
            raise PermanentError("no Slack channel", advice="Set chat_channel for the service in services.yaml.")
        found = await self._found(channel, thread, dedup)
        if found:
            self._doubtful.discard(dedup)
            return found
        body: dict[str, Any] = {
            "channel": channel,
            "text": fallback(text),
            "metadata": metadata(dedup),
            "mrkdwn": False,
            "parse": "none",
            "link_names": False,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        self._doubtful.add(dedup)  # from here on a cancellation, too, leaves it in doubt
        answer = await self._say(body | ({"thread_ts": thread} if thread else {}), text)
        if thread and isinstance(answer, Refused) and answer.code in _THREAD_GONE:
            answer = await self._say(body, text)
        if isinstance(answer, Refused):
            if answer.code:  # Slack itself said no; after a 5xx or no answer it is not known
                self._doubtful.discard(dedup)
            raise answer.error()
        ts = answer.get("ts")
        if not isinstance(ts, str) or not ts:
            raise TransientError("Slack took a message but named no timestamp for it")
        self._doubtful.discard(dedup)
        if not thread and time.monotonic() < self._look_first_until:
            self._before_us[channel, ts] = {}  # a thread that we began: nobody posted there before
        return ts

    async def account(self) -> str:
        """As whom the token speaks: `firebreak in shop`. PermanentError when Slack does not know it, or when its app
        may not write (Slack names a token's scopes in the header x-oauth-scopes)."""
        answer = await self._asked("auth.test", {})
        if isinstance(answer, Refused):
            raise answer.error()
        scopes = {k.lower(): v for k, v in answer.headers.items()}.get("x-oauth-scopes")
        if scopes is not None and "chat:write" not in [scope.strip() for scope in str(scopes).split(",")]:
            raise Refused("the Slack app lacks chat:write", code="missing_scope", permanent=True).error()
        said = answer.data if isinstance(answer.data, dict) else {}
        return plain(f"{said.get('user') or 'somebody'} in {said.get('team') or 'a workspace'}", 120)

    async def look_into(self, channel: str) -> str:
        """Why messages there may come twice; empty when nothing is in the way. PermanentError when the app cannot
        write there at all."""
        if not _ID.fullmatch(channel):
            return "it is no id (C0123456789): whether the app is in it, and what was sent there, cannot be looked up"
        answer = await self._call("conversations.history", {"channel": channel, "limit": 1})
        if not isinstance(answer, Refused):
            if not archived(answer.get("messages")):
                return ""
            answer = Refused("Slack takes no message there: is_archived", code="is_archived", permanent=True)
        error = answer.error()
        if answer.code != "missing_scope":
            raise error
        return f"{error}: what was sent cannot be looked up, and may come twice when an answer is lost"

    async def _say(self, body: Mapping[str, Any], text: NoticeText) -> Mapping[str, Any] | Refused:
        """A plain message is better than none."""
        answer = await self._call("chat.postMessage", {**body, "blocks": blocks(text)})
        if isinstance(answer, Refused) and answer.code in _BLOCKS_REFUSED:
            return await self._call("chat.postMessage", body)
        return answer

    async def _found(self, channel: str, thread: str, dedup: str) -> str:
        """`ts` of an earlier message with this `dedup`, or empty: also when there is no reason to look."""
        if dedup in self._doubtful:
            return (await self._posted(channel, thread)).get(dedup, "")
        if time.monotonic() >= self._look_first_until:
            self._before_us.clear()
            return ""
        place = (channel, thread)
        if place not in self._before_us:  # once per place: the process before us posts no more
            self._doubtful.add(dedup)  # it is looked for later, too, when Slack is away for longer than that
            self._before_us[place] = await self._posted(channel, thread)
            self._doubtful.discard(dedup)
        return self._before_us[place].get(dedup, "")

    async def _posted(self, channel: str, thread: str) -> Mapping[str, str]:
        """Dedup id -> `ts` of our newest messages there; in the channel where the thread is gone. Where reading is
        refused for good (a missing scope) none are known: a message twice is better than none."""
        query = {"channel": channel, "limit": PAGE, "include_all_metadata": True}
        method = "conversations.replies" if thread else "conversations.history"
        if thread:
            query["ts"] = thread
        ours: dict[str, str] = {}
        for _ in range(THREAD_PAGES if thread else 1):  # a thread comes oldest first, a channel newest first
            answer = await self._call(method, query)
            if isinstance(answer, Refused):
                if not answer.permanent:
                    raise answer.error()
                return await self._posted(channel, "") if thread and answer.code in _THREAD_GONE else ours
            ours |= posted(answer.get("messages"))
            more = answer.get("response_metadata")
            query["cursor"] = str((more.get("next_cursor") if isinstance(more, dict) else "") or "")
            if not query["cursor"]:
                break
        return ours

    async def _call(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
        """What one call says, as a JSON object."""
        answer = await self._asked(method, body)
        if isinstance(answer, Refused):
            return answer
        if not isinstance(answer.data, dict):
            return Refused(f"Slack's answer to {method} is no JSON object")
        return answer.data

    async def _asked(self, method: str, body: Mapping[str, Any]) -> AsyncSlackResponse | Refused:
        """One call, never repeated."""
        read = method.startswith("conversations.")  # Slack takes JSON bodies for writing methods only
        arguments: dict[str, Any] = {"params": dict(body)} if read else {"json": dict(body)}
        try:
            async with asyncio.timeout(self._seconds):
                return await self._client().api_call(method, http_verb="GET" if read else "POST", **arguments)
        except _SDK_ERRORS as error:
            return refused_by(error, method, self._seconds)

    def _client(self) -> AsyncWebClient:
        if self._web is None:
            self._session = aiohttp.ClientSession(
                trust_env=False,
                connector=aiohttp.TCPConnector(limit=8, keepalive_timeout=IDLE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None),  # `_call` has one for all of a call
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            quiet = logging.getLogger("firebreak.slack_sdk")
            quiet.setLevel(logging.WARNING)  # at DEBUG it would write whole messages and their headers
            self._web = AsyncWebClient(
                token=self._token,
                base_url=self._base_url,
                session=self._session,
                retry_handlers=[],  # a repeat after a lost connection may post twice
                logger=quiet,
            )
            self._web.proxy = self._proxy or None  # slack_sdk takes one from the environment
        return self._web

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = self._web = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def refused_by(error: Exception, method: str, seconds: float) -> Refused:
    """What an error of slack_sdk or aiohttp means. No text of theirs is told that could hold a header."""
    if isinstance(error, TimeoutError):
        return Refused(f"Slack did not answer {method} within {seconds:.3g} s")
    response = getattr(error, "response", None)
    if not isinstance(error, SlackApiError) or response is None:
        return Refused(f"Slack cannot be reached for {method} ({type(error).__name__})")
    data = getattr(response, "data", None)
    status = getattr(response, "status_code", 0)
    code = plain(str(data.get("error", "")), 80) if isinstance(data, dict) else ""
    if status == 429 or code in _LIMITED:
        headers = {str(k).lower(): str(v) for k, v in (getattr(response, "headers", None) or {}).items()}
        wait = retry_after(headers.get("retry-after", "")) or RATE_WAIT
        return Refused(f"Slack asks to wait before {method}", code=code or "ratelimited", wait=wait)
    if code and code not in _BUSY and status < 500:
        needed = plain(str(data.get("needed", "")), 80) if isinstance(data, dict) else ""
        more = f" (needed scope: {needed})" if needed else ""
        return Refused(f"Slack refused {method}: {code}{more}", code=code, permanent=True)
    return Refused(f"Slack failed at {method}: status {status}{' ' + code if code else ''}")
