"""A Temporal behind TLS: somebody's own cluster, or Temporal Cloud. In front of the real server stands a TLS end of
ours."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from firebreak.engine.temporal import connect
from firebreak.settings import Settings

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """The authority's certificate, and a client's certificate and key."""
    client = authority.issue_cert("firebreak@example.org")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(str(paths["ca"]))
    client.cert_chain_pems[0].write_to_path(str(paths["cert"]))
    client.private_key_pem.write_to_path(str(paths["key"]))
    return paths


@asynccontextmanager
async def behind_tls(authority: trustme.CA, temporal: str, *, ask_client: bool = False) -> AsyncIterator[str]:
    """The address of a TLS end that passes on to `temporal`; with `ask_client` only who has a certificate comes in."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    if ask_client:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    host, port = temporal.rsplit(":", 1)
    ends: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):  # who goes away ends it
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        for one in (pass_on(reader, back), pass_on(there, writer)):
            task = asyncio.create_task(one)
            ends.add(task)
            task.add_done_callback(ends.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(ends):
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def test_a_server_with_a_certificate_of_its_own_is_reached_by_its_ca(
    authority: trustme.CA, files: dict[str, Path], temporal_address: str
) -> None:
    """FIREBREAK_TEMPORAL_TLS_CA."""
    async with behind_tls(authority, temporal_address) as address:
        client = await connect(Settings(temporal_address=address, temporal_tls_ca=files["ca"]))
        assert await client.service_client.check_health()


@pytest.mark.parametrize("tls", [False, True], ids=["no TLS", "an unknown CA"])
async def test_a_server_that_cannot_be_trusted_is_not_spoken_to(
    authority: trustme.CA, temporal_address: str, tls: bool
) -> None:
    """At the start, with an error."""
    async with behind_tls(authority, temporal_address) as address:
        with pytest.raises(RuntimeError):
            await connect(Settings(temporal_address=address, temporal_tls=tls))


async def test_a_server_that_asks_for_a_certificate_gets_ours(
    authority: trustme.CA, files: dict[str, Path], temporal_address: str
) -> None:
    """FIREBREAK_TEMPORAL_TLS_CERT and _KEY; without them it does not let us in."""
    ours = {"temporal_tls_cert": files["cert"], "temporal_tls_key": files["key"]}
    async with behind_tls(authority, temporal_address, ask_client=True) as address:
        settings = Settings(temporal_address=address, temporal_tls_ca=files["ca"])
        assert await (await connect(settings.model_copy(update=ours))).service_client.check_health()
        with pytest.raises(RuntimeError):
            await connect(settings)


async def test_an_api_key_goes_with_every_call_and_never_without_tls(
    authority: trustme.CA, files: dict[str, Path], temporal_address: str
) -> None:
    """FIREBREAK_TEMPORAL_API_KEY implies TLS: in the clear it would be anybody's."""
    key = SecretStr("a-key")
    async with behind_tls(authority, temporal_address) as address:
        client = await connect(Settings(temporal_address=address, temporal_tls_ca=files["ca"], temporal_api_key=key))
        assert client.service_client.config.api_key == "a-key"
        assert await client.service_client.check_health()
    with pytest.raises(RuntimeError):
        await connect(Settings(temporal_address=temporal_address, temporal_api_key=key))  # a server without TLS
