"""The gateway as a process of its own: `python -m firebreak.gateway`. Settings come by the environment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from firebreak.domain.errors import FirebreakError
from firebreak.gateway.serve import serve
from firebreak.logs import configure_logs
from firebreak.processes import beating, say_ready
from firebreak.settings import Settings, load_settings


async def run(settings: Settings, announce: Callable[[int], None] = lambda port: None, *, alone: bool = False) -> None:
    """Until SIGTERM or Ctrl-C. `announce` hears the port once requests are answered. `alone`: as `firebreak gateway`,
    not as a part of `firebreak up`."""
    role = "gateway-alone" if alone else "gateway"  # beside one of `firebreak up`, it must not beat in that one's place
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready(port: int) -> None:
        say_ready(settings.data_dir, role, port)
        announce(port)

    async with beating(settings.data_dir, role):
        await serve(settings, stop, ready, alone=alone)


def main() -> None:
    """Exits 1 with a sentence when it cannot start."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level)
        asyncio.run(run(settings))
    except FirebreakError as error:
        raise SystemExit(f"{error}\n{error.next_step()}") from None


if __name__ == "__main__":
    main()
