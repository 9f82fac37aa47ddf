"""The gateway as a process on a real port: what was answered with 200 survives kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from firebreak.domain.alert import IntakeClass
from firebreak.domain.errors import SettingsInvalid
from firebreak.gateway.poke import Poke
from firebreak.gateway.serve import serve
from firebreak.gateway.token import is_bearer, webhook_token
from firebreak.processes import dispatch_socket, say_ready
from firebreak.settings import Settings
from firebreak.storage.sqlite_store import INBOX_FILE, InboxStore

LIMIT = 30.0
PATH = "/v1/alerts/alertmanager"

_SERVE = """
import asyncio, sys
from pathlib import Path
from firebreak.gateway.serve import serve
from firebreak.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]), gateway_port=int(sys.argv[2]), webhook_token="t")
asyncio.run(serve(settings, asyncio.Event(), lambda port: print(port, flush=True)))
"""


@asynccontextmanager
async def _process(data_dir: Path, port: int = 0) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVE, str(data_dir), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, int(await asyncio.wait_for(process.stdout.readline(), LIMIT))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _client(port: int, token: str = "t") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=LIMIT, trust_env=False)


@asynccontextmanager
async def _in_process(settings: Settings, *, alone: bool = False) -> AsyncIterator[int]:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, stop, port.set_result, alone=alone))
    try:
        yield await asyncio.wait_for(port, LIMIT)
    finally:
        stop.set()
        await asyncio.wait_for(serving, LIMIT)


@pytest.mark.faults
async def test_what_was_answered_with_200_survives_kill_9(tmp_path: Path, body: dict[str, Any]) -> None:
    """Killed while many senders post: each alert whose sender heard 200 is in the inbox, and a new start goes on."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    answered: list[str] = []
    enough = asyncio.Event()
    template = body["alerts"][0]

    async def send(client: httpx.AsyncClient, sender: int) -> None:
        for n in range(10_000):
            fingerprint = f"{sender:04x}{n:012x}"
            try:
                answer = await client.post(PATH, json=body | {"alerts": [template | {"fingerprint": fingerprint}]})
            except httpx.TransportError:
                return
            assert answer.status_code == 200
            answered.append(fingerprint)
            if len(answered) >= 20:
                enough.set()

    async with _process(tmp_path) as (process, port), _client(port) as client:
        senders = [asyncio.create_task(send(client, n)) for n in range(8)]
        await asyncio.wait_for(enough.wait(), LIMIT)
        await asyncio.sleep(random.Random(seed).uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.gather(*senders)
    async with await InboxStore.open(tmp_path / INBOX_FILE) as inbox:
        kept = {accepted.alert.fingerprint for accepted in await inbox.claim(IntakeClass.P1_CANDIDATE, limit=100_000)}
    assert set(answered) <= kept, seed
    async with _process(tmp_path, port) as (_, again), _client(again) as client:
        assert (await client.post(PATH, json=body)).json()["receipts"][0] > len(answered)


async def test_a_stop_is_clean_and_the_port_is_free_again(tmp_path: Path, body: dict[str, Any]) -> None:
    """The stop event ends it; what was accepted is kept; the same port can be had at once."""
    settings = Settings(data_dir=tmp_path, gateway_port=0)
    async with _in_process(settings) as port, _client(port, webhook_token("", tmp_path)) as client:
        assert (await client.post(PATH, json=body)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
    async with _in_process(Settings(data_dir=tmp_path, gateway_port=port)) as again:
        assert again == port
    async with await InboxStore.open(tmp_path / INBOX_FILE) as inbox:
        assert await inbox.backlog() == 1


async def test_a_sender_of_too_much_hears_413(tmp_path: Path) -> None:
    """Over a real connection: the answer arrives although the body was not kept, chunked or announced."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    settings = Settings(data_dir=tmp_path, gateway_port=0, max_body_bytes=1_000_000)
    async with _in_process(settings) as port, _client(port, webhook_token("", tmp_path)) as client:
        assert (await client.post(PATH, content=b"x" * 3_000_000)).status_code == 413
        assert (await client.post(PATH, content=chunks())).status_code == 413
        assert (await client.get("/healthz")).status_code == 200


async def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    """A request that never comes to its body is cut off by size."""
    async with _in_process(Settings(data_dir=tmp_path, gateway_port=0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/alerts/alertmanager HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000)
        answer = await asyncio.wait_for(reader.readline(), LIMIT)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        writer.close()


@asynccontextmanager
async def _crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, list[Any]]]:
    """A gateway for few connections. What is in the list is closed at the end."""
    monkeypatch.setattr("firebreak.gateway.serve.MAX_CONNECTIONS", 20)
    monkeypatch.setattr("firebreak.gateway.connections.ROOM", 10)
    opened: list[Any] = []
    settings = Settings(data_dir=tmp_path, gateway_port=0, webhook_token=SecretStr("t"))
    async with _in_process(settings) as port:
        try:
            yield port, opened
        finally:
            for _, writer in opened:
                writer.close()


async def _say(port: int, text: bytes) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    await writer.drain()
    return reader, writer


async def test_who_opens_many_connections_and_says_nothing_keeps_no_alert_out(
    tmp_path: Path, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many more than there is room for, each with half a head: the oldest is closed for each new one."""
    async with _crowded(tmp_path, monkeypatch) as (port, opened):
        for _ in range(60):
            opened.append(await _say(port, b"POST /v1/alerts/alertmanager HTTP/1.1\r\nHo"))
        async with _client(port) as client:
            assert (await client.post(PATH, json=body)).status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(opened[0][0].read(), LIMIT) == b""


async def test_a_request_that_is_under_way_makes_room_for_nobody(
    tmp_path: Path, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of its body comes after many others have connected, and it is answered."""
    sent = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Length: {len(sent)}\r\n\r\n"
    async with _crowded(tmp_path, monkeypatch) as (port, opened):
        reader, writer = await _say(port, head.encode() + sent[:10])
        for _ in range(60):
            opened.append(await _say(port, b"G"))
        writer.write(sent[10:])
        assert (await asyncio.wait_for(reader.readline(), LIMIT)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_port_that_is_taken_is_explained(tmp_path: Path) -> None:
    """The setting is named, and what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            await serve(Settings(data_dir=tmp_path, gateway_port=port), asyncio.Event(), print)
    assert "FIREBREAK_GATEWAY_PORT" in caught.value.next_step()
    with pytest.raises(SettingsInvalid, match="FIREBREAK_GATEWAY_HOST"):
        await serve(Settings(data_dir=tmp_path, gateway_host="no.such.host.invalid"), asyncio.Event(), print)


@pytest.mark.parametrize("host", [".example", "x" * 64 + ".example"])
async def test_what_can_be_no_host_is_explained(tmp_path: Path, host: str) -> None:
    """The resolver is not even asked: Python refuses it as text."""
    with pytest.raises(SettingsInvalid, match="FIREBREAK_GATEWAY_HOST"):
        await serve(Settings(data_dir=tmp_path, gateway_host=host), asyncio.Event(), print)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:8690/"), ("::1", "http://[::1]:8690/")])
def test_the_webhooks_url_can_be_copied(host: str, url: str) -> None:
    """An IPv6 address stands in brackets, or its last part is read as the port."""
    assert Settings(gateway_host=host).webhook_url(8690) == f"{url}v1/alerts/alertmanager"


@pytest.mark.parametrize("token", ["voilà", "Ångström Å", "tök en"])
def test_a_token_may_end_in_any_letter(token: str) -> None:
    """The last byte of some, read as Latin-1, is a blank to Python: the sender would hear 401 for ever."""
    assert is_bearer(f"Bearer {token}".encode().decode("latin-1"), token)


@pytest.mark.parametrize("copied_back", [True, False])
async def test_a_gateway_alone_takes_nothing_into_a_file_that_nobody_will_open(
    tmp_path: Path, body: dict[str, Any], copied_back: bool
) -> None:
    """Its directory is moved away, with a copy in its place or without: an engine that starts now opens that, so that
    an alert in the former file would never end."""
    settings = Settings(data_dir=tmp_path / "data", gateway_port=0, webhook_token=SecretStr("t"))
    async with _in_process(settings, alone=True) as port, _client(port) as client:
        assert (await client.post(PATH, json=body)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        (tmp_path / "data").rename(tmp_path / "former")
        if copied_back:
            shutil.copytree(tmp_path / "former", tmp_path / "data")
        answer = await client.post(PATH, json=body)
        assert answer.status_code == 503
        assert "another file stands" in answer.json()["error"]
        assert "start them" in answer.json()["next_step"]
        assert (await client.get("/readyz")).status_code == 503


async def test_a_gateway_of_an_engine_goes_on_with_the_file_that_the_engine_has(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    """The engine handles what is in there, and pages about the file."""
    settings = Settings(data_dir=tmp_path / "data", gateway_port=0, webhook_token=SecretStr("t"))
    async with _in_process(settings) as port, _client(port) as client:
        (tmp_path / "data").rename(tmp_path / "former")
        assert (await client.post(PATH, json=body)).status_code == 200


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, long enough, the same at every start; a configured one wins and is not written."""
    made = webhook_token("", tmp_path / "data")
    path = tmp_path / "data" / "webhook-token"
    assert len(made) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert webhook_token("", tmp_path / "data") == made
    assert webhook_token("mine", tmp_path / "data") == "mine"
    assert [file.name for file in path.parent.iterdir()] == ["webhook-token"]
    assert webhook_token("mine", tmp_path / "other") == "mine"
    assert not (tmp_path / "other").exists()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("token", ["", "mine"])
async def test_a_gateway_that_starts_first_makes_the_directory_for_its_owner_alone(tmp_path: Path, token: str) -> None:
    """The engine that comes later keeps it as it is; the alerts in there are not for everybody."""
    folder = tmp_path / "data"
    settings = Settings(data_dir=folder, gateway_port=0, webhook_token=SecretStr(token))
    async with _in_process(settings):
        assert _mode(folder) == 0o700


async def test_a_directory_that_is_there_keeps_its_mode_and_gets_private_files(tmp_path: Path) -> None:
    """It may be shared on purpose; what we put into it is not for everybody all the same."""
    os.chmod(tmp_path, 0o755)
    async with _in_process(Settings(data_dir=tmp_path, gateway_port=0)):
        say_ready(tmp_path, "gateway")
        made = {name: _mode(tmp_path / name) & 0o077 for name in os.listdir(tmp_path)}
    assert {"webhook-token", "inbox.sqlite", "inbox.sqlite-wal", "run"} <= made.keys()
    assert set(made.values()) == {0}, made
    assert _mode(tmp_path) == 0o755


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Also where the token is a setting, so that nothing would have to be written for it."""
    os.mknod(tmp_path / "file")
    settings = Settings(data_dir=tmp_path / "file" / "data", gateway_port=0, webhook_token=SecretStr("mine"))
    with pytest.raises(SettingsInvalid, match=r"data directory .* cannot be used"):
        await serve(settings, asyncio.Event(), print)


def test_an_empty_token_file_is_an_error(tmp_path: Path) -> None:
    """An empty token would let everybody in."""
    (tmp_path / "webhook-token").write_text("\n")
    with pytest.raises(SettingsInvalid, match="is empty"):
        webhook_token("", tmp_path)


def test_a_token_file_of_several_lines_is_an_error(tmp_path: Path) -> None:
    """No header can carry such a token: each webhook would get 401, and Alertmanager would drop its alerts."""
    (tmp_path / "webhook-token").write_text("token\nand what was pasted below it\n")
    with pytest.raises(SettingsInvalid, match="more than one line") as caught:
        webhook_token("", tmp_path)
    assert "pasted" not in str(caught.value)


def test_a_poke_reaches_the_dispatchers_and_never_fails(tmp_path: Path) -> None:
    """One byte for each class that listens; nobody listening, a full queue and a bad path are all the same to it."""
    with closing(Poke(tmp_path)) as poke, closing(Poke(tmp_path / ("x" * 200))) as hopeless:
        poke([IntakeClass.P1_CANDIDATE])
        hopeless(IntakeClass)
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as dispatcher:
            dispatcher.bind(str(dispatch_socket(tmp_path, IntakeClass.P1_CANDIDATE)))
            dispatcher.settimeout(LIMIT)
            poke([IntakeClass.OTHER])
            poke([IntakeClass.P1_CANDIDATE])
            assert dispatcher.recv(10) == b"."
            dispatcher.setblocking(False)
            with pytest.raises(BlockingIOError):  # another class' alert wakes nobody here
                dispatcher.recv(10)
            for _ in range(1000):
                poke(IntakeClass)
        poke(IntakeClass)
    assert dispatch_socket(tmp_path, IntakeClass.OTHER).name == "dispatch-other.sock"
