"""ChatPort over Slack: against a capture server, and against the lab's stand-in, which keeps Slack's own limits."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import slack_sdk.errors
from aiohttp.test_utils import TestServer

import firebreak.lab.slack as stand_in
from firebreak.connectors.slack import Slack
from firebreak.connectors.slack_blocks import blocks, escaped, fallback
from firebreak.domain.errors import FirebreakError, PermanentError, SettingsInvalid, TransientError
from firebreak.domain.message import NoticeText
from firebreak.domain.ports import ChatPort
from firebreak.lab.receiver import Mode

if TYPE_CHECKING:
    from tests.connectors.conftest import Capture, Heard

TOKEN = "xoxb-secret-123"
NEVER = timedelta(0)
POSTED = {"ok": True, "ts": "1700000000.000100", "channel": "C1"}
TEXT = NoticeText(title="P1 pay: errors", lines=("seen: 30 % of calls fail", "decided: restart"))
HOSTILE = NoticeText(
    title="<!channel> & <https://evil|click> *now*" + "x" * 300,
    lines=(
        "<!here> <@U1> <#C1> &amp; :skull: `code`\u202e",
        "bad \ud800 surrogate\x00\x1b[31m",
        "",
        "y" * 9000,
        *("z" * 900,) * 60,
    ),
)


def slack(capture: Capture, **options: Any) -> Slack:
    return Slack(f"{capture.url}/api/", TOKEN, **({"look_first": NEVER} | options))


async def post(chat: ChatPort, *, thread: str = "", dedup: str = "inc-1/classified", text: NoticeText = TEXT) -> str:
    return await chat.post("C1", text, thread=thread, dedup=dedup)


def metadata(dedup: str) -> dict[str, Any]:
    return {"event_type": "firebreak_notice", "event_payload": {"dedup": dedup}}


# --- the contract, on both ---------------------------------------------------------------------------------------


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[tuple[stand_in.Slack, str]]:
    """The lab's Slack and its address."""
    found = stand_in.Slack(tmp_path / "slack.jsonl", TOKEN, {"C1": "incidents"})
    server = TestServer(found.app)
    await server.start_server()
    yield found, f"http://127.0.0.1:{server.port}/api/"
    await server.close()


Lab = tuple[stand_in.Slack, str]


async def test_a_head_and_its_thread_arrive_as_slack_keeps_them(lab: Lab) -> None:
    """The receipt of the head is the thread of what follows."""
    there, url = lab
    async with Slack(url, TOKEN) as chat:
        head = await post(chat)
        reply = await post(chat, thread=head, dedup="inc-1/healed")
    first, second = there.channels["C1"].messages
    assert (first.ts, first.thread_ts) == (head, "")
    assert (second.ts, second.thread_ts) == (reply, head)
    assert first.metadata == metadata("inc-1/classified")
    assert "P1 pay: errors" in first.text


async def test_slack_takes_the_most_hostile_message(lab: Lab) -> None:
    """Within its limits, and without anything it would act on."""
    there, url = lab
    async with Slack(url, TOKEN) as chat:
        await post(chat, text=HOSTILE)
    (message,) = there.channels["C1"].messages
    assert message.blocks, "posted with its blocks, not as the plain fallback"
    assert "<" not in message.text


async def test_a_repeat_after_a_restart_finds_the_reply_it_posted(lab: Lab) -> None:
    """The process died between sending and writing down: the next one looks into the thread first."""
    there, url = lab
    async with Slack(url, TOKEN) as chat:
        head = await post(chat)
        first = await post(chat, thread=head, dedup="inc-1/healed")
    async with Slack(url, TOKEN) as chat:
        assert await post(chat, thread=head, dedup="inc-1/healed") == first
    assert len(there.channels["C1"].messages) == 2


async def test_a_message_whose_thread_is_gone_stands_in_the_channel(lab: Lab) -> None:
    """Its head was deleted, or stands in the channel that was named before; once, also after a restart."""
    there, url = lab
    for _ in range(2):
        async with Slack(url, TOKEN) as chat:
            await post(chat, thread="1700000000.000100", dedup="inc-1/person")
    (message,) = there.channels["C1"].messages
    assert (message.thread_ts, message.metadata) == ("", metadata("inc-1/person"))


async def test_what_may_have_been_posted_before_the_start_is_looked_for_when_slack_is_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack was away for longer than the first minutes in which everything is looked for."""
    there, url = lab
    async with Slack(url, TOKEN) as chat:
        first = await post(chat)
    async with Slack(url, TOKEN) as chat:
        there.mode = Mode.DOWN
        with pytest.raises(TransientError):
            await post(chat)
        there.mode = Mode.OK
        monkeypatch.setattr(chat, "_look_first_until", 0.0)  # those minutes are over
        assert await post(chat) == first
    assert len(there.channels["C1"].messages) == 1


@pytest.mark.parametrize(("token", "channel"), [("xoxb-other", "C1"), (TOKEN, "C9")])
async def test_what_slack_refuses_for_good_comes_with_advice(lab: Lab, token: str, channel: str) -> None:
    """A wrong token, a channel that is not there."""
    async with Slack(lab[1], token) as chat:
        with pytest.raises(PermanentError) as caught:
            await chat.post(channel, TEXT, thread="", dedup="d")
    assert "Check" in caught.value.next_step()


async def test_a_rate_limit_and_an_outage_pass(lab: Lab) -> None:
    """429 tells how long to wait; a 503 (plain text) is no refusal."""
    there, url = lab
    async with Slack(url, TOKEN, look_first=NEVER) as chat:
        there.mode, there.retry_after = Mode.RATELIMITED, 17
        with pytest.raises(TransientError) as caught:
            await post(chat)
        assert caught.value.retry_after == timedelta(seconds=17)
        there.mode = Mode.DOWN
        with pytest.raises(TransientError):
            await post(chat)
        there.mode = Mode.OK
        await post(chat)
    assert len(there.channels["C1"].messages) == 1


# --- on the wire -------------------------------------------------------------------------------------------------


async def test_the_request_is_what_slack_documents(capture: Capture) -> None:
    """JSON body, bearer token, blocks beside a fallback text, metadata, nothing unfurled."""
    capture.say(capture.said(200, POSTED))
    async with slack(capture) as chat:
        assert await post(chat, thread="1.2") == POSTED["ts"]
    (heard,) = capture.heard
    assert (heard.method, heard.path) == ("POST", "/api/chat.postMessage")
    assert heard.headers["authorization"] == f"Bearer {TOKEN}"
    body = heard.json
    assert body["thread_ts"] == "1.2"
    assert body["metadata"] == metadata("inc-1/classified")
    assert body["text"].startswith("P1 pay: errors")
    assert [b["type"] for b in body["blocks"]] == ["header", "section"]
    assert (body["unfurl_links"], body["unfurl_media"], body["link_names"], body["mrkdwn"]) == (False,) * 4
    assert TOKEN not in heard.body.decode()


def listing(messages: list[dict[str, Any]], cursor: str = "") -> dict[str, Any]:
    return {"ok": True, "messages": messages, "response_metadata": {"next_cursor": cursor}}


@pytest.mark.parametrize("thread", ["", "1.2"])
@pytest.mark.parametrize("fault", ["hang", "cut", "503"])
async def test_a_message_in_doubt_is_looked_for_before_it_is_posted_again(
    capture: Capture, thread: str, fault: str
) -> None:
    """A time-out, a cut connection or a 5xx after Slack took it: the retry finds our mark and posts nothing."""
    doubt = capture.said(503, b"x") if fault == "503" else capture.said(hang=fault == "hang", cut=fault == "cut")
    ours = {"ts": "7.7", "metadata": metadata("inc-1/classified")}
    other = {"ts": "8.8", "metadata": metadata("inc-2/classified")}
    foreign = {"ts": "9.9", "metadata": {"event_type": "x", "event_payload": {"dedup": "inc-1/classified"}}}
    capture.say(doubt, capture.said(200, listing([other, {"ts": "1.1"}, ours, foreign])))
    async with slack(capture, timeout=timedelta(milliseconds=200)) as chat:
        with pytest.raises(TransientError):
            await post(chat, thread=thread)
        capture.release.set()
        assert await post(chat, thread=thread) == "7.7"
    assert [h.path.rpartition("/")[2] for h in capture.heard] == [
        "chat.postMessage",
        "conversations.replies" if thread else "conversations.history",
    ]
    look = capture.heard[1].query
    assert look["channel"] == "C1"
    assert look["include_all_metadata"] == "1"
    assert look.get("ts", "") == thread


async def test_a_message_in_doubt_that_is_not_there_is_posted(capture: Capture) -> None:
    """Once, and then it is in doubt no more."""
    capture.say(capture.said(cut=True), capture.said(200, listing([])), capture.said(200, POSTED))
    async with slack(capture) as chat:
        with pytest.raises(TransientError):
            await post(chat)
        await post(chat)
        await post(chat)
    paths = [h.path.rpartition("/")[2] for h in capture.heard]
    assert paths == ["chat.postMessage", "conversations.history", "chat.postMessage", "chat.postMessage"]


@pytest.mark.parametrize(("status", "error"), [(429, "ratelimited"), (200, "channel_not_found")])
async def test_what_slack_itself_refused_is_not_in_doubt(capture: Capture, status: int, error: str) -> None:
    """It was not posted, so nothing has to be looked for: reading is rate-limited, too."""
    capture.say(capture.said(status, {"ok": False, "error": error}), capture.said(200, POSTED))
    async with slack(capture) as chat:
        with pytest.raises(FirebreakError):
            await post(chat)
        await post(chat)
    assert {h.path.rpartition("/")[2] for h in capture.heard} == {"chat.postMessage"}


async def test_a_long_thread_is_looked_through_page_by_page(capture: Capture) -> None:
    """conversations.replies comes oldest first: ours is on the last page."""
    ours = {"ts": "7.7", "metadata": metadata("inc-1/classified")}
    capture.say(capture.said(cut=True), capture.said(200, listing([], "next")), capture.said(200, listing([ours])))
    async with slack(capture) as chat:
        with pytest.raises(TransientError):
            await post(chat, thread="1.2")
        assert await post(chat, thread="1.2") == "7.7"
    assert capture.heard[2].query["cursor"] == "next"


async def test_a_cancelled_post_is_in_doubt(capture: Capture) -> None:
    """A worker that is stopped while it sends does not know either."""
    capture.say(capture.said(hang=True), capture.said(200, listing([])), capture.said(200, POSTED))
    async with slack(capture) as chat:
        task = asyncio.create_task(post(chat))
        async with asyncio.timeout(5):
            await capture.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await post(chat)
    assert [h.path.rpartition("/")[2] for h in capture.heard[1:]] == ["conversations.history", "chat.postMessage"]


@pytest.mark.parametrize("error", ["missing_scope", "not_in_channel", "unknown_method"])
async def test_where_reading_is_forbidden_it_is_posted_all_the_same(capture: Capture, error: str) -> None:
    """A message twice is better than none."""
    capture.say(capture.said(200, {"ok": False, "error": error}), capture.said(200, POSTED))
    async with slack(capture, look_first=timedelta(minutes=1)) as chat:
        assert await post(chat) == POSTED["ts"]


async def test_after_a_start_each_place_is_looked_through_once(capture: Capture) -> None:
    """The process before posts no more, so one look tells of all its messages."""
    ours = {"ts": "7.7", "metadata": metadata("a")}
    capture.say(capture.said(200, listing([ours])), capture.said(200, POSTED))
    async with slack(capture, look_first=timedelta(minutes=1)) as chat:
        assert await post(chat, dedup="a") == "7.7"
        assert await post(chat, dedup="b") == POSTED["ts"]
    assert [h.path.rpartition("/")[2] for h in capture.heard] == ["conversations.history", "chat.postMessage"]


async def test_a_thread_that_we_began_is_not_looked_through(capture: Capture) -> None:
    """Nobody can have posted into it before; one that the process before began is looked through."""
    capture.say(capture.said(200, listing([])), capture.said(200, POSTED), capture.said(200, POSTED))
    capture.say(capture.said(200, listing([])), capture.said(200, POSTED))
    async with slack(capture, look_first=timedelta(minutes=1)) as chat:
        head = await post(chat, dedup="a")
        await post(chat, thread=head, dedup="b")
        await post(chat, thread="1.2", dedup="c")
    assert [h.path.rpartition("/")[2] for h in capture.heard] == [
        "conversations.history",
        "chat.postMessage",
        "chat.postMessage",
        "conversations.replies",
        "chat.postMessage",
    ]


async def test_blocks_that_slack_refuses_are_left_out(capture: Capture) -> None:
    """A plain message is better than none."""

    def answer(heard: Heard) -> Any:
        refused = "blocks" in heard.json
        return capture.said(200, {"ok": False, "error": "invalid_blocks"} if refused else POSTED)

    capture.say(answer)
    async with slack(capture) as chat:
        assert await post(chat) == POSTED["ts"]
    assert "P1 pay: errors" in capture.heard[1].json["text"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {"ok": False, "error": "invalid_auth"}, PermanentError),
        (200, {"ok": False, "error": "channel_not_found"}, PermanentError),
        (200, {"ok": False, "error": "is_archived"}, PermanentError),
        (200, {"ok": False, "error": "missing_scope", "needed": "chat:write"}, PermanentError),
        (200, {"ok": False, "error": "something_new"}, PermanentError),
        (200, {"ok": False, "error": "internal_error"}, TransientError),
        (200, {"ok": False, "error": "ratelimited"}, TransientError),
        (200, {"ok": False}, TransientError),
        (200, {"ok": True}, TransientError),
        (200, {}, TransientError),
        (200, [1], TransientError),
        (200, b"<html>", TransientError),
        (200, b"\xff", TransientError),
        (404, b"<html>", TransientError),
        (429, b"", TransientError),
        (500, {"ok": False, "error": "fatal_error"}, TransientError),
        (503, b"Service Unavailable", TransientError),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/html"])
async def test_each_answer_is_an_error_of_ours(
    capture: Capture, status: int, body: Any, error: type[FirebreakError], kind: str
) -> None:
    """Refusals are permanent and advise; everything that is not Slack's own word may pass. The token is never told."""
    capture.say(capture.said(status, body, headers={"content-type": kind}))
    async with slack(capture) as chat:
        with pytest.raises(FirebreakError) as caught:
            await post(chat)
    if kind == "application/json":
        assert type(caught.value) is error
    assert caught.value.next_step()
    assert TOKEN not in str(caught.value) + caught.value.next_step() + repr(chat)


def vendor_errors() -> list[type[Exception]]:
    """Every exception class that slack_sdk and aiohttp's client show."""
    modules = (slack_sdk.errors, aiohttp.client_exceptions)
    found = {c for m in modules for c in vars(m).values() if inspect.isclass(c) and issubclass(c, Exception)}
    assert len(found) >= 25, "the enumeration itself broke"
    return sorted(found, key=lambda c: c.__name__)


@pytest.mark.parametrize("cls", vendor_errors(), ids=lambda cls: cls.__name__)
async def test_no_error_of_slack_sdk_or_aiohttp_leaves_the_connector(
    cls: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new exception class of theirs fails here until it is translated."""

    async def fail(*_: Any, **__: Any) -> None:
        error = cls.__new__(cls)
        Exception.__init__(error, TOKEN)
        raise error

    monkeypatch.setattr("slack_sdk.web.async_client.AsyncWebClient.api_call", fail)
    async with Slack("http://127.0.0.1:1/api/", TOKEN, look_first=NEVER) as chat:
        with pytest.raises(FirebreakError) as caught:
            await post(chat)
    assert TOKEN not in str(caught.value)
    assert caught.value.__context__ is None, "the vendor's error holds the request with its token"


async def test_the_environments_proxy_is_not_used(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """slack_sdk would take one from HTTPS_PROXY."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    capture.say(capture.said(200, POSTED))
    async with slack(capture) as chat:
        assert await post(chat) == POSTED["ts"]


async def test_a_named_proxy_is_used(capture: Capture) -> None:
    """It is told the whole address, and who we are to it; Slack itself is not asked for by name."""
    capture.say(capture.said(200, POSTED))
    proxy = capture.url.replace("http://", "http://ada:secret@")
    async with Slack("http://slack.invalid/api/", TOKEN, look_first=timedelta(0), proxy=proxy) as chat:
        assert await post(chat) == POSTED["ts"]
    (heard,) = capture.heard
    assert heard.headers["host"] == "slack.invalid"
    assert heard.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'ada:secret').decode()}"


async def test_no_channel_is_a_permanent_error(capture: Capture) -> None:
    """It says where to name one."""
    async with slack(capture) as chat:
        with pytest.raises(PermanentError) as caught:
            await chat.post("", TEXT, thread="", dedup="d")
    assert "services.yaml" in caught.value.next_step()
    assert capture.heard == []


@pytest.mark.parametrize("token", ["", " ", "xoxb-é", "xoxb-\nX: y"])
def test_a_token_that_no_header_can_carry_is_refused_at_once(token: str) -> None:
    """And not shown."""
    with pytest.raises(SettingsInvalid) as caught:
        Slack("https://slack.com/api/", token)
    assert "xoxb" not in str(caught.value)


# --- the text ----------------------------------------------------------------------------------------------------


def test_nothing_in_a_message_comes_to_life() -> None:
    """No mention, no link, no emoji, no direction mark, no control character."""
    found = blocks(HOSTILE)
    texts = [b["text"] for b in found] + [{"type": "plain_text", "emoji": False, "text": fallback(HOSTILE)}]
    for text in texts:
        assert (text["type"], text["emoji"]) == ("plain_text", False)
        assert not {"<", ">", "\x00", "\x1b", "\u202e", "\ud800"} & set(text["text"])
    assert texts[0]["text"].startswith("&lt;!channel&gt; &amp; ")


def test_slacks_limits_hold_and_a_cut_is_said() -> None:
    """50 blocks, 150 in the header, 3000 in a section, 10,000 in all."""
    found = blocks(HOSTILE)
    assert len(found) <= 50
    assert len(found[0]["text"]["text"]) <= 150
    assert all(0 < len(b["text"]["text"]) <= 3000 for b in found)
    assert sum(len(b["text"]["text"]) for b in found) <= 10_000
    assert "shortened" in found[-1]["text"]["text"]
    assert "shortened" not in blocks(TEXT)[-1]["text"]["text"]
    assert len(fallback(HOSTILE)) <= 3200


@pytest.mark.parametrize(
    "text",
    [
        NoticeText(title="", lines=()),
        NoticeText(title=" ", lines=("", "  ")),
        NoticeText(title="&" * 500, lines=("<" * 5000,)),
    ],
)
def test_odd_texts_still_make_a_message(text: NoticeText) -> None:
    """Slack refuses empty blocks, and an entity that is cut in half would show as rubbish."""
    for block in blocks(text):
        shown = block["text"]["text"]
        assert shown.strip()
        assert "&" not in shown.replace("&amp;", "").replace("&lt;", "")
    assert fallback(text).strip() or not text.title.strip()


@pytest.mark.parametrize("limit", [1, 5, 6, 10, 11])
def test_escaping_keeps_the_limit(limit: int) -> None:
    """Counted after escaping, as Slack counts."""
    found = escaped("<<<<<<<<<<", limit)
    assert len(found) <= limit
    assert found.replace("&lt;", "") in ("", "…")


def test_lines_stay_in_order_and_together() -> None:
    """Packed into as few sections as hold them."""
    text = NoticeText(title="t", lines=tuple(f"line {n}" for n in range(100)))
    joined = "\n".join(b["text"]["text"] for b in blocks(text)[1:])
    assert joined.split("\n") == list(text.lines)
    assert len(blocks(text)) == 2
