"""HTTP out: limits hold, nothing of a vendor leaks, no secret is told."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import httpx2
import pytest

from firebreak.connectors.http import HttpEdge, form_body
from firebreak.connectors.outcome import ErrorTable, FailureKind, HttpFailure, HttpReply, retry_after
from firebreak.domain.errors import FirebreakError, PermanentError, SettingsInvalid, TransientError

if TYPE_CHECKING:
    from tests.connectors.conftest import Capture

SECOND = timedelta(seconds=1)


def vendor_errors(vendor: ModuleType) -> list[type[Exception]]:
    """Every exception class that the package shows."""
    found = [cls for cls in vars(vendor).values() if inspect.isclass(cls) and issubclass(cls, Exception)]
    assert len(found) >= 25, "the enumeration itself broke"
    return found


def instance(cls: type[Exception]) -> Exception:
    """One of the class, whatever its constructor wants."""
    attempts: tuple[dict[str, Any], ...] = ({"request": None, "response": None}, {})
    for keywords in attempts:
        for arguments in (("secret-of-ours",), ()):
            try:
                return cls(*arguments, **keywords)
            except TypeError:
                continue
    raise AssertionError(f"cannot make a {cls}")


@pytest.mark.parametrize("cls", vendor_errors(httpx), ids=lambda cls: cls.__name__)
async def test_no_error_of_httpx_leaves_the_wrapper(cls: type[Exception]) -> None:
    """Each exception class that httpx has becomes a failure, and raised it is one of the domain's."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise instance(cls)

    async with HttpEdge("http://x", system="X", transport=httpx.MockTransport(handler)) as edge:
        answer = await edge.try_send("GET", "a", timeout=SECOND)
        assert isinstance(answer, HttpFailure)
        assert "X at http://x" in answer.detail
        with pytest.raises(FirebreakError):
            await edge.send("GET", "a", timeout=SECOND)


@pytest.mark.parametrize("cls", vendor_errors(httpx2), ids=lambda cls: cls.__name__)
def test_every_error_of_the_fork_is_known_as_well(cls: type[Exception]) -> None:
    """httpx2, which lightkube uses, has the same error names, and the table catches each."""
    table = ErrorTable(httpx2)
    error = instance(cls)
    assert isinstance(error, table.errors)
    assert isinstance(table.failure(error, "X").error(), (TransientError, PermanentError))


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (httpx.ConnectError, FailureKind.UNREACHABLE),
        (httpx.ConnectTimeout, FailureKind.UNREACHABLE),
        (httpx.ReadTimeout, FailureKind.LATE),
        (httpx.WriteTimeout, FailureKind.LATE),
        (httpx.ReadError, FailureKind.CUT),
        (httpx.RemoteProtocolError, FailureKind.CUT),
        (httpx.DecodingError, FailureKind.UNREADABLE),
        (httpx.LocalProtocolError, FailureKind.UNUSABLE),
    ],
)
def test_what_may_have_been_sent_is_told_apart(cls: type[httpx.RequestError], kind: FailureKind) -> None:
    """Nothing was sent when no connection came about; after a time-out or a cut it is not known."""
    assert ErrorTable(httpx).failure(cls("x"), "X").kind is kind


def test_an_error_that_quotes_the_request_is_not_quoted() -> None:
    """h11 quotes an illegal header's value, which may be a token."""
    failure = ErrorTable(httpx).failure(httpx.LocalProtocolError("Illegal header value b'tok-123'"), "X")
    assert "tok-123" not in failure.detail


async def test_an_answer_over_the_limit_is_refused_while_it_is_read() -> None:
    """The body is not read to its end."""
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 1000

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=parts()))
    async with HttpEdge("http://x", system="X", max_body_bytes=10_000, transport=transport) as edge:
        answer = await edge.try_send("GET", "a", timeout=SECOND)
    assert isinstance(answer, HttpFailure)
    assert answer.kind is FailureKind.TOO_LARGE
    assert sent < 20


async def test_a_server_that_never_answers_costs_the_time_limit_and_no_more(capture: Capture) -> None:
    """The limit is on the whole call."""
    capture.say(capture.said(hang=True))
    loop = asyncio.get_running_loop()
    async with HttpEdge(capture.url, system="X") as edge:
        began = loop.time()
        answer = await edge.try_send("GET", "a", timeout=timedelta(milliseconds=150))
    assert isinstance(answer, HttpFailure)
    assert answer.kind is FailureKind.LATE
    assert 0.1 < loop.time() - began < 2


async def test_a_call_that_waited_for_a_connection_in_vain_was_never_sent(capture: Capture) -> None:
    """With all connections busy nothing goes out: the outcome is known, unlike after a late answer."""
    capture.say(capture.said(hang=True))
    async with HttpEdge(capture.url, system="X", connections=1) as edge:
        first = asyncio.create_task(edge.try_send("GET", "a", timeout=SECOND))
        await asyncio.wait_for(capture.arrived.wait(), 5)
        second = await edge.try_send("GET", "b", timeout=timedelta(milliseconds=100))
        capture.release.set()
        assert isinstance(await first, HttpReply)
    assert isinstance(second, HttpFailure)
    assert second.kind is FailureKind.UNREACHABLE
    assert "no connection became free" in second.detail
    assert [heard.path for heard in capture.heard] == ["/a"]


async def test_a_server_that_drips_cannot_stretch_the_limit() -> None:
    """A byte now and then resets httpx' own read time-out, not ours."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _i in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass  # the client hung up, as it should
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HttpEdge(f"http://127.0.0.1:{port}", system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=timedelta(milliseconds=200))
    assert isinstance(answer, HttpFailure)
    assert answer.kind is FailureKind.LATE
    server.close()
    await server.wait_closed()


async def test_a_cut_connection_is_a_failure(capture: Capture) -> None:
    """The real thing, beside the table."""
    capture.say(capture.said(cut=True))
    async with HttpEdge(capture.url, system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=SECOND)
    assert isinstance(answer, HttpFailure)
    assert answer.kind is FailureKind.CUT


async def test_a_closed_port_is_unreachable(unused_tcp_port: int) -> None:
    """The real thing, beside the table."""
    async with HttpEdge(f"http://127.0.0.1:{unused_tcp_port}", system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=SECOND)
    assert isinstance(answer, HttpFailure)
    assert answer.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize("host", ["prometheus..example", "a" * 64 + ".example"])
async def test_a_host_that_can_be_no_name_is_a_failure(host: str) -> None:
    """A mistyped address ended in an error of the codec, which nobody took."""
    async with HttpEdge(f"http://{host}", system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=timedelta(seconds=5))
    assert isinstance(answer, HttpFailure)
    assert not answer.may_pass


async def test_a_redirect_is_not_followed(capture: Capture) -> None:
    """A token must not travel to where an answer points."""
    capture.say(capture.said(302, {}, headers={"location": "/elsewhere"}))
    async with HttpEdge(capture.url, system="X", headers={"authorization": "Bearer t"}) as edge:
        answer = await edge.try_send("GET", "a", timeout=SECOND)
    assert isinstance(answer, HttpReply)
    assert answer.status == 302
    assert [heard.path for heard in capture.heard] == ["/a"]


async def test_neither_proxies_nor_cookies_are_used(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the process does not decide where alerts' data goes."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    capture.say(capture.said(200, {}, headers={"set-cookie": "a=b; Path=/"}))
    async with HttpEdge(capture.url, system="X") as edge:
        await edge.send("GET", "a", timeout=SECOND)
        await edge.send("GET", "a", timeout=SECOND)
    assert len(capture.heard) == 2
    assert "cookie" not in capture.heard[1].headers
    assert capture.heard[0].headers["user-agent"].startswith("firebreak/")


async def test_the_prefix_of_the_address_stays(capture: Capture) -> None:
    """Mimir and VictoriaMetrics live below a path."""
    async with HttpEdge(f"{capture.url}/select/0/prometheus/", system="X") as edge:
        await edge.send("POST", "api/v1/query", timeout=SECOND)
    assert capture.heard[0].path == "/select/0/prometheus/api/v1/query"


async def test_a_password_in_the_address_is_used_and_never_told(capture: Capture) -> None:
    """It goes out as basic authentication and stays out of every sentence."""
    capture.say(capture.said(hang=True))
    async with HttpEdge(capture.url.replace("//", "//me:pass-123@"), system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=timedelta(milliseconds=100))
        assert isinstance(answer, HttpFailure)
        assert "pass-123" not in answer.detail + repr(edge) + edge.system
    assert capture.heard[0].headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("value", ["sécret", "sec\nret", "secret\r\nX-Other: 1", ""])
def test_a_header_that_http_forbids_is_refused_without_its_value(value: str) -> None:
    """Found when the program starts, not at the first incident."""
    with pytest.raises(SettingsInvalid) as caught:
        HttpEdge("http://x", system="X", headers={"x-scope-orgid": value})
    assert "x-scope-orgid" in str(caught.value)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("address", ["", "localhost:9090", "ftp://x", "http://", "http://[bad", "http://x:port"])
def test_an_address_that_can_never_work_is_refused_at_once(address: str) -> None:
    """SettingsInvalid, not an error at three in the morning."""
    with pytest.raises(SettingsInvalid):
        HttpEdge(address, system="X")


def test_retry_after_is_read_as_seconds_and_bounded() -> None:
    """A date or nonsense is no number of seconds; a day is too long to wait for."""
    assert retry_after("12") == timedelta(seconds=12)
    assert retry_after("999999") == timedelta(hours=1)
    for text in ("", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400, "١٢"):
        assert retry_after(text) is None


async def test_connections_are_kept(capture: Capture) -> None:
    """A new connection would cost every look at the evidence a round trip, with TLS three."""
    async with HttpEdge(capture.url, system="X") as edge:
        for _ in range(3):
            await edge.send("GET", "a", timeout=SECOND)
    assert len({heard.peer for heard in capture.heard}) == 1


@pytest.mark.parametrize("value", ["", "a b&c=d+e%", 'up{a=~"é|\n"}' * 40, "😀"])
def test_a_form_is_encoded_as_a_browser_would(value: str) -> None:
    """Short or long (whose encoding is kept), it is read back as it was given, every time."""
    for _ in range(2):
        body = form_body({"query": value, "a b": "1"}).decode("ascii")
        assert parse_qsl(body, keep_blank_values=True, strict_parsing=True) == [("query", value), ("a b", "1")]
