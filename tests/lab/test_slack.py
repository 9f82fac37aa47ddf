"""The chat's stand-in refuses what the real one refuses, and keeps what it got."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from firebreak.lab.slack import Slack

TOKEN = "xoxb-test"
CHANNEL = "C0123456789"
Client = TestClient[Request, Application]


@pytest.fixture
def slack(tmp_path: Path) -> Slack:
    return Slack(tmp_path / "slack.jsonl", TOKEN, {CHANNEL: "incidents-pay"})


@pytest.fixture
async def client(slack: Slack) -> AsyncIterator[Client]:
    async with TestClient(TestServer(slack.app)) as connected:
        yield connected


async def call(client: Client, method: str, *, token: str = TOKEN, **arguments: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.post(f"/api/{method}", json=arguments, headers=headers) as answer:
        assert answer.status == 200
        body: dict[str, Any] = await answer.json()
        return body


async def post(client: Client, **arguments: Any) -> dict[str, Any]:
    return await call(client, "chat.postMessage", **{"channel": CHANNEL, "text": "hello"} | arguments)


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


async def test_a_message_and_its_thread_are_kept(client: Client, slack: Slack) -> None:
    """`ts` names a message; replies carry the head's; conversations.replies gives all of them in order."""
    head = await post(client, blocks=[section("*P1* pay")], metadata={"event_type": "x", "event_payload": {"key": "k"}})
    reply = await post(client, text="restarted", thread_ts=head["ts"])
    assert head["ok"]
    assert reply["message"]["thread_ts"] == head["ts"]
    thread = await call(client, "conversations.replies", channel=CHANNEL, ts=head["ts"], include_all_metadata=True)
    assert [m["text"] for m in thread["messages"]] == ["hello", "restarted"]
    assert thread["messages"][0]["metadata"]["event_payload"] == {"key": "k"}
    assert [m.ts for m in slack.channels[CHANNEL].messages] == [head["ts"], reply["ts"]]


async def test_the_history_of_a_channel_has_its_heads_alone_newest_first(client: Client) -> None:
    """conversations.history leaves replies to conversations.replies."""
    heads = [await post(client, text=f"head {number}") for number in range(3)]
    await post(client, text="reply", thread_ts=heads[0]["ts"])
    history = await call(client, "conversations.history", channel=CHANNEL, limit=2)
    assert [m["text"] for m in history["messages"]] == ["head 2", "head 1"]
    assert history["has_more"]
    cursor = history["response_metadata"]["next_cursor"]
    rest = await call(client, "conversations.history", channel=CHANNEL, limit=2, cursor=cursor)
    assert [m["text"] for m in rest["messages"]] == ["head 0"]


async def test_replies_come_in_pages(client: Client) -> None:
    """`limit` and `next_cursor`, as on the real one."""
    head = await post(client)
    for number in range(4):
        await post(client, text=f"reply {number}", thread_ts=head["ts"])
    first = await call(client, "conversations.replies", channel=CHANNEL, ts=head["ts"], limit=3)
    rest = await call(
        client,
        "conversations.replies",
        channel=CHANNEL,
        ts=head["ts"],
        cursor=first["response_metadata"]["next_cursor"],
    )
    assert first["has_more"]
    assert not rest["has_more"]
    assert [m["text"] for m in first["messages"] + rest["messages"]][1:] == [f"reply {n}" for n in range(4)]


async def test_an_update_changes_the_text_and_keeps_blocks_that_are_left_out(client: Client, slack: Slack) -> None:
    """As chat.update documents it."""
    head = await post(client, blocks=[section("before")])
    updated = await call(client, "chat.update", channel=CHANNEL, ts=head["ts"], text="after")
    assert updated["ok"]
    (message,) = slack.channels[CHANNEL].messages
    assert (message.text, message.blocks, message.edits) == ("after", [section("before")], 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"token": ""}, "not_authed"),
        ({"token": "xoxb-wrong"}, "invalid_auth"),
        ({"channel": "C0999999999"}, "channel_not_found"),
        ({"channel": ""}, "channel_not_found"),
        ({"text": ""}, "no_text"),
        ({"text": " \n "}, "no_text"),
        ({"text": "", "blocks": []}, "no_text"),
        ({"thread_ts": "1.000001"}, "thread_not_found"),
        ({"metadata": {"event_type": "x"}}, "invalid_metadata_format"),
        ({"metadata": "{"}, "invalid_metadata_format"),
        ({"blocks": "{"}, "invalid_blocks_format"),
        ({"blocks": {"type": "divider"}}, "invalid_blocks"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": [{"type": "carousel"}]}, "invalid_blocks"),
        ({"blocks": ["text"]}, "invalid_blocks"),
        ({"blocks": [section("x" * 3001)]}, "invalid_blocks"),
        ({"blocks": [section("")]}, "invalid_blocks"),
        ({"blocks": [{"type": "section"}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "text": {"type": "html", "text": "x"}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "fields": [section("x")["text"]] * 11}]}, "invalid_blocks"),
        ({"blocks": [{"type": "section", "fields": [section("x" * 2001)["text"]]}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, "invalid_blocks"),
        ({"blocks": [{"type": "context", "elements": [section("x")["text"]] * 11}]}, "invalid_blocks"),
        ({"blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        ({"blocks": [{"type": "divider", "block_id": "a"}] * 2}, "invalid_blocks"),
        ({"blocks": [{"type": "divider", "block_id": "a" * 256}]}, "invalid_blocks"),
        ({"blocks": [section("x" * 3000)] * 5}, "msg_blocks_too_long"),
    ],
)
async def test_what_the_real_one_refuses_is_refused(
    client: Client, slack: Slack, arguments: dict[str, Any], error: str
) -> None:
    """`ok: false` with Slack's own word, and nothing in the channel."""
    answer = await post(client, **arguments)
    assert (answer["ok"], answer["error"]) == (False, error)
    assert slack.channels[CHANNEL].messages == []
    assert [entry["accepted"] for entry in slack.log] == [False]


@pytest.mark.parametrize(
    "blocks",
    [
        [section("x" * 3000)] * 4,
        [{"type": "divider"}] * 50,
        [{"type": "header", "text": {"type": "plain_text", "text": "x" * 150}}],
        [{"type": "section", "fields": [section("x" * 1000)["text"]] * 10}],
        [{"type": "context", "elements": [section("x")["text"]] * 10}],
    ],
)
async def test_what_is_just_within_a_limit_is_taken(client: Client, blocks: list[Any]) -> None:
    """A stand-in that is too strict would hide messages that the real one would show."""
    assert (await post(client, blocks=blocks))["ok"]


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("chat.update", {"ts": "1.000001", "text": "x"}, "message_not_found"),
        ("chat.update", {"ts": "HEAD", "text": "x" * 4001}, "msg_too_long"),
        ("chat.update", {"ts": "HEAD"}, "no_text"),
        ("chat.update", {"channel": "incidents-pay", "ts": "HEAD", "text": "x"}, "channel_not_found"),
        ("conversations.replies", {"ts": "1.000001"}, "thread_not_found"),
        ("conversations.replies", {"ts": "HEAD", "limit": "many"}, "invalid_arguments"),
        ("chat.postMessage", {"text": "x", "thread_ts": "REPLY"}, "cannot_reply_to_message"),
        ("chat.explode", {}, "unknown_method"),
    ],
)
async def test_every_method_has_its_own_refusals(
    client: Client, method: str, arguments: dict[str, Any], error: str
) -> None:
    """Only chat.postMessage takes a channel's name; a reply cannot have a thread of its own."""
    head = await post(client)
    reply = await post(client, thread_ts=head["ts"])
    named = {"HEAD": head["ts"], "REPLY": reply["ts"]}
    filled = {name: named.get(value, value) for name, value in arguments.items()}
    answer = await call(client, method, **{"channel": CHANNEL} | filled)
    assert (answer["ok"], answer.get("error")) == (False, error)


async def may(client: Client, **access: list[str]) -> int:
    async with client.post("/access", json=access) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("access", "method", "error"),
    [
        ({"archived": [CHANNEL]}, "chat.postMessage", "is_archived"),
        ({"archived": [CHANNEL]}, "chat.update", "is_inactive"),
        ({"archived": [CHANNEL]}, "conversations.replies", None),
        ({"outside": [CHANNEL]}, "chat.postMessage", "not_in_channel"),
        ({"outside": [CHANNEL]}, "conversations.history", "not_in_channel"),
        ({"outside": [CHANNEL]}, "conversations.replies", "not_in_channel"),
        ({"outside": [CHANNEL]}, "auth.test", None),
        ({"scopes": ["channels:history"]}, "chat.postMessage", "missing_scope"),
        ({"scopes": ["channels:history"]}, "chat.update", "missing_scope"),
        ({"scopes": ["chat:write"]}, "conversations.history", "missing_scope"),
        ({"scopes": []}, "auth.test", None),
    ],
)
async def test_what_an_app_may_not_do_is_refused(
    client: Client, access: dict[str, list[str]], method: str, error: str | None
) -> None:
    """Archived channels, channels that it was never invited to, scopes that it did not get: Slack's own words."""
    head = await post(client)
    assert await may(client, **access) == 200
    answer = await call(client, method, channel=CHANNEL, ts=head["ts"], text="hi")
    assert answer.get("error") == error


async def test_a_missing_scope_is_named(client: Client) -> None:
    """With those that the token has, as the real one does."""
    await may(client, scopes=["channels:history"])
    answer = await post(client)
    assert (answer["needed"], answer["provided"]) == ("chat:write", "channels:history")


@pytest.mark.parametrize("access", [{"archive": [CHANNEL]}, {"outside": ["C0999999999"]}, {"scopes": ["chat.write"]}])
async def test_an_unknown_right_is_refused(client: Client, access: dict[str, list[str]]) -> None:
    """A slip of the pen must not look like a right that was taken."""
    assert await may(client, **access) == 400
    assert (await post(client))["ok"]


async def test_a_refused_block_is_named(client: Client) -> None:
    """The real one says which block and which limit, by JSON pointer."""
    answer = await post(client, blocks=[section("fine"), section("x" * 3001)])
    assert answer["response_metadata"]["messages"] == [
        "[ERROR] must be less than 3001 characters [json-pointer:/blocks/1/text/text]"
    ]


async def test_forms_are_read_as_json_bodies_are(client: Client) -> None:
    """Form-encoded, blocks are JSON text, and the token may be a parameter."""
    form = {"token": TOKEN, "channel": "#incidents-pay", "text": "hi", "blocks": json.dumps([section("hi")])}
    async with client.post("/api/chat.postMessage", data=form) as answer:
        body = await answer.json()
    assert body["ok"]
    assert body["channel"] == CHANNEL


@pytest.mark.parametrize(
    ("data", "kind", "error"),
    [
        ("{", "application/json", "invalid_json"),
        ("[" * 200_000, "application/json", "invalid_json"),
        ("{}", "application/json; charset=nope", "invalid_charset"),
        ("a=b", "application/x-www-form-urlencoded; charset=nope", "invalid_charset"),
        ("[]", "application/json", "json_not_object"),
        ("x", "text/plain", "invalid_post_type"),
    ],
)
async def test_a_body_of_another_kind_is_refused(
    client: Client, slack: Slack, data: str, kind: str, error: str
) -> None:
    """As the real one, with 200 and `ok: false`; the attempt is kept."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
    async with client.post("/api/chat.postMessage", data=data, headers=headers) as answer:
        assert (await answer.json())["error"] == error
    assert [entry["accepted"] for entry in slack.log] == [False]


@pytest.mark.parametrize("header", ["", TOKEN, f"Basic {TOKEN}", "Bearer"])
async def test_a_token_without_the_word_bearer_is_none(client: Client, header: str) -> None:
    """The right token alone opens nothing: a connector that leaves the word out must be found here."""
    async with client.post("/api/auth.test", headers={"Authorization": header}) as answer:
        assert (await answer.json())["error"] == "not_authed"


async def test_too_many_messages_to_one_channel_are_rate_limited(client: Client) -> None:
    """One a second with short bursts; a 429 has a status and a Retry-After of its own."""
    for _ in range(20):
        await post(client)
    async with client.post(
        "/api/chat.postMessage",
        json={"channel": CHANNEL, "text": "one too many"},
        headers={"Authorization": f"Bearer {TOKEN}"},
    ) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert await answer.json() == {"ok": False, "error": "ratelimited"}


async def test_too_many_updates_are_rate_limited(client: Client) -> None:
    """chat.update is of tier 3: fifty a minute, and a 429 beyond."""
    head = await post(client)
    for number in range(50):
        assert (await call(client, "chat.update", channel=CHANNEL, ts=head["ts"], text=f"{number}"))["ok"]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    update = {"channel": CHANNEL, "ts": head["ts"], "text": "one too many"}
    async with client.post("/api/chat.update", json=update, headers=headers) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")


async def test_the_real_client_works_with_it(client: Client) -> None:
    """slack_sdk posts, updates, reads back and gets its errors, against this stand-in."""
    sdk = AsyncWebClient(TOKEN, base_url=str(client.make_url("/api/")), session=client.session)
    assert (await sdk.auth_test())["ok"]
    head = await sdk.chat_postMessage(channel=CHANNEL, text="hi", blocks=[section("hi & bye")])
    await sdk.chat_update(channel=CHANNEL, ts=str(head["ts"]), text="hi again")
    replies = await sdk.conversations_replies(channel=CHANNEL, ts=str(head["ts"]))
    messages: list[dict[str, Any]] = replies["messages"]
    assert [message["text"] for message in messages] == ["hi again"]
    with pytest.raises(SlackApiError, match="channel_not_found"):
        await sdk.chat_postMessage(channel="C0999999999", text="hi")


async def test_when_down_it_is_down_for_every_method(client: Client, slack: Slack) -> None:
    """503 with a body that is not JSON, as a dead front end answers."""
    await client.post("/control", json={"mode": "down"})
    async with client.post("/api/auth.test", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == 503
        assert "json" not in answer.content_type
    assert [entry["status"] for entry in slack.log] == [503]


async def test_the_token_is_not_kept(client: Client, tmp_path: Path) -> None:
    """Neither in the log file nor under /log."""
    await post(client)
    async with client.post("/api/chat.postMessage", data={"token": TOKEN, "channel": CHANNEL, "text": "x"}):
        pass
    assert TOKEN not in (tmp_path / "slack.jsonl").read_text()


async def test_the_page_shows_threads_and_escapes_them(client: Client) -> None:
    """Label values come from outside: they must not become markup."""
    head = await post(client, text="<img src=x onerror=alert(1)>")
    await post(client, blocks=[section("<b>reply</b>")], thread_ts=head["ts"])
    async with client.get("/") as answer:
        text = await answer.text()
    assert "<img" not in text
    assert "<b>reply" not in text
    assert "&lt;b&gt;reply&lt;/b&gt;" in text
    assert "#incidents-pay" in text


async def test_the_page_shows_what_was_refused_and_why(client: Client) -> None:
    """Slack's word, what was missing, and the call itself, escaped."""
    await may(client, scopes=["channels:history"])
    await post(client, text="<b>restarted</b>")
    async with client.get("/") as answer:
        refused = (await answer.text()).partition("Refused calls: 1")[2]
    assert "missing_scope; needed: chat:write" in refused
    assert "chat.postMessage" in refused
    assert "&lt;b&gt;restarted&lt;/b&gt;" in refused


async def test_half_a_surrogate_pair_does_not_end_the_page(client: Client) -> None:
    """JSON may carry what UTF-8 cannot: it is taken, and shown as a question mark."""
    assert (await post(client, text="half \ud800 pair"))["ok"]
    async with client.get("/") as answer:
        assert answer.status == 200
        assert "half ? pair" in await answer.text()
