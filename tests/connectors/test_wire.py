"""What goes out over a real socket, how often, and what each way of breaking it means."""

from __future__ import annotations

import asyncio
import gc
import gzip
import inspect
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from aiohttp.client_reqrep import ConnectionKey
from lightkube.config.models import UserExec
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from firebreak.connectors import wire
from firebreak.connectors.http import HttpEdge
from firebreak.connectors.kubernetes import KubernetesCluster
from firebreak.connectors.kubernetes_plugin import PluginAuth
from firebreak.connectors.outcome import HTTP_ERRORS, FailureKind, HttpFailure, HttpReply
from firebreak.domain.errors import FirebreakError, PermanentError, PermissionDenied, TransientError
from firebreak.domain.target import ResourceKind, TargetRef
from firebreak.servers.kubernetes import ControlPlane

LIMIT = timedelta(seconds=5)
SHORT = timedelta(milliseconds=200)
OBJECT = b'{"metadata":{"name":"x","uid":"u","resourceVersion":"7"}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(OBJECT), OBJECT)
HANG, CLOSE, RESET = b"hang", b"close", b"reset"


class Scripted:
    """Answers the n-th request with the n-th line of `script` (the last one for ever), byte for byte."""

    def __init__(self) -> None:
        self.script: list[bytes] = [OK]
        self.heard: list[bytes] = []  # whole requests
        self.opened = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.arrived = asyncio.Event()
        self.emptied = asyncio.Event()  # no connection is open any more
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def methods(self) -> list[str]:
        return [request.split(b" ", 1)[0].decode() for request in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open.add(writer)
        self.emptied.clear()
        try:
            await self._answer_all(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            self.open.discard(writer)
            if not self.open:
                self.emptied.set()
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            self.heard.append(head + await reader.readexactly(int(fields.get(b"content-length", b"0"))))
            self.arrived.set()
            said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if said == CLOSE:
                return
            if said == RESET:
                assert isinstance(writer.transport, asyncio.Transport)
                writer.transport.abort()
                return
            if said == HANG:
                await reader.read()  # until the client closes
                return
            writer.write(said)
            await writer.drain()


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    found = Scripted()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    for writer in found.open:
        writer.close()
    await asyncio.wait_for(server.wait_closed(), 5)


async def kind_of(edge: HttpEdge, method: str = "POST", timeout: timedelta = LIMIT) -> FailureKind | None:
    """None: it was answered."""
    answer = await edge.try_send(method, "a", content=None if method == "GET" else b"{}", timeout=timeout)
    if isinstance(answer, HttpReply):
        return None
    assert str(edge.system) in answer.detail
    return answer.kind


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_a_request_that_was_read_and_not_answered_goes_out_once(
    scripted: Scripted, method: str, end: bytes, kept: bool
) -> None:
    """It may have been acted upon: the outcome is unknown, and nothing is repeated, on a kept connection neither."""
    scripted.script = [*([OK] if kept else []), end, OK]
    async with HttpEdge(scripted.url, system="X") as edge:
        if kept:
            assert await kind_of(edge) is None
        assert await kind_of(edge, method) is FailureKind.CUT
        assert scripted.methods == [*(["POST"] if kept else []), method]
        assert scripted.opened == 1
        assert await kind_of(edge, method) is None, "the next call finds a connection again"


async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(scripted: Scripted) -> None:
    """The server restarted: nothing is sent into the void, the call takes a new connection."""
    async with HttpEdge(scripted.url, system="X") as edge:
        for calls in range(1, 4):
            assert await kind_of(edge, "PATCH") is None
            assert scripted.opened == calls
            for writer in scripted.open:
                writer.close()
            await asyncio.wait_for(scripted.emptied.wait(), 5)


@pytest.mark.parametrize("left", [b"", OK, b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"])
async def test_an_end_that_the_busy_loop_has_not_seen_is_seen_before_a_patch_goes_out(left: bytes) -> None:
    """Closed, or spoken unasked, while this process did something else: the old connection is not used again."""
    listener = socket.create_server(("127.0.0.1", 0))
    told, done = threading.Event(), threading.Event()
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"{}"):
            request += connection.recv(65536)
        heard.append(request)
        connection.sendall(OK)

    def serve() -> None:
        first, _ = listener.accept()
        with first:
            answer(first)
            told.wait(10)
            first.sendall(left)
            if not left:
                first.close()
            done.set()
            second, _ = listener.accept()
            with second:
                answer(second)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    async with HttpEdge(f"http://127.0.0.1:{listener.getsockname()[1]}", system="X") as edge:
        assert await kind_of(edge, "PATCH") is None
        told.set()
        assert done.wait(10)  # blocks the loop on purpose: it must not see the end by itself
        answered = await edge.try_send("PATCH", "a", content=b"{}", timeout=LIMIT)
    await asyncio.to_thread(thread.join, 10)
    listener.close()
    assert isinstance(answered, HttpReply)
    assert answered.status == 200
    assert len(heard) == 2


async def test_what_was_said_unasked_is_no_answer(scripted: Scripted) -> None:
    """Two answers to one request, at once or while the connection idles: the second is not the next one's answer."""
    wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    scripted.script = [OK + wrong, OK]
    async with HttpEdge(scripted.url, system="X") as edge:
        for call in range(3):
            answer = await edge.try_send("PATCH", "a", content=b"{}", timeout=LIMIT)
            assert isinstance(answer, HttpReply)
            assert answer.body == OBJECT
            if call == 1:
                (writer,) = scripted.open
                writer.write(wrong)
                await writer.drain()
                for _ in range(20):  # turns of the loop that both ends share: what was written is read by then
                    await asyncio.sleep(0)
    assert scripted.opened == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshortxx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 fine OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
)
async def test_an_answer_that_breaks_off_or_is_none_is_an_unknown_outcome(scripted: Scripted, answer: bytes) -> None:
    """Something was sent and read; what came back says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    headers = {"authorization": "Bearer tok-123"}
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with HttpEdge(url, system="X", headers=headers) as edge:
        failure = await edge.try_send("PATCH", "a", content=b"{}", timeout=LIMIT)
    server.close()
    assert isinstance(failure, HttpFailure)
    assert failure.kind is FailureKind.CUT
    assert "tok-123" not in failure.detail


async def test_a_late_or_cancelled_call_closes_its_connection_and_gives_back_its_place(scripted: Scripted) -> None:
    """With one connection allowed, a leaked one would be the end of all calls."""
    scripted.script = [HANG, HANG, OK]
    async with HttpEdge(scripted.url, system="X", connections=1) as edge:
        assert await kind_of(edge, "PATCH", SHORT) is FailureKind.LATE
        await asyncio.wait_for(scripted.emptied.wait(), 5)
        scripted.arrived.clear()
        task = asyncio.create_task(kind_of(edge, "PATCH"))
        await asyncio.wait_for(scripted.arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(scripted.emptied.wait(), 5)
        assert await kind_of(edge, "PATCH") is None
    assert scripted.opened == 3


@pytest.mark.parametrize("body", [b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n2710\r\n"])
async def test_a_body_over_the_limit_closes_its_connection(scripted: Scripted, body: bytes) -> None:
    """The rest of it is not read, and the place is free again."""
    scripted.script = [b"HTTP/1.1 200 OK\r\n" + body + b"x" * 10_000, OK]
    async with HttpEdge(scripted.url, system="X", max_body_bytes=1000, connections=1) as edge:
        assert await kind_of(edge) is FailureKind.TOO_LARGE
        await asyncio.wait_for(scripted.emptied.wait(), 5)
        assert await kind_of(edge) is None


@pytest.mark.parametrize("timeout", [SHORT, None], ids=["late", "cancelled"])
async def test_a_handshake_that_hangs_sent_nothing_and_leaves_nothing(timeout: timedelta | None) -> None:
    """TLS that never comes about: no request was sent, and the socket is closed by us."""
    ended, began = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with HttpEdge(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", system="X") as edge:
        if timeout is not None:
            assert await kind_of(edge, "PATCH", timeout) is FailureKind.UNREACHABLE
        else:
            task = asyncio.create_task(kind_of(edge, "PATCH"))
            await asyncio.wait_for(began.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(ended.wait(), 5)
    server.close()


async def test_tls_where_there_is_none_is_unreachable(scripted: Scripted) -> None:
    """https:// for a plain server: the handshake fails before anything of ours is sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with HttpEdge(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", system="X") as edge:
        assert await kind_of(edge, "PATCH") is FailureKind.UNREACHABLE
    server.close()


async def test_a_host_that_nobody_knows_is_unreachable() -> None:
    """RFC 6761: `.invalid` never resolves."""
    async with HttpEdge("http://nobody.invalid", system="X") as edge:
        assert await kind_of(edge, "PATCH") is FailureKind.UNREACHABLE


@pytest.mark.servers
async def test_a_certificate_that_nobody_vouches_for_is_unreachable(control_plane: ControlPlane) -> None:
    """The API server's own CA is not in the system's store: nothing is sent, and the reason is told."""
    url = json.loads(control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    async with HttpEdge(url, system="X", headers={"authorization": "Bearer tok-123"}) as edge:
        failure = await edge.try_send("PATCH", "a", content=b"{}", timeout=LIMIT)
    assert isinstance(failure, HttpFailure)
    assert failure.kind is FailureKind.UNREACHABLE
    assert "certificate verify failed" in failure.detail


@pytest.mark.servers
async def test_a_late_answer_over_tls_closes_the_connection_at_once(control_plane: ControlPlane) -> None:
    """No waiting for the farewell of a server that hangs: it would hold a socket for half a minute a call."""
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(control_plane.ca_file, control_plane.ca_file.with_suffix(".key"))
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        raw = socket.socket(fileno=os.dup(plain.fileno()))  # beneath the TLS, which answers farewells by itself
        with trust.wrap_socket(plain, server_side=True) as connection, raw:
            request = b""
            while not request.endswith(b'{"a":1}'):
                request += connection.recv(65536)
            raw.settimeout(10)
            try:
                while raw.recv(65536):
                    pass
            except ConnectionError:
                pass
            ended.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    server = {"server": f"https://127.0.0.1:{listener.getsockname()[1]}"}
    config = json.loads(control_plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"] |= server
    kubeconfig = control_plane.kubeconfig.with_name("hanging.json")
    kubeconfig.write_text(json.dumps(config))
    async with KubernetesCluster("lab", kubeconfig=kubeconfig) as cluster:
        with pytest.raises(TransientError, match="did not answer"):
            await patch(cluster, timedelta(seconds=1))
        assert await asyncio.to_thread(ended.wait, 5)
    await asyncio.to_thread(thread.join, 10)
    listener.close()


async def test_a_server_that_compresses_all_the_same_is_understood(scripted: Scripted) -> None:
    """Some proxies do not care about what was asked for; what cannot be unpacked is no answer."""
    packed = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    scripted.script = [head % len(packed) + packed, head % 4 + b"junk", head % len(packed) + packed]
    async with HttpEdge(scripted.url, system="X") as edge:
        answer = await edge.try_send("GET", "a", timeout=LIMIT)
        assert isinstance(answer, HttpReply)
        assert answer.json() == {"a": 1}
        assert await kind_of(edge) is FailureKind.UNREADABLE
    async with HttpEdge(scripted.url, system="X", max_body_bytes=4) as edge:
        assert await kind_of(edge) is FailureKind.TOO_LARGE


async def test_what_goes_out_is_what_was_asked_for_and_no_more(scripted: Scripted) -> None:
    """Host, agent, credentials of the address, length; no cookie, nothing from the environment."""
    async with HttpEdge(
        scripted.url.replace("//", "//me:p%40ss@") + "/pre%20fix", system="X", headers={"X-Scope-OrgID": "a"}
    ) as edge:
        await edge.try_send("POST", "/a", form={"query": 'up{a="é"} + 1', "t": "1.5"}, timeout=LIMIT)
        await edge.try_send("GET", "a", timeout=LIMIT)
    post, get = (request.decode() for request in scripted.heard)
    lines = post.split("\r\n")
    assert lines[0] == "POST /pre%20fix/a HTTP/1.1"
    assert lines[-1] == "query=up%7Ba%3D%22%C3%A9%22%7D+%2B+1&t=1.5"
    assert {line.lower() for line in lines[1:-2]} == {
        f"host: 127.0.0.1:{scripted.port}",
        "accept: */*",
        "accept-encoding: identity",
        "authorization: basic bwu6cebzcw==",
        "content-length: 42",
        "content-type: application/x-www-form-urlencoded",
        "user-agent: firebreak/0.1",
        "x-scope-orgid: a",
    }
    assert "content-type" not in get.lower()


async def test_an_idle_connection_is_closed_by_us(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the server does it, which could cross a request on its way."""
    monkeypatch.setattr(wire, "IDLE_SECONDS", 0.1)
    async with HttpEdge(scripted.url, system="X") as edge:
        assert await kind_of(edge) is None
        await asyncio.wait_for(scripted.emptied.wait(), 5)
        assert await kind_of(edge) is None
    assert scripted.opened == 2


async def test_closing_leaves_nothing_behind(scripted: Scripted) -> None:
    """No connection, no socket, no warning of one: kept, broken off, or never opened."""
    scripted.script = [OK, HANG, OK]
    edge = HttpEdge(scripted.url, system="X")
    await kind_of(edge)
    await kind_of(edge, timeout=SHORT)
    await kind_of(edge)
    await edge.aclose()
    await asyncio.wait_for(scripted.emptied.wait(), 5)
    await HttpEdge(scripted.url, system="X").aclose()
    del edge
    gc.collect()  # an unclosed one warns here, and a warning is an error


# --- errors -----------------------------------------------------------------------------------------------------


def made(cls: Any) -> Exception:
    """One of the class, with what aiohttp puts into it."""
    refused = (ConnectionKey("host", 1, True, True, None, None, None), OSError(111, "refused"))
    request = aiohttp.RequestInfo(URL("http://host/tok-123"), "GET", CIMultiDictProxy(CIMultiDict(a="tok-123")))
    attempts: list[partial[Exception]] = [partial(cls, "http://host/tok-123"), partial(cls)]
    if issubclass(cls, aiohttp.ClientConnectorError):
        attempts = [partial(cls, *refused), partial(cls, "path", *refused)]
    elif issubclass(cls, aiohttp.ServerFingerprintMismatch):
        attempts = [partial(cls, b"1", b"2", "host", 1)]
    elif issubclass(cls, aiohttp.ClientResponseError):
        attempts = [partial(cls, request, (), status=400, message="strange")]
    for attempt in attempts:
        try:
            error = attempt()
            str(error)
        except (TypeError, AttributeError):
            continue
        return error
    raise AssertionError(f"cannot make a {cls}")


def aiohttp_errors() -> Sequence[type[Exception]]:
    found = [cls for cls in vars(aiohttp).values() if inspect.isclass(cls) and issubclass(cls, aiohttp.ClientError)]
    assert len(found) >= 20, "the enumeration itself broke"
    return found


@pytest.mark.parametrize("cls", aiohttp_errors(), ids=lambda cls: cls.__name__)
def test_every_error_of_aiohttp_is_known_and_quotes_nothing(cls: type[Exception]) -> None:
    """Only what came before the first byte is called unreachable; the request's URL and headers are never told."""
    error = made(cls)
    assert isinstance(error, HTTP_ERRORS.errors)
    failure = HTTP_ERRORS.failure(error, "X")
    assert isinstance(failure.error(), FirebreakError)
    assert "tok-123" not in failure.detail
    before = issubclass(cls, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    assert (failure.kind is FailureKind.UNREACHABLE) == before


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ServerDisconnectedError(), FailureKind.CUT),
        (aiohttp.ClientOSError(104, "reset"), FailureKind.CUT),
        (aiohttp.ClientConnectionResetError("x"), FailureKind.CUT),
        (aiohttp.ClientPayloadError("x"), FailureKind.CUT),
        (aiohttp.ClientConnectionError("x"), FailureKind.CUT),
        (aiohttp.SocketTimeoutError("x"), FailureKind.LATE),
        (aiohttp.ServerTimeoutError("x"), FailureKind.LATE),
        (TimeoutError(), FailureKind.LATE),
        (aiohttp.ConnectionTimeoutError("x"), FailureKind.UNREACHABLE),
        (aiohttp.InvalidURL("http://me:pass@host"), FailureKind.UNUSABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_have_been_sent_is_told_apart(error: Exception, kind: FailureKind) -> None:
    """After CUT and LATE the world is read before anything is sent again."""
    assert HTTP_ERRORS.failure(error, "X").kind is kind


# --- the API server ---------------------------------------------------------------------------------------------


POD = TargetRef(cluster="lab", namespace="shop", kind=ResourceKind.POD, name="x")
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"


def cluster_of(scripted: Scripted, tmp_path: Path, *, before_host: str = "", **user: str) -> KubernetesCluster:
    server = scripted.url.replace("//", f"//{before_host}")
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    return KubernetesCluster("lab", kubeconfig=tmp_path / "config")


async def patch(cluster: KubernetesCluster, timeout: timedelta = LIMIT) -> None:
    await cluster.patch(POD, {"a": 1}, timeout=timeout)


@pytest.mark.parametrize("end", [CLOSE, RESET, HANG])
async def test_a_patch_that_was_read_and_not_answered_goes_out_once(
    scripted: Scripted, tmp_path: Path, end: bytes
) -> None:
    """TransientError: it may have been written. On a kept connection, where a client is most tempted to repeat."""
    scripted.script = [OK, end, OK]
    async with cluster_of(scripted, tmp_path, token="t") as cluster:
        await patch(cluster)
        with pytest.raises(TransientError, match=r"broke the connection|did not answer"):
            await patch(cluster, SHORT)
    assert scripted.methods == ["PATCH", "PATCH"]


async def test_a_patch_refused_with_401_goes_out_again_with_the_new_token(scripted: Scripted, tmp_path: Path) -> None:
    """A 401 has changed nothing; a second one ends it."""
    (tmp_path / "token").write_text("old")
    scripted.script = [OK, REFUSED, OK, REFUSED, REFUSED, OK]
    async with cluster_of(scripted, tmp_path, tokenFile=str(tmp_path / "token")) as cluster:
        await patch(cluster)
        (tmp_path / "token").write_text("new")
        await patch(cluster)
        with pytest.raises(PermissionDenied):
            await patch(cluster)
    tokens = [next(line for line in r.split(b"\r\n") if line.lower().startswith(b"auth"))[-3:] for r in scripted.heard]
    assert tokens == [b"old", b"old", b"new", b"new", b"new"]
    assert scripted.opened == 1


@pytest.mark.parametrize("token", ["tok\r\nX-Evil: 1", "tök", "tok\x00"])
async def test_a_token_that_is_no_header_is_not_sent_and_not_told(
    scripted: Scripted, tmp_path: Path, token: str
) -> None:
    """A file that holds something else than a token."""
    (tmp_path / "token").write_text(token)
    async with cluster_of(scripted, tmp_path, tokenFile=str(tmp_path / "token")) as cluster:
        with pytest.raises(PermanentError) as caught:
            await patch(cluster)
    assert not scripted.heard
    assert token not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_password_of_the_kubeconfig_is_sent(scripted: Scripted, tmp_path: Path) -> None:
    """Basic authentication, from the user or from the server's address."""
    async with cluster_of(scripted, tmp_path, username="me", password="p") as cluster:
        await patch(cluster)
    async with cluster_of(scripted, tmp_path, before_host="me:p@") as cluster:
        await patch(cluster)
    async with cluster_of(scripted, tmp_path, before_host="me:p@", token="t") as cluster:
        await patch(cluster)
    sent = [line[15:] for r in scripted.heard for line in r.split(b"\r\n") if line.lower().startswith(b"auth")]
    assert sent == [b"Basic bWU6cA==", b"Basic bWU6cA==", b"Bearer t"]


def plugin_of(tmp_path: Path, before: str = "") -> Any:
    """A kubeconfig's `exec`: prints t1, t2, ... after it has carried out the shell line `before`."""
    script = tmp_path / "plugin"
    script.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/asked\n{before}\n"
        f'echo "{{\\"status\\": {{\\"token\\": \\"t$(wc -l < {tmp_path}/asked)\\"}}}}"\n'
    )
    script.chmod(0o700)
    return {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(script)}


def times_asked(tmp_path: Path) -> int:
    return (tmp_path / "asked").read_text().count("x")


async def test_an_exec_plugin_is_asked_once_and_again_after_a_401(scripted: Scripted, tmp_path: Path) -> None:
    """Its token serves until the server refuses it."""
    scripted.script = [OK, OK, REFUSED, OK]
    async with cluster_of(scripted, tmp_path, exec=plugin_of(tmp_path)) as cluster:
        for _ in range(3):
            await patch(cluster)
    assert times_asked(tmp_path) == 2
    assert scripted.methods == ["PATCH"] * 4


async def test_a_plugin_that_is_slower_than_a_call_serves_the_next_one(scripted: Scripted, tmp_path: Path) -> None:
    """Calls of a tenth of a second wait for the one run; what it prints at last is theirs."""
    waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    async with cluster_of(scripted, tmp_path, exec=plugin_of(tmp_path, waits)) as cluster:
        for _ in range(3):
            with pytest.raises(TransientError, match="did not answer within"):
                await patch(cluster, timedelta(milliseconds=100))
        (tmp_path / "go").touch()
        await asyncio.gather(*(patch(cluster) for _ in range(3)))
    assert times_asked(tmp_path) == 1
    assert scripted.methods == ["PATCH"] * 3


async def test_a_token_beside_an_exec_plugin_goes_before_it(scripted: Scripted, tmp_path: Path) -> None:
    """As for kubectl: who wrote both in has the identity of the token."""
    async with cluster_of(scripted, tmp_path, exec=plugin_of(tmp_path), token="own") as cluster:
        await patch(cluster)
    assert b"Bearer own" in scripted.heard[0]
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("how", ["sleep 600", "sleep 600 & exit 0"])
async def test_a_plugin_that_hangs_leaves_nothing_behind(tmp_path: Path, how: str) -> None:
    """Ended with what it has started, also where that alone goes on: at its own limit, or when the connector closes.
    The next call asks anew."""
    hangs = UserExec(**plugin_of(tmp_path, f"echo $$ >> {tmp_path}/pids; {how}"))
    card = httpx2.Request("GET", "http://x")
    with pytest.raises(TimeoutError):
        await anext(PluginAuth(hangs, longest=timedelta(seconds=2)).async_auth_flow(card))
    auth = PluginAuth(hangs)
    waits = asyncio.ensure_future(anext(auth.async_auth_flow(card)))
    async with asyncio.timeout(20):
        while _lines(tmp_path / "pids") < 2:  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.01)
    waits.cancel()
    await auth.aclose()
    for pid in (tmp_path / "pids").read_text().split():
        async with asyncio.timeout(10):
            while _group_lives(int(pid)):  # noqa: ASYNC110  # the kernel's own time
                await asyncio.sleep(0.01)
    assert times_asked(tmp_path) == 2


async def test_a_plugin_whose_start_is_given_up_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may run by then, though nobody has been told so."""
    started, told = asyncio.get_running_loop().create_future(), asyncio.Event()
    real = asyncio.create_subprocess_exec

    async def slow(*args: Any, **kwargs: Any) -> Any:
        process = await real(*args, **kwargs)
        started.set_result(process)
        await told.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    auth = PluginAuth(UserExec(**plugin_of(tmp_path, "sleep 600")))
    waits = asyncio.ensure_future(anext(auth.async_auth_flow(httpx2.Request("GET", "http://x"))))
    process = await started
    waits.cancel()
    closing = asyncio.ensure_future(auth.aclose())
    await asyncio.sleep(0)
    told.set()
    await closing
    async with asyncio.timeout(10):
        assert await process.wait() == -signal.SIGKILL


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def _group_lives(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("printed", ["", "x", "[]", "{}", '{\\"status\\": null}', '{\\"status\\": {\\"token\\": 1}}'])
async def test_a_plugin_that_prints_no_token_is_an_error_for_good(
    scripted: Scripted, tmp_path: Path, printed: str
) -> None:
    """Nothing is sent, and the advice names the kubeconfig."""
    plugin = plugin_of(tmp_path, f'echo "{printed}"; exit 0')
    async with cluster_of(scripted, tmp_path, exec=plugin) as cluster:
        with pytest.raises(PermanentError, match="ConfigError") as caught:
            await patch(cluster)
    assert "exec plugin" in caught.value.next_step()
    assert not scripted.heard
