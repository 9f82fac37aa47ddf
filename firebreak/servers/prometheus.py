"""Prometheus from a configuration text."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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
class PrometheusServer:
    """A running Prometheus: base `url`, the file with its configuration, its handle."""

    url: str
    config_file: Path
    process: ManagedProcess

    async def ready(self, limit: timedelta = _READY) -> None:
        """Wait until it answers queries (also after `process.start_again()`). Raises ServerUnavailable."""
        await self.process.ready(lambda: local_http.is_ok(f"{self.url}/-/ready"), limit=limit)

    async def reload(self, config: str, files: Mapping[str, str] | None = None) -> None:
        """Replace the configuration while it runs. Raises ContractError when refused (the old one stays in use)."""
        _write(self.config_file, config, files or {})
        answer = await local_http.call("POST", f"{self.url}/-/reload", body=b"", seconds=30.0)
        if answer.status != 200:
            raise ContractError(f"Prometheus refused its configuration: {answer.body.decode(errors='replace').strip()}")

    async def stop(self, grace: timedelta = GRACE) -> None:
        """Stop it; its data stays in the run directory."""
        await self.process.stop(grace)


def _write(config_file: Path, config: str, files: Mapping[str, str]) -> None:
    config_file.parent.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (config_file.parent / name).write_text(text)
    config_file.write_text(config)


async def start_prometheus(
    *,
    config: str,
    port: int,
    run_dir: Path,
    files: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    die_with_parent: bool = False,
) -> PrometheusServer:
    """Start Prometheus on 127.0.0.1:port with `config` (YAML text) and wait until it is ready.

    `files` are written beside the configuration by name, e.g. the rules that `rule_files` names; `flags` are added to
    the command line, e.g. `--web.enable-remote-write-receiver`. Raises ServerUnavailable with the tail of its log.
    """
    binary = await asyncio.to_thread(require, "prometheus")
    config_file = absolute(run_dir) / "prometheus" / "prometheus.yml"
    _write(config_file, config, files or {})
    command = (
        str(binary),
        f"--config.file={config_file}",
        f"--storage.tsdb.path={config_file.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        "--log.level=warn",
        *flags,
    )
    process = await ManagedProcess.start(Launch("prometheus", command, die_with_parent=die_with_parent), run_dir)
    server = PrometheusServer(f"http://127.0.0.1:{port}", config_file, process)
    try:
        await server.ready()
    except BaseException:
        await process.stop()
        raise
    return server
