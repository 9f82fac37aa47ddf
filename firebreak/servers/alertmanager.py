"""Alertmanager from a configuration text, alone: no cluster."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from firebreak.domain.errors import ContractError
from firebreak.servers import local_http
from firebreak.servers.find import require
from firebreak.servers.process import Launch, ManagedProcess, absolute
from firebreak.servers.registry import GRACE

_READY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class AlertmanagerServer:
    """A running Alertmanager: base `url`, the file with its configuration, its handle."""

    url: str
    config_file: Path
    process: ManagedProcess

    async def ready(self, limit: timedelta = _READY) -> None:
        """Wait until it takes alerts (also after `process.start_again()`). Raises ServerUnavailable."""
        await self.process.ready(lambda: local_http.is_ok(f"{self.url}/-/ready"), limit=limit)

    async def reload(self, config: str) -> None:
        """Replace the configuration while it runs. Raises ContractError when refused (the old one stays in use)."""
        self.config_file.write_text(config)
        answer = await local_http.call("POST", f"{self.url}/-/reload", body=b"", seconds=30.0)
        if answer.status != 200:
            raise ContractError(
                f"Alertmanager refused its configuration: {answer.body.decode(errors='replace').strip()}"
            )

    async def stop(self, grace: timedelta = GRACE) -> None:
        """Stop it; silences and its notification log stay in the run directory."""
        await self.process.stop(grace)


async def start_alertmanager(
    *, config: str, port: int, run_dir: Path, flags: tuple[str, ...] = (), die_with_parent: bool = False
) -> AlertmanagerServer:
    """Start Alertmanager on 127.0.0.1:port with `config` (YAML text) and wait until it is ready.

    Raises ServerUnavailable with the tail of its log.
    """
    binary = await asyncio.to_thread(require, "alertmanager")
    config_file = absolute(run_dir) / "alertmanager" / "alertmanager.yml"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(config)
    command = (
        str(binary),
        f"--config.file={config_file}",
        f"--storage.path={config_file.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # gossip would open a port on every address
        "--log.level=warn",
        *flags,
    )
    process = await ManagedProcess.start(Launch("alertmanager", command, die_with_parent=die_with_parent), run_dir)
    server = AlertmanagerServer(f"http://127.0.0.1:{port}", config_file, process)
    try:
        await server.ready()
    except BaseException:
        await process.stop()
        raise
    return server
